"""What files looked like when they were last hashed: hints, which cost a look at the files where they are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cogbuild.hashed import Hint

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

__all__ = ["count_stale", "drop_stale", "hint", "put_hints"]

_STALE = "FROM hashed WHERE boot != ? OR at < ?"


def hint(con: sqlite3.Connection, name: bytes) -> Hint | None:
    """Return the hint called *name*."""
    row = con.execute("SELECT at, boot, looks FROM hashed WHERE name = ?", (name,)).fetchone()
    return Hint(*row) if row else None


def put_hints(con: sqlite3.Connection, hints: Iterable[tuple[bytes, Hint]]) -> None:
    """Keep hints."""
    con.executemany(
        "INSERT OR REPLACE INTO hashed VALUES (?, ?, ?, ?)", ((name, *item) for name, item in hints)
    )


def count_stale(con: sqlite3.Connection, boot: bytes, before: int) -> int:
    """Return how many hints nobody trusts any more: of another boot than *boot*, or of seconds *before* of this one."""
    return int(con.execute(f"SELECT COUNT(*) {_STALE}", (boot, before)).fetchone()[0])


def drop_stale(con: sqlite3.Connection, boot: bytes, before: int) -> None:
    """Forget the hints that nobody trusts any more."""
    con.execute(f"DELETE {_STALE}", (boot, before))
