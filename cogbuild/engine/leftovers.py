"""What a process that was killed left behind: its runs become interrupted attempts, its workspaces go."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from cogbuild.database import feed, history
from cogbuild.engine.places import Note, notes_in
from cogbuild.errors.state import DiskTrouble, ReadOnlyData
from cogbuild.workspace import is_free, sweep

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from cogbuild.project import Project

__all__ = ["recover", "recover_if_possible"]


def recover(project: Project) -> None:
    """Record the attempts of dead processes as interrupted and remove their workspaces."""
    work = project.data / "work"
    free: dict[Path, bool] = {}
    dead = [
        note
        for place, note in notes_in(work)
        if (free[place] if place in free else free.setdefault(place, is_free(place)))
    ]
    if dead:
        project.database.write(lambda con: _record(con, dead))
    sweep(work)


def recover_if_possible(project: Project) -> None:
    """Do so, or leave it to whoever can write."""
    with contextlib.suppress(ReadOnlyData, DiskTrouble):
        recover(project)


def _record(con: sqlite3.Connection, notes: list[Note]) -> None:
    for note in notes:
        aid = feed.add_adapter(con, note.adapter)
        attempt = history.Attempt(
            note.id,
            note.eid,
            aid,
            note.key,
            note.kind,
            note.started,
            max(0.0, time.time() - note.started),
            0.0,
            0,
            "interrupted",
            "cogbuild was killed while it ran",
            note.reasons,
        )
        history.put_attempts(con, aid, [attempt])  # one that had ended and was recorded stays as it is
