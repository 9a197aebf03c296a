"""A page of the matrix: models down, adapters across, how each pair stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from cogbuild.database import feed, models, pairs
from cogbuild.errors.adapters import UnknownAdapter
from cogbuild.planner.judging import Judge
from cogbuild.verdict import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cogbuild.adapters import Adapter
    from cogbuild.database.models import EntryRow
    from cogbuild.database.pairs import Outcome
    from cogbuild.project import Project

__all__ = ["Matrix", "Pair", "State", "matrix"]


class State(StrEnum):
    """How a pair stands, as people ask for it: a verdict, or what a verdict does not say by itself."""

    FRESH = "fresh"
    NOT_APPLICABLE = "not applicable"
    FAILED = "failed"  # the last attempt did; the next run tries again
    STALE = "stale"
    NEW = "never built"
    RESTORABLE = "restorable"
    UNTESTED = "untested"
    PENDING = "pending"
    BLOCKED = "blocked"
    ORPHANED = "orphaned"  # the adapter is no longer active, or the model no longer wants it


@dataclass(frozen=True)
class Pair:
    """How one pair stands."""

    adapter: str
    state: State
    since: float | None = None  # when it was made or, of a failed one, tried
    detail: str = ""


@dataclass(frozen=True)
class Matrix:
    """Some models with all their pairs."""

    adapters: tuple[str, ...]
    rows: tuple[tuple[EntryRow, dict[str, Pair]], ...]
    first: int  # number of the first model, from 1
    total: int | None  # models in all; None: not counted
    more: bool
    counts: dict[State, int] = field(default_factory=dict)  # of the rows


def matrix(
    project: Project,
    adapters: dict[str, Adapter],
    *,
    repos: Sequence[str] = (),
    names: Sequence[str] = (),
    start: int = 0,
    limit: int = -1,
    orphans: bool = False,
) -> Matrix:
    """Return the models from *start* on, the newest first, with their pairs. Only these are judged.

    *orphans*: also what adapters have made that are no longer active. Raises ``UnknownAdapter``.
    """
    con = project.con
    judge = Judge(project, adapters)
    known = feed.adapter_names(con)
    for name in names:
        if name not in adapters and not (orphans and name in known.values()):
            raise UnknownAdapter(name=name, active=list(adapters))
    found = models.entries(con, repos=repos, limit=limit + 1 if limit >= 0 else -1, offset=start)
    shown = found[:limit] if limit >= 0 else found
    columns = [name for name in adapters if not names or name in names]
    rows = [(entry, _pairs(project, judge, entry, columns)) for entry in shown]
    if orphans:
        columns += [name for name in _add_orphans(project, rows, known, names) if name not in columns]
    counts: dict[State, int] = {}
    for _, row in rows:
        for pair in row.values():
            counts[pair.state] = counts.get(pair.state, 0) + 1
    total = start + len(found) if limit < 0 else None if repos else feed.count_live(con)
    return Matrix(tuple(columns), tuple(rows), start + 1, total, len(found) > len(shown), counts)


def _pairs(project: Project, judge: Judge, entry: EntryRow, columns: Sequence[str]) -> dict[str, Pair]:
    wanted = judge.wanted(entry)
    return {name: _pair(project, judge, entry, name) for name in columns if name in wanted}


def _pair(project: Project, judge: Judge, entry: EntryRow, name: str) -> Pair:
    judged = judge.look(entry, name)
    verdict, outcome = judged.verdict, judged.outcome
    made = outcome.made if outcome is not None else None
    detail = "; ".join(reason.text for reason in verdict.reasons)
    if verdict.settled:
        return Pair(name, State(verdict.kind), made, detail)
    aid = judge.aid(name)
    why = feed.why_pending(project.con, aid, entry.eid) if aid is not None else None
    if aid is not None and why is not None and why.startswith("failed: "):
        tried = pairs.attempts(project.con, entry.eid, aid)
        return Pair(name, State.FAILED, tried[-1].started if tried else made, why.partition(": ")[2])
    if verdict.kind is Kind.STALE and outcome is None:
        return Pair(name, State.NEW, None, detail)
    return Pair(name, State(verdict.kind), made, detail)


def _add_orphans(
    project: Project,
    rows: list[tuple[EntryRow, dict[str, Pair]]],
    known: dict[int, str],
    names: Sequence[str],
) -> list[str]:
    """Add what is there and belongs to no pair any more to *rows*; return their adapters."""
    added: set[str] = set()
    row_of = {entry.eid: row for entry, row in rows}
    outcomes: dict[tuple[int, int], Outcome] = pairs.outcomes(project.con, eids=list(row_of))
    for (eid, aid), outcome in outcomes.items():
        name = known[aid]
        if name not in row_of[eid] and (not names or name in names):
            row_of[eid][name] = Pair(name, State.ORPHANED, outcome.made, outcome.reason or "")
            added.add(name)
    return sorted(added)
