"""Nothing to do over a million recorded pairs against a thousand, and what the data directory takes a pair.

python benchmarks/million.py [--models 100000]
"""

from __future__ import annotations

import os
from pathlib import Path

from _bench import COGBUILD, Row, against, in_turn, limit, options, place, run, show
from make_store import make

ADAPTERS, FILES = 10, 5


def volume(directory: Path, *, without: tuple[str, ...] = ()) -> tuple[int, int]:
    """Return (bytes on disk, bytes in files) below *directory*; a file of several names counts once."""
    seen: set[int] = set()
    on_disk = apparent = 0
    for where, directories, files in os.walk(directory):
        if Path(where) == directory:
            directories[:] = [name for name in directories if name not in without]
        for name in ("", *files):
            info = os.lstat(os.path.join(where, name))
            if info.st_ino not in seen:
                seen.add(info.st_ino)
                on_disk += info.st_blocks * 512
                apparent += info.st_size
    return on_disk, apparent


def sizes(data: Path, pairs: int) -> list[Row]:
    """Return the rows of what the data directory takes."""

    def shown(value: float) -> str:
        return f"{value:.0f} bytes a pair"

    books, _ = volume(data, without=("objects", "models"))
    whole, _ = volume(data)
    return [
        limit("the data directory a pair, but for the models' own files", books / pairs, 1000, shown),
        Row(
            "the models' own files and sealed trees",
            shown((whole - books) / pairs),
            "",
            "",
            "",
            "",
            holds=True,
        ),
    ]


def main() -> None:
    """Measure."""
    parser = options(__doc__, runs=15)
    parser.add_argument("--models", type=int, default=100_000)
    asked = parser.parse_args()
    with place(asked) as stores:
        small, large = stores / "sealed-100x10x5", stores / f"sealed-{asked.models}x10x5"
        for root, models in ((small, 100), (large, asked.models)):
            if not (root / "ready").exists():
                make(root, models, ADAPTERS, FILES)
                (root / "ready").touch()
        seen = in_turn(
            asked.runs,
            {
                "small": lambda: run(*COGBUILD, "adapt", cwd=small),
                "large": lambda: run(*COGBUILD, "adapt", cwd=large),
            },
        )
        pairs = asked.models * ADAPTERS
        work = f"nothing to do, {pairs:,} recorded pairs"
        rows = [
            against(work, seen["large"], "1,000 pairs", seen["small"], 1.5),
            limit(f"{work}: peak memory", seen["large"].memory / 1e6, 100, lambda value: f"{value:.0f} MB"),
            *sizes(large / ".cogbuild", pairs),
        ]
        show(rows, asked)


if __name__ == "__main__":
    main()
