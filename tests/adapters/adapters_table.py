"""The table "adapters x example models" of README.md, made from what a test run saw.

    COGBUILD_CELLS=DIR pytest tests/adapters -m 'slow or not slow'     # each cell that a test proves is kept in DIR
    python tests/adapters/adapters_table.py DIR                        # writes cells.json, and from it the table in README.md
    python tests/adapters/adapters_table.py --check DIR                # does cells.json say what the run saw? .ci/run asks

Both exit with 1 where a cell is empty. Tests keep their cells with ``keep_cell``; a quick test sees that README.md says what
cells.json does. Numbers differ a little from one processor to the next, and versions from one day to the next: a check lets
them.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any, TypeAlias

ROOT = Path(__file__).parents[2]
PAGE, SAVED = ROOT / "README.md", Path(__file__).with_name("cells.json")
Cell: TypeAlias = "dict[str, Any]"
BEGIN, END = "<!-- adapters: begin -->", "<!-- adapters: end -->"


def keep_cell(adapter: str, model: str, cell: Cell) -> None:
    """Keep what a test saw of *adapter* on the example *model*, where the run asks for it.

    *cell* is one of ``{"fidelity": rows}``, ``{"same files": how many}`` and ``{"not applicable": why}``.
    """
    if where := os.environ.get("COGBUILD_CELLS"):
        Path(where).mkdir(parents=True, exist_ok=True)
        row = {"adapter": adapter, "model": model, **cell}
        Path(where, f"{adapter} {model}.json").write_text(json.dumps(row) + "\n")


def kept(where: Path) -> dict[tuple[str, str], Cell]:
    """Return the cells that a run kept, by adapter and model."""
    rows = [json.loads(file.read_text()) for file in sorted(where.glob("*.json"))]
    return {(row["adapter"], row["model"]): row for row in rows}


def saved() -> dict[tuple[str, str], Cell]:
    """Return the cells that README.md was written from."""
    return {(row["adapter"], row["model"]): row for row in json.loads(SAVED.read_text())}


def shipped() -> list[str]:
    """Return the names of the adapters."""
    return sorted(file.parent.name for file in (ROOT / "adapters").glob("*/cog-adapter.yaml"))


def examples() -> list[str]:
    """Return the names of the example models."""
    return sorted(file.parent.name for file in (ROOT / "examples").glob("*/cog.yaml"))


def table(cells: dict[tuple[str, str], Cell], adapters: list[str], models: list[str]) -> str:
    """Return the table in Markdown: adapters down, models across, reasons below it."""
    reasons: dict[str, int] = {}

    def text(adapter: str, model: str) -> str:
        cell = cells.get((adapter, model), {})
        if "not applicable" in cell:
            number = reasons.setdefault(cell["not applicable"], len(reasons) + 1)
            return f"n/a ({number})"
        if "same files" in cell:
            return f"proved: {cell['same files']} files"
        if "fidelity" in cell:
            absolute, relative = worst(cell)
            return f"proved: {absolute:.0e} / {relative:.0e}" if absolute else "proved: the same"
        return "?"

    lines = ["| adapter | " + " | ".join(models) + " |", "|---" * (len(models) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(text(name, model) for model in models) + " |" for name in adapters]
    lines += ["", *(f"{number}. {reason}" for reason, number in reasons.items())]
    said = "; ".join(f"{name}: {', '.join(found)}" for name in adapters if (found := runtimes(cells, name)))
    return "\n".join(lines).rstrip() + (f"\n\nRun in: {said}.\n" if said else "\n")


def worst(cell: Cell) -> tuple[float, float]:
    """Return the largest differences, absolute and relative."""
    rows = cell["fidelity"]
    return max(row["absolute"] for row in rows), max(row["relative"] for row in rows)


def runtimes(cells: dict[tuple[str, str], Cell], adapter: str) -> list[str]:
    """Return what ran the artifacts of an adapter."""
    mine = [cell for (name, _), cell in cells.items() if name == adapter]
    return sorted({row["runtime"] for cell in mine for row in cell.get("fidelity", [])})


def differences(
    before: dict[tuple[str, str], Cell], now: dict[tuple[str, str], Cell], names: list[tuple[str, str]]
) -> list[str]:
    """Return what two runs saw otherwise, but for versions and for numbers of about one size."""
    return [
        f"{adapter} on {model}: {_brief(before.get((adapter, model)))}, now {_brief(now[adapter, model])}"
        for adapter, model in names
        if (adapter, model) in now and not _alike(before.get((adapter, model), {}), now[adapter, model])
    ]


def _alike(one: Cell, other: Cell) -> bool:
    if "fidelity" in one and "fidelity" in other:
        return all(
            max(a, b) <= 1e-9 + 100 * min(a, b) or max(a, b) < 1e-5
            for a, b in zip(worst(one), worst(other), strict=True)
        )
    return _brief(one) == _brief(other)


def _brief(cell: Cell | None) -> str:
    if not cell:
        return "nothing"
    if "fidelity" in cell:
        return "proved, {:.0e} / {:.0e}".format(*worst(cell))
    return re.sub(r"\d+(\.\d+)+", "N", str(cell.get("not applicable", cell.get("same files"))))


def written(page: str, made: str) -> str:
    """Return *page* with *made* between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"the page has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{made}\n{END}{after}"


def main(argv: list[str]) -> int:
    """Write the table of the cells in a directory, or compare them with what it was written from."""
    check, (directory,) = argv[0] == "--check", argv[-1:]
    cells = kept(Path(directory))
    names = [(name, model) for name in shipped() for model in examples()]
    troubles = [
        f"no test kept a cell for {name} on {model}" for name, model in names if (name, model) not in cells
    ]
    if check:
        troubles += differences(saved(), cells, names)
    else:
        rows = [cells[name] for name in names if name in cells]
        SAVED.write_text(json.dumps(rows, indent=1) + "\n")
        PAGE.write_text(written(PAGE.read_text(), table(cells, shipped(), examples())))
    sys.stderr.write("".join(f"{trouble}\n" for trouble in troubles))
    if check and troubles:
        sys.stderr.write("write the table anew: python tests/adapters/adapters_table.py DIR\n")
    return 1 if troubles else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
