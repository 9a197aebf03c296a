"""Adapters, the change feed's marks and what is pending: functions over an open connection.

All that a run with nothing to do asks of pairs, and nothing that takes time to import.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence


def adapter_id(con: sqlite3.Connection, name: str) -> int | None:
    """Return the number of an adapter that has been seen before."""
    row = con.execute("SELECT aid FROM adapters WHERE name = ?", (name,)).fetchone()
    return row[0] if row else None


def add_adapter(con: sqlite3.Connection, name: str) -> int:
    """Return the number of an adapter, given where it is new."""
    con.execute("INSERT INTO adapters(name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
    return int(con.execute("SELECT aid FROM adapters WHERE name = ?", (name,)).fetchone()[0])


def adapter_names(con: sqlite3.Connection) -> dict[int, str]:
    """Return every adapter that ever had a pair."""
    return dict(con.execute("SELECT aid, name FROM adapters"))


def scope(con: sqlite3.Connection, name: str) -> tuple[int, str | None, int] | None:
    """Return (aid, last context, mark) of an adapter; None: never seen."""
    row = con.execute("SELECT aid, context, mark FROM adapters WHERE name = ?", (name,)).fetchone()
    return (row[0], row[1].hex() if row[1] else None, row[2]) if row else None


def set_scope(con: sqlite3.Connection, aid: int, *, context: str, mark: int, needs: Sequence[str]) -> None:
    """Say that under *context* every entry up to *mark* is done or pending."""
    con.execute(
        "UPDATE adapters SET context = ?, mark = ?, needs = ? WHERE aid = ?",
        (bytes.fromhex(context), mark, json.dumps(list(needs)), aid),
    )


def reset_scopes(con: sqlite3.Connection) -> None:
    """Have every pair judged again by the next plan."""
    con.execute("UPDATE adapters SET context = NULL, mark = 0")


def all_done(con: sqlite3.Connection, contexts: Mapping[str, str]) -> bool:
    """Whether each adapter is done under its context up to the end of the feed, with nothing listed."""
    last = last_seq(con)
    rows = con.execute(
        "SELECT name, context, mark, EXISTS(SELECT 1 FROM pending p JOIN entries e USING (eid) "
        "WHERE p.aid = a.aid AND e.live) FROM adapters a"
    )
    done = {name: context for name, context, mark, listed in rows if mark >= last and not listed}
    return all(done.get(name) == bytes.fromhex(context) for name, context in contexts.items())


def wishes(con: sqlite3.Connection) -> list[tuple[str | None, bool, int]]:
    """Return (the adapters wished for as JSON, whether an image is given, how many live entries), of those that do not
    simply want every adapter.
    """
    rows = con.execute(
        "SELECT settings ->> 'adapters', coalesce(cpu_image, '') != '', COUNT(*) FROM entries "
        "INDEXED BY entries_special WHERE live AND (cpu_image IS NOT NULL OR settings ->> 'adapters' IS NOT NULL) GROUP BY 1, 2"
    )
    return [(wished, bool(image), count) for wished, image, count in rows]


def memo(con: sqlite3.Connection, name: str) -> bytes | None:
    """Return a memo: something that can be worked out again."""
    row = con.execute("SELECT value FROM memos WHERE name = ?", (name,)).fetchone()
    return row[0] if row else None


def last_seq(con: sqlite3.Connection) -> int:
    """Return the highest number given out in the feed."""
    row = con.execute("SELECT value FROM meta WHERE name = 'seq'").fetchone()
    return int(row[0]) if row else 0


def eids_above(con: sqlite3.Connection, mark: int) -> list[int]:
    """Return the live entries that moved since *mark*, newest first."""
    rows = con.execute(
        "SELECT eid FROM entries WHERE seq > ? AND live ORDER BY +added DESC, eid DESC",  # by seq, not by age
        (mark,),
    )
    return [eid for (eid,) in rows]


def count_live(con: sqlite3.Connection) -> int:
    """Return how many live entries there are."""
    return int(con.execute("SELECT value FROM meta WHERE name = 'live'").fetchone()[0])


def pending(con: sqlite3.Connection, aid: int) -> dict[int, str]:
    """Return why each listed pair of the adapter is not done, by eid."""
    return dict(
        con.execute(
            "SELECT p.eid, why FROM pending p JOIN entries e USING (eid) WHERE aid = ? AND live", (aid,)
        )
    )


def why_pending(con: sqlite3.Connection, aid: int, eid: int) -> str | None:
    """Return why one pair is not done, None where it is not listed."""
    row = con.execute("SELECT why FROM pending WHERE aid = ? AND eid = ?", (aid, eid)).fetchone()
    return row[0] if row else None


def add_pending(con: sqlite3.Connection, aid: int, eids: Iterable[int], why: str) -> None:
    """List pairs as not done. A reason that says more stays: "planned" takes no other's place, "needs" none but that of
    "planned" and "blocked", "blocked" none of what was asked for or lost; and "forgotten" gives way to an outcome alone.
    """
    con.executemany(
        "INSERT INTO pending VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET why = excluded.why "
        "WHERE excluded.why != 'planned' AND why != 'forgotten' "
        "AND (excluded.why != 'needs' OR why IN ('planned', 'blocked')) "
        "AND (excluded.why != 'blocked' OR why NOT IN ('cleaned', 'lost'))",
        ((aid, eid, why) for eid in eids),
    )


def done(con: sqlite3.Connection, aid: int, eids: Iterable[int], context: str) -> None:
    """Take pairs off the list that were found to need nothing under *context*.

    Those stay that the adapter's mark rests on under another context (another process has another version of the
    adapter), and those that something happened to since they were judged.
    """
    con.executemany(
        "DELETE FROM pending WHERE aid = ?1 AND eid = ?2 AND why NOT IN ('lost', 'forgotten', 'cleaned') "
        "AND EXISTS (SELECT 1 FROM adapters a WHERE a.aid = ?1 AND (a.context = ?3 OR a.context IS NULL))",
        ((aid, eid, bytes.fromhex(context)) for eid in eids),
    )
