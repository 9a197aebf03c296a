"""Live entries by their place in the order of the newest first: what a page of a long list asks.

A place is found in an index and not by counting, so the thousandth page costs what the first one does.
"""

from __future__ import annotations

import heapq
import json
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

__all__ = ["ALL", "Place", "Repos", "every", "listed", "merged", "newest", "not_applicable", "unseen"]

#: So many repos are asked one by one and merged; with more, the newest of all are walked through.
_MERGED = 50


class Place(NamedTuple):
    """Where an entry stands in the order of the newest first."""

    added: float
    eid: int


class Repos(NamedTuple):
    """Which repos a question is about: those named, all where none is, as far as *scope* goes."""

    names: tuple[str, ...] = ()
    scope: str = "*"  # "user/name", "user/*" or "*": others are as if they were not there

    @property
    def everything(self) -> bool:
        """Whether it is about every repo."""
        return not self.names and self.scope == "*"

    def hold(self, repo: str) -> bool:
        """Whether the question is about *repo*."""
        user, _, name = self.scope.partition("/")
        within = self.scope == "*" or (repo == self.scope if name != "*" else repo.partition("/")[0] == user)
        return within and (not self.names or repo in self.names)

    def _where(self) -> tuple[str, list[object]]:
        where, values = "1", list[object]()
        if self.names:
            where = "(user, name) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))"
            values.append(json.dumps([name.split("/", 1) for name in self.names]))
        if self.scope != "*":
            where += " AND user = ? AND ? IN (name, '*')"
            values += self.scope.split("/", 1)
        return where, values

    def known(self, con: sqlite3.Connection) -> list[str]:
        """Return those of them that ever held a model."""
        where, values = self._where()
        rows = con.execute(f"SELECT user || '/' || name FROM repos WHERE {where} ORDER BY user, name", values)
        return [repo for (repo,) in rows]

    def numbers(self, con: sqlite3.Connection, most: int) -> list[int] | None:
        """Return their numbers; None where there are more than *most*."""
        where, values = self._where()
        found = con.execute(f"SELECT rid FROM repos WHERE {where} LIMIT ?", [*values, most + 1]).fetchall()
        return [rid for (rid,) in found] if len(found) <= most else None

    def condition(self) -> tuple[str, list[object]]:
        """Return a condition on ``rid``, and its values."""
        where, values = self._where()
        return ("", []) if self.everything else (f"AND rid IN (SELECT rid FROM repos WHERE {where}) ", values)


ALL = Repos()


def newest(
    con: sqlite3.Connection,
    repos: Repos,
    *,
    limit: int,
    after: Place | None = None,
    before: Place | None = None,
    skip: int = 0,
) -> list[Place]:
    """Return up to *limit* places, the newest first: those right *after* a place, or right *before* it.

    *skip* leaves out so many; it is for who thinks in numbers of pages.
    """
    rids = None if repos.everything else repos.numbers(con, _MERGED)
    if rids is None:
        found = _walk(con, "entries_newest", *repos.condition(), after, before, (limit, skip))
    else:
        each = [
            _walk(con, "entries_of_repo", "AND rid = ? ", [rid], after, before, (limit + skip, 0))
            for rid in rids
        ]
        found = list(islice(heapq.merge(*each, reverse=before is None), skip, skip + limit))
    return found[::-1] if before is not None else found


def _walk(  # noqa: PLR0917 - one statement's parts
    con: sqlite3.Connection,
    index: str,
    where: str,
    values: list[object],
    after: Place | None,
    before: Place | None,
    part: tuple[int, int],
) -> list[Place]:
    order = "ASC" if before is not None else "DESC"
    if (place := before if before is not None else after) is not None:
        where += f"AND (added, eid) {'>' if before is not None else '<'} (?, ?) "
        values = [*values, *place]
    rows = con.execute(
        f"SELECT added, eid FROM entries INDEXED BY {index} WHERE live {where}"
        f"ORDER BY added {order}, eid {order} LIMIT ? OFFSET ?",
        [*values, *part],
    )
    return [Place(*row) for row in rows]


# -- by how a pair stands ---------------------------------------------------------------------------------------------
# In the order of arrival, which is the one that the lists are kept in; each is read as far as it is asked for.


def every(con: sqlite3.Connection, below: int) -> Iterator[int]:
    """Yield the live entries that arrived before *below*, the last first."""
    rows = con.execute("SELECT eid FROM entries WHERE live AND eid < ? ORDER BY eid DESC", (below,))
    return (eid for (eid,) in rows)


def unseen(con: sqlite3.Connection, mark: int, below: int) -> Iterator[int]:
    """Yield the live entries that moved since *mark*, as above."""
    rows = con.execute(
        "SELECT eid FROM entries WHERE seq > ? AND live AND +eid < ? ORDER BY +eid DESC",  # by seq
        (mark, below),
    )
    return (eid for (eid,) in rows)


def listed(con: sqlite3.Connection, aid: int, below: int, *, failed: bool) -> Iterator[int]:
    """Yield the entries whose pair with the adapter is listed as not done, or as *failed*, as above."""
    why = "AND why >= 'failed' AND why < 'failee' " if failed else ""
    rows = con.execute(
        f"SELECT eid FROM pending WHERE aid = ? AND eid < ? {why}ORDER BY eid DESC", (aid, below)
    )
    return (eid for (eid,) in rows)


def not_applicable(con: sqlite3.Connection, aids: Sequence[int], below: int) -> Iterator[int]:
    """Yield the entries that one of the adapters does not apply to, as above."""
    each = [
        con.execute(
            "SELECT eid FROM outcomes WHERE aid = ? AND eid < ? AND reason IS NOT NULL ORDER BY eid DESC",
            (aid, below),
        )
        for aid in aids
    ]
    return (eid for (eid,) in heapq.merge(*each, reverse=True))


def merged(sources: Sequence[Iterator[int]]) -> Iterator[int]:
    """Yield what several lists hold, the last first, each once."""
    last = None
    for eid in heapq.merge(*sources, reverse=True):
        if eid != last:
            yield eid
            last = eid


# -- counts -----------------------------------------------------------------------------------------------------------


def listed_by_kind(con: sqlite3.Connection) -> dict[int, dict[str, int]]:
    """Return how many pairs of each adapter are listed as not done: failed, blocked, or waiting."""
    rows = con.execute(
        "SELECT aid, CASE WHEN why >= 'failed' AND why < 'failee' THEN 'failed' WHEN why = 'blocked' THEN why "
        "ELSE 'waiting' END AS kind, COUNT(*) FROM pending GROUP BY aid, kind"
    )
    found: dict[int, dict[str, int]] = {}
    for aid, kind, count in rows:
        found.setdefault(aid, {})[kind] = count
    return found


def count_unseen(con: sqlite3.Connection, aid: int, mark: int) -> int:
    """Return how many live entries moved since *mark* and are not listed for the adapter."""
    row = con.execute(
        "SELECT COUNT(*) FROM entries e WHERE seq > ? AND live "
        "AND NOT EXISTS (SELECT 1 FROM pending p WHERE p.aid = ? AND p.eid = e.eid)",
        (mark, aid),
    ).fetchone()
    return int(row[0])
