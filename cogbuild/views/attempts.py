"""What ran and what runs: attempts of a pair with their logs, also of processes that are at it now."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cogbuild import library
from cogbuild.database import feed, history, pairs
from cogbuild.engine.places import notes_in
from cogbuild.errors.adapters import UnknownAdapter
from cogbuild.errors.models import AmbiguousModel, UnknownModel
from cogbuild.workspace import is_free

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from cogbuild.database.history import Attempt
    from cogbuild.database.models import EntryRow
    from cogbuild.project import Project

__all__ = [
    "Tried",
    "adapter_number",
    "attempts_of",
    "entries_ever",
    "is_running",
    "kept_log",
    "running_pairs",
    "shown_by_default",
    "tried_by_id",
]


_WELL = ("built", "not applicable")


@dataclass(frozen=True)
class Tried:
    """One attempt of a pair, ended or not."""

    number: int  # from 1; 0: it ran for another pair or elsewhere, and its outcome was restored
    id: str
    kind: str  # "run" or "test"
    started: float  # seconds since the epoch
    seconds: float | None  # None: it runs, or is not known here
    status: str  # as in the database, or "running"
    detail: str
    reasons: str  # JSON
    log: Path | None  # None: it said nothing
    work: Path | None = None  # while it runs: the directory of the process that runs it


def entries_ever(
    project: Project, prefix: str, repos: Sequence[str] = (), scope: str = "*"
) -> list[EntryRow]:
    """Return the entries that a prefix of an ID names; where none is live, those that were.

    Raises ``UnknownModel`` and ``AmbiguousModel``.
    """
    try:
        return library.find(project, prefix, repos, scope)
    except UnknownModel as unknown:
        try:
            return library.find(project, prefix, repos, scope, live=False)
        except AmbiguousModel:
            raise unknown from None


def adapter_number(project: Project, name: str, active: Sequence[str] = ()) -> int | None:
    """Return the number of an adapter; None where it is active and never had a pair. Raises ``UnknownAdapter``."""
    aid = feed.adapter_id(project.con, name)
    if aid is None and name not in active:
        import difflib

        known = {*active, *feed.adapter_names(project.con).values()}
        raise UnknownAdapter(
            name=name,
            closest=difflib.get_close_matches(name, known, n=3) or None,
            known=sorted(known) or None,
        )
    return aid


def attempts_of(project: Project, entry: EntryRow, adapter: str) -> list[Tried]:
    """Return the attempts of a pair, the first first; those that run now are the last."""
    aid = feed.adapter_id(project.con, adapter)
    ended = history.attempts(project.con, entry.eid, aid) if aid is not None else []
    tried = [_ended(project, number, item) for number, item in enumerate(ended, 1)]
    known = {item.id for item in ended}
    running = [item for item in _running(project, entry.eid, adapter) if item.id not in known]
    return tried + [
        replace(item, number=len(tried) + at)
        for at, item in enumerate(sorted(running, key=lambda i: i.id), 1)
    ]


def _ended(project: Project, number: int, item: Attempt) -> Tried:
    return Tried(
        number,
        item.id,
        item.kind,
        item.started,
        item.seconds,
        item.status,
        item.detail,
        item.reasons,
        _log(project, item.id),
    )


def _running(project: Project, eid: int, adapter: str) -> list[Tried]:
    return [tried for tried, whose, name in _running_now(project) if (whose, name) == (eid, adapter)]


def _running_now(project: Project) -> Iterator[tuple[Tried, int, str]]:
    """Yield what runs, of every process, with entry and adapter."""
    busy: dict[Path, bool] = {}
    for place, note in notes_in(project.data / "work"):
        if place not in busy:
            busy[place] = not is_free(place)
        if busy[place]:
            log = _log(project, note.id)
            yield (
                Tried(0, note.id, note.kind, note.started, None, "running", "", note.reasons, log, place),
                note.eid,
                note.adapter,
            )


def running_pairs(project: Project) -> set[tuple[int, str]]:
    """Return (eid, adapter) of what runs now, in whichever process."""
    return {
        (eid, name)
        for tried, eid, name in _running_now(project)
        if history.attempt(project.con, tried.id) is None  # else it is the last run of a place that is kept
    }


def tried_by_id(project: Project, attempt: str) -> tuple[Tried, int, str] | None:
    """Return an attempt, ended or not, with its entry and adapter."""
    ended = history.attempt(project.con, attempt)
    if ended is None:
        return next((found for found in _running_now(project) if found[0].id == attempt), None)
    names = feed.adapter_names(project.con)
    return _ended(project, 0, ended), ended.eid, names[ended.aid]


def _log(project: Project, attempt: str) -> Path | None:
    path = project.log(attempt)
    return path if os.path.exists(path) else None


def is_running(project: Project, tried: Tried) -> bool:
    """Whether an attempt that ran when it was looked up still does."""
    if tried.work is None or history.attempt(project.con, tried.id) is not None:
        return False
    return tried.work.is_dir() and not is_free(tried.work)


def shown_by_default(project: Project, entry: EntryRow, adapter: str, tried: list[Tried]) -> Tried | None:
    """Return the attempt that tells how the pair stands: one that runs or came to nothing, else that of the outcome."""
    aid = feed.adapter_id(project.con, adapter)
    outcome = pairs.outcome(project.con, entry.eid, aid) if aid is not None else None
    last = tried[-1] if tried else None
    if outcome is None or not outcome.attempt or (last is not None and last.status not in _WELL):
        return last
    made = next((item for item in tried if item.id == outcome.attempt), None)
    if made is not None:
        return made
    return Tried(0, outcome.attempt, "run", outcome.made, None, outcome.how, "", outcome.reasons, None)


def kept_log(project: Project, entry: EntryRow, adapter: str, attempt: str) -> str | None:
    """Return the log that the cache keeps of the attempt that made the pair's outcome."""
    aid = feed.adapter_id(project.con, adapter)
    outcome = pairs.outcome(project.con, entry.eid, aid) if aid is not None else None
    record = project.cache.get(outcome.key) if outcome is not None and outcome.attempt == attempt else None
    return record.log if record is not None and record.attempt == attempt else None
