"""The matrix as people leaf through it: pages from a place on, and only models with a pair that stands as asked.

How a pair stands is judged and not kept, so a state can't simply be looked up. What is kept narrows it down: pairs that are
not done are listed, or belong to models that came after the adapter's mark; where an adapter does not apply is indexed. Only
those are judged. Of what nothing is kept, fresh pairs, all models are gone through, the last first; a look ends when the page
is full or its time is over, and says how far it came.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from cogbuild.database import browsing, feed, models
from cogbuild.database.browsing import ALL, Place, Repos
from cogbuild.planner.judging import Judge
from cogbuild.verdict import Kind
from cogbuild.views.attempts import running_pairs
from cogbuild.views.matrix import Matrix, State, chosen_columns, counts_of, judged_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cogbuild.adapters import Adapter
    from cogbuild.database.models import EntryRow
    from cogbuild.project import Project
    from cogbuild.views.matrix import Pair

__all__ = ["RUNNING", "STATES", "Browsed", "Filters", "browse"]

#: What is asked for beside the states: it runs now, whatever its state was.
RUNNING = "running"
#: And: there is something to do, whatever it is.
NOT_FRESH = "not fresh"
#: All that pages can be narrowed to; orphaned outcomes belong to no pair of the active adapters.
STATES = (RUNNING, NOT_FRESH, *(str(state) for state in State if state is not State.ORPHANED))

_BUDGET = 0.1  # seconds of judging for a page that is not full yet
_TOGETHER = 25  # entries that are fetched at once
_LAST = 1 << 62
_UNDONE = {State.STALE, State.NEW, State.RESTORABLE, State.UNTESTED, State.PENDING, State.BLOCKED}


@dataclass(frozen=True)
class Filters:
    """What a page is narrowed to; empty means all."""

    repos: Repos = ALL
    adapters: tuple[str, ...] = ()
    states: tuple[str, ...] = ()


@dataclass(frozen=True)
class Browsed:
    """A page, and the places from which the pages beside it start."""

    matrix: Matrix
    running: frozenset[tuple[int, str]]  # (eid, adapter) of what runs now
    after: Place | None = None  # the next page starts after it; None: this is the last
    before: Place | None = None  # the page before ends before it; None: this is the first, or nobody knows
    whole: bool = True  # False: time was over before the page was full


def browse(
    project: Project,
    adapters: dict[str, Adapter],
    filters: Filters,
    *,
    limit: int,
    after: Place | None = None,
    before: Place | None = None,
) -> Browsed:
    """Return a page of the matrix, the newest models first; only what is shown, or may be, is judged.

    Raises ``UnknownAdapter``.
    """
    columns = chosen_columns(adapters, filters.adapters)
    judge = Judge(project, adapters)
    running = frozenset(running_pairs(project))
    if filters.states:
        return _sifted(project, judge, filters, columns, running, limit=limit, after=after)
    con = project.con
    places = browsing.newest(con, filters.repos, limit=limit + 1, after=after, before=before)
    more = len(places) > limit
    if before is not None:
        places, at_start = (places[1:], False) if more else (places, True)
        follows = bool(places)
    else:
        places, follows, at_start = places[:limit], more, after is None
    entries = models.entries(con, eids=[place.eid for place in places])
    rows = judged_rows(project, judge, entries, columns)
    total = feed.count_live(con) if filters.repos.everything else None
    matrix = Matrix(tuple(columns), tuple(rows), None, total, follows, counts_of(rows))
    return Browsed(
        matrix,
        running,
        after=places[-1] if follows else None,
        before=places[0] if places and not at_start else None,
    )


# -- by state ---------------------------------------------------------------------------------------------------------


def _sifted(
    project: Project,
    judge: Judge,
    filters: Filters,
    columns: Sequence[str],
    running: frozenset[tuple[int, str]],
    *,
    limit: int,
    after: Place | None,
) -> Browsed:
    con = project.con
    chosen = {*filters.states, *(_UNDONE | {State.FAILED} if NOT_FRESH in filters.states else ())}
    below = after.eid if after is not None else _LAST
    candidates = browsing.merged(list(_sources(project, judge, chosen, columns, running, below)))
    rows: list[tuple[EntryRow, dict[str, Pair]]] = []
    last: EntryRow | None = None
    ends = time.monotonic() + _BUDGET
    whole = True
    while len(rows) <= limit and (eids := list(islice(candidates, _TOGETHER))):
        entries = sorted(models.entries(con, eids=eids), key=lambda entry: -entry.eid)
        for entry in entries:
            last = entry
            if not filters.repos.hold(entry.repo):
                continue
            row = judged_rows(project, judge, [entry], columns)
            if _stands(entry, row[0][1], chosen, running):
                rows += row
            if len(rows) > limit:
                break
        if time.monotonic() > ends:
            whole = len(rows) > limit
            break
    more = len(rows) > limit
    rows = rows[:limit]
    if more:
        last = rows[-1][0]
    matrix = Matrix(tuple(columns), tuple(rows), None, None, more or not whole, counts_of(rows))
    return Browsed(
        matrix,
        running,
        after=Place(last.added, last.eid) if last is not None and (more or not whole) else None,
        whole=whole,
    )


def _stands(
    entry: EntryRow, row: dict[str, Pair], chosen: set[str], running: frozenset[tuple[int, str]]
) -> bool:
    if any(pair.state in chosen for pair in row.values()):
        return True
    return RUNNING in chosen and any((entry.eid, name) in running for name in row)


def _sources(  # noqa: PLR0917 - as above
    project: Project,
    judge: Judge,
    chosen: set[str],
    columns: Sequence[str],
    running: frozenset[tuple[int, str]],
    below: int,
) -> Iterator[Iterator[int]]:
    """Yield lists of entries, the last first, that hold every pair of the chosen states."""
    con = project.con
    if RUNNING in chosen:
        yield iter(sorted({eid for eid, name in running if name in columns and eid < below}, reverse=True))
    if str(Kind.FRESH) in chosen:
        yield browsing.every(con, below)
        return
    if State.NOT_APPLICABLE in chosen:
        aids = [aid for name in judge.closure(list(columns)) if (aid := judge.aid(name)) is not None]
        yield browsing.not_applicable(con, aids, below)
    undone = bool(chosen & _UNDONE)
    if not undone and State.FAILED not in chosen:
        return
    for name in judge.closure(list(columns)) if undone else columns:
        known = feed.scope(con, name)
        if known is not None:
            yield browsing.listed(con, known[0], below, failed=not undone)
        if undone:
            same = known is not None and known[1] == judge.adapters[name].context
            yield browsing.unseen(con, known[2], below) if same and known else browsing.every(con, below)
