"""The table "adapters x example models" of README.md, made from what a test run saw.

    COGBUILD_CELLS=DIR pytest tests/adapters -m 'slow or not slow'     # each cell that a test proves is kept in DIR
    python tests/adapters/adapters_table.py DIR                        # prints the table; exits 1 where a cell is empty
    python tests/adapters/adapters_table.py DIR README.md              # writes it between the marks in a page

Tests keep their cells with ``keep_cell``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- adapters: begin -->", "<!-- adapters: end -->"


def keep_cell(adapter: str, model: str, cell: dict[str, Any]) -> None:
    """Keep what a test saw of *adapter* on the example *model*, where the run asks for it.

    *cell* is one of ``{"fidelity": rows}``, ``{"same files": how many}`` and ``{"not applicable": why}``.
    """
    if where := os.environ.get("COGBUILD_CELLS"):
        Path(where).mkdir(parents=True, exist_ok=True)
        row = {"adapter": adapter, "model": model, **cell}
        Path(where, f"{adapter} {model}.json").write_text(json.dumps(row) + "\n")


def kept(where: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the cells that a run kept, by adapter and model."""
    rows = [json.loads(file.read_text()) for file in sorted(where.glob("*.json"))]
    return {(row["adapter"], row["model"]): row for row in rows}


def table(cells: dict[tuple[str, str], dict[str, Any]], adapters: list[str], models: list[str]) -> str:
    """Return the table in Markdown: models down, adapters across, reasons below it."""
    reasons: dict[str, int] = {}

    def text(adapter: str, model: str) -> str:
        cell = cells.get((adapter, model), {})
        if "not applicable" in cell:
            number = reasons.setdefault(cell["not applicable"], len(reasons) + 1)
            return f"n/a ({number})"
        if "same files" in cell:
            return f"proved: {cell['same files']} files, byte for byte"
        if "fidelity" in cell:
            absolute = max(row["absolute"] for row in cell["fidelity"])
            relative = max(row["relative"] for row in cell["fidelity"])
            return f"proved: {absolute:.1g}, {relative:.1g} relative" if absolute else "proved: the same"
        return "?"

    lines = ["| model | " + " | ".join(adapters) + " |", "|---" * (len(adapters) + 1) + "|"]
    lines += [f"| {model} | " + " | ".join(text(name, model) for name in adapters) + " |" for model in models]
    lines += ["", *(f"{number}. {reason}" for reason, number in reasons.items())]
    runtimes = {
        name: sorted(
            {
                row["runtime"]
                for (other, _), cell in cells.items()
                if other == name
                for row in cell.get("fidelity", [])
            }
        )
        for name in adapters
    }
    said = "; ".join(f"{name}: {', '.join(found)}" for name, found in runtimes.items() if found)
    return "\n".join(lines).rstrip() + (f"\n\nRun in: {said}.\n" if said else "\n")


def written(page: str, made: str) -> str:
    """Return *page* with *made* between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"the page has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{made}{END}{after}"


def main(argv: list[str]) -> int:
    """Print the table of the cells in a directory, or write it into a page."""
    cells = kept(Path(argv[0]))
    adapters = sorted(file.parent.name for file in (ROOT / "adapters").glob("*/cog-adapter.yaml"))
    models = sorted(file.parent.name for file in (ROOT / "examples").glob("*/cog.yaml"))
    made = table(cells, adapters, models)
    if len(argv) > 1:
        page = Path(argv[1])
        page.write_text(written(page.read_text(), made))
    else:
        sys.stdout.write(made)
    empty = [f"{name} on {model}" for name in adapters for model in models if (name, model) not in cells]
    if empty:
        sys.stderr.write(f"no test kept a cell for {', '.join(empty)}\n")
    return 1 if empty else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
