"""Locks of Python environments: functions over an open connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

__all__ = ["LockRow"]


@dataclass(frozen=True)
class LockRow:
    """A resolved Python environment."""

    request: str
    python: str
    text: str
    asked: str  # JSON: requirements and who asked
    made: float


def lock(con: sqlite3.Connection, request: str) -> LockRow | None:
    """Return the lock that answers a request."""
    row = con.execute(
        "SELECT python, text, asked, made FROM locks WHERE request = ?", (bytes.fromhex(request),)
    ).fetchone()
    return LockRow(request, *row) if row else None


def all_locks(con: sqlite3.Connection) -> list[LockRow]:
    """Return every lock, the newest first."""
    rows = con.execute("SELECT request, python, text, asked, made FROM locks ORDER BY made DESC")
    return [LockRow(request.hex(), *rest) for request, *rest in rows]


def put_lock(con: sqlite3.Connection, new: LockRow, *, replace_old: bool = False) -> None:
    """Keep a lock; one that is there stays unless *replace_old*."""
    verb = "REPLACE" if replace_old else "IGNORE"
    con.execute(
        f"INSERT OR {verb} INTO locks VALUES (?, ?, ?, ?, ?)",
        (bytes.fromhex(new.request), new.python, new.text, new.asked, new.made),
    )
