"""What a process that was killed left behind: its runs become interrupted attempts, its workspaces go."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from cogbuild.database import feed, pairs
from cogbuild.workspace import is_free, sweep

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from cogbuild.project import Project

__all__ = ["NOTE_FILE", "RUN_PREFIX", "recover"]

#: A run's directory is called this and the attempt's name; the note in it says whose it is.
RUN_PREFIX = "run-"
NOTE_FILE = "attempt.json"


def recover(project: Project) -> None:
    """Record the attempts of dead processes as interrupted and remove their workspaces."""
    work = project.data / "work"
    dead = [
        run
        for place in work.iterdir()
        if place.is_dir() and is_free(place)
        for run in place.glob(f"{RUN_PREFIX}*")
    ]
    if dead:
        project.database.write(lambda con: _record(con, dead))
    sweep(work)


def _record(con: sqlite3.Connection, runs: list[Path]) -> None:
    for run in runs:
        try:
            note = json.loads((run / NOTE_FILE).read_text())
        except (OSError, ValueError):
            continue  # killed before it was written, so before anything ran
        attempt = pairs.Attempt(
            run.name.removeprefix(RUN_PREFIX),
            note["eid"],
            feed.add_adapter(con, note["adapter"]),
            note["key"],
            note["kind"],
            note["started"],
            max(0.0, time.time() - note["started"]),
            0.0,
            0,
            "interrupted",
            "cogbuild was killed while it ran",
            note["reasons"],
        )
        pairs.put_attempt(con, attempt)
