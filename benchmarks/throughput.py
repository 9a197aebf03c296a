"""A new trivial adapter over 1,000 models: `cogbuild adapt -j 2` and `doit -n 2` against `xargs -P2` on the bare script.

python benchmarks/throughput.py [--models 1000] [--jobs 2] [--large 100000]

Outcomes are durable when they are told, workspaces isolated. `--large N` also builds N pairs at once, for memory and rate;
0 leaves that out.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from _bench import COGBUILD, DOIT, Medians, Row, Took, in_turn, limit, options, place, rate, run, show
from make_store import make, write_adapter

if TYPE_CHECKING:
    from pathlib import Path

ADAPTERS, FILES = 10, 5


class New:
    """Gives a store adapters that it has never seen."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.made = len(list((root / "adapters").iterdir()))

    def adapters(self, count: int = 1) -> Path:
        """Make *count* new adapters the only ones; return the script of the last."""
        names = [f"new-{self.made + number}" for number in range(count)]
        self.made += count
        for name in names:
            write_adapter(self.root, name)
        (self.root / "cogbuild.yaml").write_text(
            json.dumps({"adapters": [f"adapters/{name}" for name in names]})
        )
        return self.root / "adapters" / names[-1] / "adapter.sh"

    def run(self, *command: str, adapters: int = 1) -> Took:
        """Build new adapters for every model and be sure that this was done."""
        self.adapters(adapters)
        took = run(*command, cwd=self.root)
        left = subprocess.run(
            [*COGBUILD, "adapt", "-n"], cwd=self.root, check=True, capture_output=True, text=True
        )
        assert left.stdout.startswith("0 ") or "fresh" in left.stdout.splitlines()[-1], left.stdout
        return took


def bare(script: Path, runs: int, jobs: int) -> Took:
    """Run the script alone *runs* times, as xargs does."""
    words = script.with_name("words")
    words.write_text("\n".join(map(str, range(runs))))
    return run("xargs", "-a", str(words), f"-P{jobs}", "-n1", str(script), cwd=script.parent)


def large(stores: Path, pairs: int, jobs: int, small: Medians, models: int) -> list[Row]:
    """Return the rows of one run over many pairs."""
    new = New(ready(stores, pairs // ADAPTERS))
    took = new.run(*COGBUILD, "adapt", f"-j{jobs}", adapters=ADAPTERS)
    work = f"{pairs:,} new pairs, `cogbuild adapt -j {jobs}`"
    return [
        rate(
            work, pairs / took.seconds, f"{models:,} pairs", models / small.seconds, 0.9, memory=took.memory
        ),
        limit(f"{work}: peak memory", took.memory / 1e6, 150, lambda value: f"{value:.0f} MB"),
    ]


def ready(stores: Path, models: int) -> Path:
    """Return a store of models for which one adapter was run."""
    root = stores / f"new-{models}x1x{FILES}"
    if not (root / "ready").exists():
        make(root, models, 1, FILES)
        (root / "ready").touch()
    return root


def main() -> None:
    """Measure."""
    parser = options(__doc__)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--large", type=int, default=100_000, help="pairs of the long run; 0: none")
    asked = parser.parse_args()
    with place(asked) as stores:
        new = New(ready(stores, asked.models))
        script = new.adapters()
        jobs = asked.jobs
        seen = in_turn(
            asked.runs,
            {
                "adapt": lambda: new.run(*COGBUILD, "adapt", f"-j{jobs}"),
                "xargs": lambda: bare(script, asked.models, jobs),
                "doit": lambda: new.run(*DOIT, f"-n{jobs}"),
            },
        )
        rows = [
            rate(
                f"a new adapter over {asked.models:,} models: {name}, pairs",
                asked.models / seen[key].seconds,
                f"`xargs -P{jobs}`",
                asked.models / seen["xargs"].seconds,
                bar,
                memory=seen[key].memory,
            )
            for name, key, bar in (
                (f"`cogbuild adapt -j {jobs}`", "adapt", 0.65),
                (f"`doit -n {jobs}`", "doit", 0.55),
            )
        ]
        show(rows, asked)
        if asked.large:
            show(large(stores, asked.large, jobs, seen["adapt"], asked.models), asked)


if __name__ == "__main__":
    main()
