"""The first page of `cogbuild status`, and `models ls`, over many models; above what Python takes to start.

python benchmarks/status.py [--models 10000]
"""

from __future__ import annotations

from pathlib import Path

from _bench import COGBUILD, PYTHON, above, in_turn, options, place, run, show
from make_store import make

ADAPTERS, FILES = 10, 5


def main() -> None:
    """Measure."""
    parser = options(__doc__)
    parser.add_argument("--models", type=int, default=10_000)
    asked = parser.parse_args()
    with place(asked) as stores:
        root = stores / f"sealed-{asked.models}x{ADAPTERS}x{FILES}"
        if not (root / "ready").exists():
            make(root, asked.models, ADAPTERS, FILES)
            (root / "ready").touch()
        seen = in_turn(
            asked.runs,
            {
                "status": lambda: run(*COGBUILD, "status", cwd=root),
                "python": lambda: run(*PYTHON, cwd=Path.cwd()),
            },
        )
        work = f"`status` at {asked.models:,} x {ADAPTERS}, first page"
        show([above(work, seen["status"], seen["python"], 0.150)], asked)


if __name__ == "__main__":
    main()
