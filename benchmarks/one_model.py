"""What concerns one model or one pair costs the same among 10 models and among 100,000.

python benchmarks/one_model.py [--models 100000]
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from functools import partial
from typing import TYPE_CHECKING

from _bench import COGBUILD, Row, Took, against, in_turn, options, place, run, show
from make_store import make, write_model

from cogbuild.database import feed, models, pairs
from cogbuild.project import Project

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

ADAPTERS, FILES = 10, 5
SAME = 1.2


def ready(stores: Path, count: int) -> Path:
    """Return a store of *count* models."""
    root = stores / f"sealed-{count}x{ADAPTERS}x{FILES}"
    if not (root / "ready").exists():
        make(root, count, ADAPTERS, FILES)
        (root / "ready").touch()
    return root


def newest(root: Path) -> str:
    """Return the ID of the newest model but one, which no run here changes."""
    with Project(root / ".cogbuild", environ={}) as project:
        return models.entries(project.con, limit=2)[1].model


def planned(root: Path, bar: int) -> Took:
    """Plan and run nothing: the time of the plan of what there is to do, which has to be *bar* pairs."""
    command = [*COGBUILD, "adapt", "--dry-run", "--json"]
    counted = json.loads(subprocess.run(command, cwd=root, check=True, capture_output=True).stdout)
    assert len(counted["results"]) == bar, counted["summary"]
    return run(*COGBUILD, "adapt", "--dry-run", cwd=root)


def add_one(root: Path) -> None:
    """Add a model that is not there yet."""
    upload = root / "new-model"
    write_model(upload, time.time_ns(), FILES)
    run(*COGBUILD, "models", "add", str(upload), "--repo", "user/new-model", cwd=root)
    shutil.rmtree(upload)


def fail_one(root: Path) -> None:
    """Leave one pair as if its first attempt had failed: no outcome, no record, on the list."""
    with Project(root / ".cogbuild", environ={}) as project:
        eid = models.entries(project.con, limit=2)[1].eid
        aid = feed.adapter_id(project.con, "target-3")
        assert aid is not None
        outcome = pairs.outcome(project.con, eid, aid)
        assert outcome is not None

        def fail(con: sqlite3.Connection) -> None:
            pairs.drop_outcome(con, eid, aid)
            feed.add_pending(con, aid, [eid], "failed: exit 1")

        project.database.write(fail)
        project.cache.remove(outcome.key)


def undone(root: Path) -> None:
    """Build what is left to do, so that the store can be used again."""
    run(*COGBUILD, "adapt", cwd=root)


def measured(small: Path, large: Path, runs: int) -> list[Row]:
    """Return the rows."""
    rows = []
    ids = {root: newest(root) for root in (small, large)}
    asked = {
        "`adapt --model ID`, nothing to do": lambda root: ("adapt", "--model", ids[root]),
        "`explain`": lambda root: ("explain", ids[root], "target-3"),
        "`models show`": lambda root: ("models", "show", ids[root]),
    }
    for work, words in asked.items():
        things = {
            "small": partial(run, *COGBUILD, *words(small), cwd=small),
            "large": partial(run, *COGBUILD, *words(large), cwd=large),
        }
        seen = in_turn(runs, things)
        rows.append(against(work, seen["large"], "among 10", seen["small"], SAME))
    for work, change, count in (("one model added", add_one, ADAPTERS), ("one failed pair", fail_one, 1)):
        for root in (small, large):
            change(root)
        things = {"small": partial(planned, small, count), "large": partial(planned, large, count)}
        seen = in_turn(runs, things)
        rows.append(against(f"{work}: the plan", seen["large"], "among 10", seen["small"], SAME))
        for root in (small, large):
            undone(root)
    return rows


def main() -> None:
    """Measure."""
    parser = options(__doc__, runs=9)
    parser.add_argument("--models", type=int, default=100_000)
    wanted = parser.parse_args()
    with place(wanted) as stores:
        show(measured(ready(stores, 10), ready(stores, wanted.models), wanted.runs), wanted)


if __name__ == "__main__":
    main()
