"""A page of the matrix: models down, adapters across, how each pair stands."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from cogbuild.database import browsing, feed, history, models, pairs
from cogbuild.database.browsing import ALL, Repos
from cogbuild.errors.adapters import UnknownAdapter
from cogbuild.planner.judging import Judge
from cogbuild.verdict import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cogbuild.adapters import Adapter
    from cogbuild.database.models import EntryRow
    from cogbuild.database.pairs import Fidelity, Outcome
    from cogbuild.planner.judged import Judged
    from cogbuild.project import Project

__all__ = ["Matrix", "Pair", "State", "chosen_columns", "counts_of", "judged_rows", "matrix"]


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
    seconds: float | None = None  # how long the attempt took that this is about
    fidelity: Fidelity | None = None  # of the artifact that is furthest from its model


@dataclass(frozen=True)
class Matrix:
    """Some models with all their pairs."""

    adapters: tuple[str, ...]
    rows: tuple[tuple[EntryRow, dict[str, Pair]], ...]
    first: int | None  # number of the first model, from 1; None: not counted
    total: int | None  # models in all; None: not counted
    more: bool
    counts: dict[State, int] = field(default_factory=dict)  # of the rows


def matrix(
    project: Project,
    adapters: dict[str, Adapter],
    *,
    repos: Repos = ALL,
    names: Sequence[str] = (),
    start: int = 0,
    limit: int = -1,
    orphans: bool = False,
) -> Matrix:
    """Return the models from *start* on, the newest first, with their pairs. Only these are judged.

    *orphans*: also what adapters have made that are no longer active. Raises ``UnknownAdapter``.
    """
    con = project.con
    known = feed.adapter_names(con)
    columns = chosen_columns(adapters, names, [*known.values()] if orphans else ())
    if limit < 0:
        found = models.entries(con, repos=repos.names, scope=repos.scope, offset=start)
    else:
        places = browsing.newest(con, repos, limit=limit + 1, skip=start)
        found = models.entries(con, eids=[place.eid for place in places])
    shown = found[:limit] if limit >= 0 else found
    rows = judged_rows(project, Judge(project, adapters), shown, columns)
    if orphans:
        columns += [name for name in _add_orphans(project, rows, known, names) if name not in columns]
    total = start + len(found) if limit < 0 else None if not repos.everything else feed.count_live(con)
    return Matrix(tuple(columns), tuple(rows), start + 1, total, len(found) > len(shown), counts_of(rows))


def chosen_columns(
    adapters: dict[str, Adapter], names: Sequence[str], known: Sequence[str] = ()
) -> list[str]:
    """Return the active adapters that are asked for. Raises ``UnknownAdapter``."""
    for name in names:
        if name not in adapters and name not in known:
            raise UnknownAdapter(name=name, active=list(adapters))
    return [name for name in adapters if not names or name in names]


def counts_of(rows: Iterable[tuple[EntryRow, dict[str, Pair]]]) -> dict[State, int]:
    """Return how many pairs stand how."""
    counts: dict[State, int] = {}
    for _, row in rows:
        for pair in row.values():
            counts[pair.state] = counts.get(pair.state, 0) + 1
    return counts


def judged_rows(
    project: Project, judge: Judge, entries: Iterable[EntryRow], columns: Sequence[str]
) -> list[tuple[EntryRow, dict[str, Pair]]]:
    """Return the entries with their pairs, judged now."""
    rows: list[tuple[EntryRow, dict[str, Pair]]] = []
    made_by: dict[str, list[tuple[int, str]]] = {}
    for entry in entries:
        wanted = judge.wanted(entry)
        row: dict[str, Pair] = {}
        seen: dict[str, Judged] = {}
        for name in columns:
            if name in wanted:
                row[name], attempt = _pair(project, judge, entry, name, seen)
                made_by.setdefault(attempt, []).append((len(rows), name))
        rows.append((entry, row))
    for attempt, seconds in history.durations(project.con, filter(None, made_by)).items():
        for at, name in made_by[attempt]:
            rows[at][1][name] = replace(rows[at][1][name], seconds=seconds)
    return rows


def _pair(
    project: Project, judge: Judge, entry: EntryRow, name: str, seen: dict[str, Judged]
) -> tuple[Pair, str]:
    """Return how a pair stands, and the attempt that it is about."""
    judged = judge.look(entry, name, seen)
    verdict, outcome = judged.verdict, judged.outcome
    detail = "; ".join(reason.text for reason in verdict.reasons)
    made, attempt = (outcome.made, outcome.attempt) if outcome is not None else (None, "")
    if not verdict.settled:
        aid = judge.aid(name)
        why = feed.why_pending(project.con, aid, entry.eid) if aid is not None else None
        if aid is not None and why is not None and why.startswith("failed: "):
            tried = history.last_attempt(project.con, entry.eid, aid)
            since, attempt = (tried.started, tried.id) if tried else (made, "")
            return Pair(name, State.FAILED, since, why.partition(": ")[2]), attempt
        if verdict.kind is Kind.STALE and outcome is None:
            return Pair(name, State.NEW, None, detail), ""
    measured = [item.fidelity for item in outcome.artifacts if item.fidelity] if outcome is not None else []
    worst = max(measured, key=lambda fidelity: fidelity.absolute, default=None)
    return Pair(name, State(verdict.kind), made, detail, fidelity=worst), attempt


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
