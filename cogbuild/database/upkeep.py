"""What looking after the database takes: what is referred to, what nothing refers to, what was found again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cogbuild.database import hints, pairs
from cogbuild.database.pairs import Outcome, load_artifacts, lost_names, outcome, outcomes

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sized

    from cogbuild.database.pairs import Artifact

__all__ = [
    "Unused",
    "carrying",
    "drop",
    "every_outcome",
    "found_again",
    "kept_trees",
    "live_entries",
    "lose",
    "memos",
    "naming",
    "outcome_keys",
    "pairs_made",
    "published",
    "unused",
]

# An entry that was removed or superseded, and that nothing speaks of any more.
_BROUGHT = "EXISTS (SELECT 1 FROM candidates c WHERE c.eid = e.eid)"
_DEAD = f"""NOT e.live AND NOT {_BROUGHT} AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.eid = e.eid)
    AND NOT EXISTS (SELECT 1 FROM outcomes o WHERE o.eid = e.eid) AND NOT EXISTS (SELECT 1 FROM links l WHERE l.eid = e.eid)"""


@dataclass(frozen=True)
class Unused:
    """Rows that nothing refers to."""

    entries: list[int]
    models: list[int]
    parts: list[str]
    memos: list[str]
    lost: list[str]
    hints: int  # how many nobody trusts any more
    size: int  # bytes of parts and memos

    @property
    def count(self) -> int:
        """How many rows there are."""
        lists: tuple[Sized, ...] = (self.entries, self.models, self.parts, self.memos, self.lost)
        return sum(len(names) for names in lists) + self.hints


def live_entries(con: sqlite3.Connection) -> int:
    """Return how many live entries there are, each looked at."""
    return int(con.execute("SELECT COUNT(*) FROM entries WHERE live").fetchone()[0])


def every_outcome(con: sqlite3.Connection) -> Iterator[Outcome]:
    """Yield every outcome there is, without holding them all."""
    step = 2000
    last = con.execute("SELECT MAX(eid) FROM outcomes").fetchone()[0] or 0
    for start in range(0, last + 1, step):
        yield from outcomes(con, eids=range(start, start + step)).values()


def outcome_keys(con: sqlite3.Connection, prefix: str) -> dict[str, Outcome]:
    """Return outcomes by key for the keys that start with *prefix* (hex digits), one of each."""
    low, high = (bytes.fromhex(prefix[:64].ljust(64, digit)) for digit in "0f")
    rows = con.execute(
        "SELECT eid, aid FROM outcomes WHERE substr(key, 1, 6) BETWEEN substr(?1, 1, 6) AND substr(?2, 1, 6) "
        "AND key BETWEEN ?1 AND ?2 LIMIT 100",
        (low, high),
    ).fetchall()
    found = (outcome(con, eid, aid) for eid, aid in rows)
    return {item.key: item for item in found if item is not None}


def carrying(con: sqlite3.Connection, key: str) -> list[tuple[int, int]]:
    """Return (eid, aid) of the outcomes that carry *key*."""
    return con.execute(
        "SELECT eid, aid FROM outcomes WHERE substr(key, 1, 6) = substr(?1, 1, 6) AND key = ?1",
        (bytes.fromhex(key),),
    ).fetchall()


def pairs_made(con: sqlite3.Connection) -> dict[str, int]:
    """Return how many pairs of live models each adapter has made something of, or does not apply to."""
    rows = con.execute(
        "SELECT a.name, COUNT(*) FROM outcomes o JOIN adapters a USING (aid) JOIN entries e USING (eid) "
        "WHERE e.live GROUP BY a.aid"
    )
    return dict(rows.fetchall())


def naming(con: sqlite3.Connection, artifact: Artifact) -> list[Outcome]:
    """Return the outcomes that name the artifact: its bytes where cogbuild keeps them, else its URI."""
    return list(pairs.naming(con, lost_names([artifact])[0]))


def lose(con: sqlite3.Connection, artifact: Artifact, why: str) -> None:
    """Say that an artifact is gone: every pair that names it has lost it, and no other pair has."""
    for loser in naming(con, artifact):
        pairs.mark_lost(con, loser.eid, loser.aid, why, [artifact])


def found_again(con: sqlite3.Connection, artifacts: Iterable[Artifact]) -> None:
    """Say that artifacts are there: records that name them may be restored again."""
    con.executemany("DELETE FROM lost WHERE artifact = ?", ((name,) for name in lost_names(artifacts)))


def published(con: sqlite3.Connection) -> set[str]:
    """Return the paths of all published artifacts that are not known to be gone."""
    rows = con.execute("SELECT artifacts FROM outcomes WHERE reason IS NULL AND lost IS NULL")
    return {item.uri for (text,) in rows for item in load_artifacts(text) if item.published}


def memos(con: sqlite3.Connection, prefix: str) -> list[tuple[str, bytes]]:
    """Return (name, value) of the memos whose names start with *prefix*."""
    return con.execute(
        "SELECT name, value FROM memos WHERE substr(name, 1, ?) = ?", (len(prefix), prefix)
    ).fetchall()


def kept_trees(con: sqlite3.Connection) -> dict[str, bool]:
    """Return the trees of all models that anything speaks of, and whether their files are to be kept."""
    rows = con.execute(
        f"SELECT m.tree, MAX(e.sealed AND (e.live OR {_BROUGHT})) FROM models m JOIN entries e USING (mid) WHERE NOT ({_DEAD}) GROUP BY m.mid"
    )
    return {tree.hex(): bool(sealed) for tree, sealed in rows}


def unused(
    con: sqlite3.Connection,
    *,
    parts: set[str],
    memos: set[str],
    artifacts: set[str],
    uris: set[str],
    stale: tuple[bytes, int],
) -> Unused:
    """Return the rows that nothing refers to.

    The arguments are *parts* that stay, *memos* that go, names that are used, and since when hints are *stale*.
    """
    entries = [eid for (eid,) in con.execute(f"SELECT e.eid FROM entries e WHERE {_DEAD}")]
    listed = json.dumps(entries)
    models = con.execute(
        "SELECT mid FROM models m WHERE NOT EXISTS (SELECT 1 FROM entries e WHERE e.mid = m.mid "
        "AND e.eid NOT IN (SELECT value FROM json_each(?)))",
        (listed,),
    ).fetchall()
    gone = [
        (digest.hex(), size)
        for digest, size in con.execute("SELECT digest, length(blob) FROM parts")
        if digest.hex() not in parts
    ]
    noted = con.execute("SELECT name, length(value) FROM memos").fetchall()
    forgotten = [(name, size) for name, size in noted if name in memos]
    lost = [
        name
        for (name,) in con.execute("SELECT artifact FROM lost")
        if name not in artifacts and name not in uris
    ]
    return Unused(
        entries,
        [mid for (mid,) in models],
        [digest for digest, _ in gone],
        [name for name, _ in forgotten],
        lost,
        hints.count_stale(con, *stale),
        sum(size for _, size in (*gone, *forgotten)),
    )


def drop(con: sqlite3.Connection, rows: Unused, stale: tuple[bytes, int]) -> None:
    """Delete rows that nothing refers to; those that came into use since they were listed stay."""
    dead = f"SELECT e.eid FROM entries e JOIN json_each(?) j ON e.eid = j.value WHERE {_DEAD}"
    eids = [(eid,) for (eid,) in con.execute(dead, (json.dumps(rows.entries),)).fetchall()]
    con.executemany("DELETE FROM pending WHERE eid = ?", eids)
    con.executemany("DELETE FROM entries WHERE eid = ?", eids)
    con.executemany(
        "DELETE FROM models WHERE mid = ? AND NOT EXISTS (SELECT 1 FROM entries e WHERE e.mid = models.mid)",
        ((mid,) for mid in rows.models),
    )
    con.executemany(
        "DELETE FROM parts WHERE digest = ? AND digest NOT IN (SELECT tree FROM models)",
        ((bytes.fromhex(digest),) for digest in rows.parts),
    )
    con.executemany("DELETE FROM memos WHERE name = ?", ((name,) for name in rows.memos))
    con.executemany("DELETE FROM lost WHERE artifact = ?", ((name,) for name in rows.lost))
    hints.drop_stale(con, *stale)
    con.execute("DELETE FROM named WHERE oid NOT IN (SELECT oid FROM outcomes)")
    con.execute(
        "DELETE FROM shared WHERE sid NOT IN (SELECT reasons FROM outcomes UNION SELECT reasons FROM attempts "
        "UNION SELECT test FROM outcomes WHERE test IS NOT NULL)"
    )
