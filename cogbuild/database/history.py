"""Attempts, of all that ever ran: functions over an open connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cogbuild.database.packing import attempt_bytes, attempt_name, numbers

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

__all__ = ["Attempt"]


@dataclass(frozen=True)
class Attempt:
    """One execution of an adapter, successful or not."""

    id: str  # sortable by time
    eid: int
    aid: int
    key: str | None
    kind: str  # "run" or "test"
    started: float  # seconds since the epoch
    seconds: float
    cpu_seconds: float
    max_rss: int  # bytes
    status: str  # "built", "not applicable", "failed", "refused", "interrupted"
    detail: str
    reasons: str = "[]"  # JSON: why it was made


_ATTEMPT = """SELECT a.id, a.eid, a.aid, a.key, a.kind, a.started, a.microseconds, a.cpu_microseconds, a.max_rss, a.status, a.detail,
    r.value FROM attempts a LEFT JOIN shared r ON r.sid = a.reasons """


def _attempt(row: Sequence[Any]) -> Attempt:
    name, eid, aid, key, kind, started, took, cpu, memory, status, detail, reasons = row
    return Attempt(
        attempt_name(name),
        eid,
        aid,
        key.hex() if key else None,
        kind,
        started,
        took / 1e6,
        cpu / 1e6,
        memory,
        status,
        detail,
        reasons or "[]",
    )


def put_attempts(con: sqlite3.Connection, aid: int, news: Sequence[Attempt]) -> None:
    """Record attempts of one adapter that ended; one that is recorded stays as it is."""
    sids = numbers(con, (new.reasons for new in news))
    con.executemany(
        "INSERT OR IGNORE INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                attempt_bytes(new.id),
                new.eid,
                aid,
                bytes.fromhex(new.key) if new.key else None,
                new.kind,
                new.started,
                round(new.seconds * 1e6),
                round(new.cpu_seconds * 1e6),
                new.max_rss,
                new.status,
                new.detail,
                sids[new.reasons],
            )
            for new in news
        ],
    )


def attempts(con: sqlite3.Connection, eid: int, aid: int) -> list[Attempt]:
    """Return the attempts of a pair, the first first."""
    return [
        _attempt(row)
        for row in con.execute(_ATTEMPT + "WHERE a.eid = ? AND a.aid = ? ORDER BY a.id", (eid, aid))
    ]


def last_attempt(con: sqlite3.Connection, eid: int, aid: int) -> Attempt | None:
    """Return the last attempt of a pair."""
    row = con.execute(
        _ATTEMPT + "WHERE a.eid = ? AND a.aid = ? ORDER BY a.id DESC LIMIT 1", (eid, aid)
    ).fetchone()
    return _attempt(row) if row else None


def durations(con: sqlite3.Connection, names: Iterable[str]) -> dict[str, float]:
    """Return how many seconds attempts took, of those that are known here."""
    found = {}
    for name in names:
        row = con.execute("SELECT microseconds FROM attempts WHERE id = ?", (attempt_bytes(name),)).fetchone()
        if row is not None:
            found[name] = row[0] / 1e6
    return found


def attempt(con: sqlite3.Connection, name: str) -> Attempt | None:
    """Return one attempt."""
    row = con.execute(_ATTEMPT + "WHERE a.id = ?", (attempt_bytes(name),)).fetchone()
    return _attempt(row) if row else None


def attempt_ids(con: sqlite3.Connection) -> set[str]:
    """Return the names of all attempts."""
    return {attempt_name(name) for (name,) in con.execute("SELECT id FROM attempts")}
