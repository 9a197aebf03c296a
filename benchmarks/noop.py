"""Nothing to do: `cogbuild adapt` and `doit` against ninja, and against plain doit with file_dep, on the same graph.

python benchmarks/noop.py [--size MODELSxADAPTERSxFILES] [--linked] [--plain]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from _bench import COGBUILD, DOIT, Row, against, in_turn, options, place, run, show
from _peers import graph, plain_doit
from make_store import make

if TYPE_CHECKING:
    from pathlib import Path

#: What `cogbuild adapt` and `doit` may take, as parts of ninja's time.
BARS = {
    ("1000x10x20", False): (0.6, 1.0),
    ("10000x10x5", False): (0.1, 0.2),
    ("1000x10x20", True): (1.4, None),
    ("10000x10x5", True): (0.8, None),
}


def measured(stores: Path, size: str, *, linked: bool, plain: bool, runs: int) -> list[Row]:
    """Return the rows of one size."""
    models, adapters, files = map(int, size.split("x"))
    kind = "linked" if linked else "sealed"
    ours, theirs = stores / f"{kind}-{size}", stores / f"ninja-{size}"
    if not (ours / "ready").exists():
        make(ours, models, adapters, files, linked=linked)
        (ours / "ready").touch()
    graph(theirs, models, adapters, files)
    things = {
        "cogbuild adapt": lambda: run(*COGBUILD, "adapt", cwd=ours),
        "ninja": lambda: run("ninja", cwd=theirs),
        "doit": lambda: run(*DOIT, cwd=ours),
    }
    if plain:
        command = plain_doit(theirs)
        things["plain doit"] = lambda: run(*command, cwd=theirs)
    seen = in_turn(runs, things)
    adapt, doit = BARS.get((size, linked), (1.0, 1.0))
    work = f"nothing to do, {models:,} models x {adapters} adapters x {files} files, {kind}"
    rows = [against(f"{work}: `cogbuild adapt`", seen["cogbuild adapt"], "ninja", seen["ninja"], adapt)]
    if doit is not None:
        rows.append(against(f"{work}: `doit`", seen["doit"], "ninja", seen["ninja"], doit))
    if plain:
        rows.append(against(f"{work}: `doit`", seen["doit"], "plain doit", seen["plain doit"], 1 / 20))
    return rows


def main() -> None:
    """Measure one size."""
    parser = options(__doc__, runs=9)
    parser.add_argument("--size", default="1000x10x20", help="models x adapters x files; default 1000x10x20")
    parser.add_argument("--linked", action="store_true", help="live directories, every file looked at once")
    parser.add_argument("--plain", action="store_true", help="also plain doit with file_dep")
    asked = parser.parse_args()
    with place(asked) as stores:
        show(measured(stores, asked.size, linked=asked.linked, plain=asked.plain, runs=asked.runs), asked)


if __name__ == "__main__":
    main()
