"""`cogbuild --version` and `cogbuild --help`, above what Python takes to start.

python benchmarks/startup.py
"""

from __future__ import annotations

from pathlib import Path

from _bench import COGBUILD, PYTHON, above, in_turn, options, run, show


def main() -> None:
    """Measure."""
    asked = options(__doc__, runs=15).parse_args()
    here = Path.cwd()
    seen = in_turn(
        asked.runs,
        {
            "python": lambda: run(*PYTHON, cwd=here),
            "version": lambda: run(*COGBUILD, "--version", cwd=here),
            "help": lambda: run(*COGBUILD, "--help", cwd=here),
        },
    )
    rows = [
        above("`cogbuild --version`", seen["version"], seen["python"], 0.040),
        above("`cogbuild --help`", seen["help"], seen["python"], 0.060),
    ]
    show(rows, asked)


if __name__ == "__main__":
    main()
