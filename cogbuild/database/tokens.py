"""Tokens: who may do what in which repos; functions over an open connection. Only a digest of the secret is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

__all__ = ["TokenRow", "add", "any_at_all", "drop", "every", "find", "used"]


@dataclass(frozen=True)
class TokenRow:
    """One token as it is kept."""

    id: str  # what names it in listings and logs, no secret
    digest: bytes  # of the secret
    repos: str  # "user/name", "user/*" or "*"
    can: tuple[str, ...]
    note: str
    made: float  # seconds since the epoch
    expires: float | None  # None: never
    used: float | None  # when it last came with a request, to the minute


_ROW = "SELECT id, digest, repos, can, note, made, expires, used FROM tokens "


def _token(row: Sequence[object]) -> TokenRow:
    name, digest, repos, can, *rest = row
    return TokenRow(name, digest, repos, tuple(str(can).split(",")), *rest)  # type: ignore[arg-type]


def add(con: sqlite3.Connection, token: TokenRow) -> None:
    """Keep a new token."""
    con.execute(
        "INSERT INTO tokens(id, digest, repos, can, note, made, expires) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (token.id, token.digest, token.repos, ",".join(token.can), token.note, token.made, token.expires),
    )


def find(con: sqlite3.Connection, name: str) -> TokenRow | None:
    """Return the token called *name*."""
    row = con.execute(_ROW + "WHERE id = ?", (name,)).fetchone()
    return _token(row) if row else None


def every(con: sqlite3.Connection) -> list[TokenRow]:
    """Return all tokens, the oldest first."""
    return [_token(row) for row in con.execute(_ROW + "ORDER BY made, id")]


def any_at_all(con: sqlite3.Connection, now: float | None = None) -> bool:
    """Whether there is a token; with *now*, one that has not expired by then."""
    row = con.execute(
        "SELECT 1 FROM tokens WHERE ? IS NULL OR expires IS NULL OR expires > ? LIMIT 1", (now, now)
    ).fetchone()
    return row is not None


def drop(con: sqlite3.Connection, name: str) -> bool:
    """Take a token back; False where there is none of that name."""
    return con.execute("DELETE FROM tokens WHERE id = ?", (name,)).rowcount > 0


def used(con: sqlite3.Connection, name: str, when: float) -> None:
    """Remember when a token came with a request."""
    con.execute("UPDATE tokens SET used = ? WHERE id = ?", (when, name))
