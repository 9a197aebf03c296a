"""Candidates from the change feed, judged in chunks, newest models first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cogbuild import library
from cogbuild.database import feed, models, pairs
from cogbuild.elsewhere import check_place
from cogbuild.errors.adapters import NoAdapters, UnknownAdapter
from cogbuild.planner.judging import Judge

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

    from cogbuild.adapters import Adapter
    from cogbuild.database.models import EntryRow
    from cogbuild.library import Problem
    from cogbuild.planner.judged import Judged
    from cogbuild.project import Project

__all__ = ["Plan", "Planner", "Selection"]

#: Models whose pairs are judged and run together; a task costs 5 KB in doit, so not all at once. Judging them takes less
#: time than what workers have been sent before.
CHUNK = 60


@dataclass(frozen=True)
class Selection:
    """What a command is about; empty means all."""

    models: tuple[str, ...] = ()  # prefixes of IDs
    repos: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    force: bool = False


@dataclass
class Plan:
    """The pairs of a run that are not fresh, chunk by chunk, and what is known of the rest."""

    judge: Judge
    eids: list[int]  # newest first; every pair to judge belongs to one of them
    candidates: dict[str, set[int] | None]  # adapter → eids to judge; None: all of ``eids``
    pairs: int  # of the selection, fresh ones included
    record: bool  # fresh candidates are taken off the pending list
    problems: list[Problem] = field(default_factory=list)

    @property
    def most(self) -> int:
        """No more pairs than this have to run."""
        every = len(self.eids)
        return (
            sum(every if chosen is None else len(chosen) for chosen in self.candidates.values()) or self.pairs
        )

    def done(self) -> bool:
        """Whether every pair is fresh, judged now."""
        return next(self.chunks(), None) is None

    @property
    def many(self) -> bool:
        """Whether it is likely that adapters have to run: several models moved, or an adapter did."""
        return len(self.eids) > 1 and any(chosen is not None for chosen in self.candidates.values())

    def chunks(self) -> Iterator[list[Judged]]:
        """Yield the pairs that are not fresh, judged now; pairs of one model stay in one chunk."""
        for start in range(0, len(self.eids), CHUNK):
            judged = self._chunk(self.eids[start : start + CHUNK])
            if judged:
                yield judged

    def __iter__(self) -> Iterator[Judged]:
        for chunk in self.chunks():
            yield from chunk

    def _chunk(self, eids: list[int]) -> list[Judged]:
        project = self.judge.project
        todo: list[Judged] = []
        fresh: dict[str, list[tuple[int, list[tuple[str, str]]]]] = {}
        asked: list[tuple[EntryRow, str]] = []
        for entry in models.entries(project.con, eids=eids, candidates=True):
            wanted = self.judge.wanted(entry)
            for name in self._chosen(entry, wanted):
                if name in wanted:
                    asked.append((entry, name))
                else:
                    fresh.setdefault(name, []).append((entry.eid, []))
        for judged in self.judge.look_all(asked):
            if judged.verdict.settled:
                fresh.setdefault(judged.adapter.name, []).append((judged.entry.eid, judged.needed))
            else:
                todo.append(judged)
        if self.record and fresh:
            project.database.write(lambda con: self._settle(con, fresh))
        return todo

    def _settle(self, con: Any, fresh: dict[str, list[tuple[int, list[tuple[str, str]]]]]) -> None:
        for name, judged in fresh.items():
            eids = [eid for eid, needs in judged if not needs or pairs.same_needs(con, eid, needs)]
            aid = self.judge.aid(name)
            if aid is not None:
                feed.done(con, aid, eids, self.judge.adapters[name].context)

    def _chosen(self, entry: EntryRow, wanted: list[str]) -> list[str]:
        """Return the adapters to judge for the entry, and those that they need whose artifacts turn out to be gone."""
        chosen = [name for name, eids in self.candidates.items() if eids is None or entry.eid in eids]
        if not self.record:
            return chosen
        gone = [
            needed
            for name in chosen
            for needed in self.judge.adapters[name].needs
            if needed in wanted and self.judge.note_if_gone(entry, needed)
        ]
        return [name for name in self.judge.adapters if name in chosen or name in gone] if gone else chosen


class Planner:
    """Makes plans for the adapters given."""

    def __init__(self, project: Project, adapters: dict[str, Adapter]) -> None:
        self.project = project
        self.judge = Judge(project, adapters)

    def plan(self, selection: Selection | None = None, *, dry: bool = False) -> Plan:
        """Return the plan of a run; *dry* writes nothing but what looking at live directories shows.

        Raises ``NoAdapters``, ``UnknownAdapter``, ``UnknownModel``, ``AmbiguousModel`` and ``ArtifactsElsewhere``.
        """
        selection = selection or Selection()
        names = self._names(selection)
        problems = library.refresh_links(self.project)
        if not self.project.exists:
            self.project.make()
        check_place(self.project, remember=not dry)
        direct = selection.models or selection.force
        plan = (self._direct if direct else self._by_feed)(selection, names, problems, dry=dry)
        # Told of once, as what it is: a live directory that can't be used, and not as a failure of each of its pairs.
        unusable = {problem.eid for problem in problems}
        if not unusable.isdisjoint(plan.eids):
            plan.eids = [eid for eid in plan.eids if eid not in unusable]
        return plan

    def plan_of(self, entry: EntryRow, names: Iterable[str] | None = None, *, force: bool = False) -> Plan:
        """Return the plan of one entry that is at hand: *names* and what they need, or all that it wants.

        Raises ``NoAdapters``, ``UnknownAdapter`` and ``ArtifactsElsewhere``.
        """
        check_place(self.project)
        asked = tuple(names or ())
        chosen = self._names(Selection(adapters=asked))
        if force:
            self.judge.forced |= {(entry.eid, name) for name in asked or chosen}
        count = sum(1 for name in self.judge.wanted(entry) if name in chosen)
        return Plan(self.judge, [entry.eid], dict.fromkeys(chosen), count, record=True)

    def behind(self, con: sqlite3.Connection, names: Iterable[str]) -> dict[str, int]:
        """Return those of the adapters *names* that are what they were at the last look and that models moved since, with
        their marks.
        """
        last = feed.last_seq(con)
        found = {}
        for name in names:
            _, context, mark = feed.scope(con, name) or (0, None, 0)
            if context in {None, self.judge.adapters[name].context} and mark < last:
                found[name] = mark
        return found

    def notice(self, con: sqlite3.Connection, names: Iterable[str]) -> list[int]:
        """List what moved as not done for the adapters *names*, where they are ``behind``; return the entries that did.

        A run of everything does so by itself. Said by who builds models one by one as they come: what was built would count
        as looked at by nobody until there is such a run.
        """
        marks = self.behind(con, names)
        moved = {mark: models.moved(con, mark) for mark in set(marks.values())}
        wanted = {entry.eid: self.judge.wanted(entry) for entries in moved.values() for entry in entries}
        scopes = [
            (name, [entry.eid for entry in moved[mark] if name in wanted[entry.eid]])
            for name, mark in marks.items()
        ]
        self._commit(con, scopes, feed.last_seq(con))
        return list(wanted)

    def _names(self, selection: Selection) -> list[str]:
        adapters = self.judge.adapters
        for name in selection.adapters:
            if name not in adapters:
                raise UnknownAdapter(name=name, closest=_closest(name, adapters), active=list(adapters))
        if not adapters:
            raise NoAdapters(looked_in="the settings and --adapter-dir")
        return self.judge.closure(list(selection.adapters)) if selection.adapters else list(adapters)

    def _direct(self, selection: Selection, names: list[str], problems: list[Problem], *, dry: bool) -> Plan:
        """Plan for named models, or for all of them where they are forced: only these are looked at."""
        con = self.project.con
        if selection.models:
            found: dict[int, EntryRow] = {}
            for prefix in selection.models:
                found.update(
                    {entry.eid: entry for entry in library.find(self.project, prefix, selection.repos)}
                )
            eids = list(found)
            count = sum(1 for entry in found.values() for name in self.judge.wanted(entry) if name in names)
        else:
            eids = models.newest_first(con, feed.eids_above(con, 0), selection.repos)
            count = self._count(selection, names)
        if selection.force:
            asked = selection.adapters or names
            self.judge.forced |= {(eid, name) for eid in eids for name in asked}
        return Plan(self.judge, eids, dict.fromkeys(names), count, record=not dry, problems=problems)

    def _by_feed(self, selection: Selection, names: list[str], problems: list[Problem], *, dry: bool) -> Plan:
        con = self.project.con
        last = feed.last_seq(con)
        candidates: dict[str, set[int] | None] = {}
        scopes: list[tuple[str, list[int]]] = []
        for name in names:
            adapter = self.judge.adapters[name]
            known = feed.scope(con, name)
            mark = known[2] if known is not None and known[1] == adapter.context else 0
            moved = feed.eids_above(con, mark) if mark < last else []
            listed = feed.pending(con, known[0]) if known is not None else {}
            # What needs a pair that may move is judged once that one has ended.
            above = [candidates.get(needed) or set() for needed in adapter.needs]
            candidates[name] = set().union(moved, listed, *above)
            if known is None or known[1] != adapter.context or mark < last:
                scopes.append((name, moved))
        if scopes and not dry and not selection.repos:
            self.project.database.write(lambda con: self._commit(con, scopes, last))
        eids = set().union(*(chosen for chosen in candidates.values() if chosen))
        ordered = models.newest_first(con, eids, selection.repos) if eids else []
        count = self._count(selection, names)
        return Plan(self.judge, ordered, candidates, count, record=not dry, problems=problems)

    def _commit(self, con: Any, scopes: list[tuple[str, list[int]]], last: int) -> None:
        """List the candidates as pending and move the marks, in one transaction: from here on they can't be lost."""
        for name, moved in scopes:
            adapter = self.judge.adapters[name]
            aid = feed.add_adapter(con, name)
            feed.add_pending(con, aid, moved, "planned")
            feed.set_scope(con, aid, context=adapter.context, mark=last, needs=adapter.needs)

    def _count(self, selection: Selection, names: list[str]) -> int:
        """Return how many pairs the selection has; wishes make it exact at the cost of reading their entries."""
        con = self.project.con
        if selection.repos:
            entries = models.entries(con, repos=selection.repos)
            return sum(1 for entry in entries for name in self.judge.wanted(entry) if name in names)
        special = models.entries_with_wishes(con)
        plain = feed.count_live(con) - len(special)
        return plain * len(names) + sum(
            1 for entry in special for name in self.judge.wanted(entry) if name in names
        )


def _closest(name: str, known: Iterable[str]) -> list[str] | None:
    import difflib

    return difflib.get_close_matches(name, list(known), n=3) or None
