"""Reading what can still be read of a damaged database, and keeping of it what can be believed."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING

from cogbuild.database.packing import name_number, unpack_manifests
from cogbuild.database.pairs import load_artifacts, lost_names
from cogbuild.fingerprint.manifest import Manifest, part_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

__all__ = ["believable", "complaints", "copied"]

# In this order: what refers to others comes after them. What can be worked out again is left behind.
_TABLES = [
    *("meta", "repos", "parts", "shared", "models", "entries", "links", "adapters", "outcomes", "attempts"),
    *("pending", "locks", "lost", "counters", "pins", "memos", "tokens"),
]
#: Memos that are no hints but the user's own words.
_SAID = "ignored:"


def complaints(path: Path) -> list[str]:
    """Return what SQLite finds wrong with a database, page by page; empty where it is sound."""
    with contextlib.closing(sqlite3.connect(os.fsencode(path))) as con:
        try:
            found = [text for (text,) in con.execute("PRAGMA integrity_check(20)")]
        except sqlite3.DatabaseError as trouble:
            return [str(trouble)]
    return [line for text in found if text != "ok" for line in text.splitlines()]


def copied(damaged: Path, con: sqlite3.Connection) -> None:
    """Copy every row of *damaged* that can be read into the empty database of *con*."""
    with contextlib.closing(sqlite3.connect(os.fsencode(damaged))) as old:
        # Else SQLite refuses a file that is shorter than its first page says.
        with contextlib.suppress(sqlite3.DatabaseError):
            old.execute("PRAGMA writable_schema=ON")
        for table in _TABLES:
            for row in _readable(old, table):
                marks = ",".join("?" * len(row))
                with contextlib.suppress(sqlite3.Error):  # what breaks the table's own rules is damage too
                    con.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", row)


def _readable(con: sqlite3.Connection, table: str) -> Iterator[Sequence[object]]:
    """Yield the rows from the front up to the damage, then those from the end."""
    for order in ("ASC", "DESC"):
        try:
            # By its first column, which is the primary key of all, so that the table is read in its own order.
            rows = con.execute(f"SELECT * FROM {table} ORDER BY 1 {order}")
            yield from rows
        except (sqlite3.DatabaseError, UnicodeDecodeError, OverflowError):
            continue
        return


def believable(con: sqlite3.Connection, tree_of: Callable[[str], bytes | None]) -> None:
    """Drop what is damaged or refers to what is not there; everything is to be judged again.

    *tree_of* returns a model's tree, encoded, where it can be had from elsewhere.
    """
    _drop(
        con,
        "parts",
        "pid",
        (pid for pid, digest, kind, blob in _all(con, "parts") if not _whole(digest, kind, blob)),
    )
    for model, tree in con.execute("SELECT id, tree FROM models").fetchall():
        if not con.execute("SELECT 1 FROM parts WHERE digest = ?", (tree,)).fetchone():
            blob = tree_of(model)
            if blob is not None and part_digest("tree", blob) == tree.hex():
                con.execute("INSERT INTO parts(digest, kind, blob) VALUES (?, 'tree', ?)", (tree, blob))
    con.execute(
        "DELETE FROM models WHERE tree NOT IN (SELECT digest FROM parts) OR id != substr(lower(hex(tree)), 1, 40) "
        "OR NOT json_valid(spec)"
    )
    con.execute(
        "DELETE FROM entries WHERE rid NOT IN (SELECT rid FROM repos) OR mid NOT IN (SELECT mid FROM models)"
    )
    con.execute("UPDATE links SET eid = NULL, memo = NULL WHERE eid NOT IN (SELECT eid FROM entries)")
    con.execute("UPDATE adapters SET mark = 0, context = NULL")
    for table in ("outcomes", "attempts", "pending", "pins"):
        con.execute(
            f"DELETE FROM {table} WHERE eid NOT IN (SELECT eid FROM entries) OR aid NOT IN (SELECT aid FROM adapters)"
        )
    _outcomes(con)
    con.execute(f"DELETE FROM memos WHERE name NOT LIKE '{_SAID}%'")
    con.execute(
        "INSERT INTO meta SELECT 'seq', IFNULL(MAX(seq), 0) FROM entries WHERE 1 "
        "ON CONFLICT (name) DO UPDATE SET value = MAX(value, excluded.value)"
    )
    con.execute("REPLACE INTO meta SELECT 'live', COUNT(*) FROM entries WHERE live")


def _outcomes(con: sqlite3.Connection) -> None:
    """Keep the outcomes whose manifests give their keys, and say again what they name."""
    bad = []
    con.execute("DELETE FROM named")
    for oid, key, packed, artifacts in con.execute(
        "SELECT oid, key, manifest, artifacts FROM outcomes"
    ).fetchall():
        try:
            (manifest,) = unpack_manifests(con, [packed])
            known = Manifest.decode(manifest)
            names = lost_names(load_artifacts(artifacts))
        except (ValueError, KeyError, TypeError, IndexError):
            bad.append(oid)
            continue
        if known.key != key.hex() or not all(_has_part(con, row.value) for row in known.rows if row.part):
            bad.append(oid)
            continue
        con.executemany(
            "INSERT OR IGNORE INTO named VALUES (?, ?)", ((name_number(name), oid) for name in names)
        )
    _drop(con, "outcomes", "oid", bad)


def _has_part(con: sqlite3.Connection, digest: str) -> bool:
    return (
        con.execute("SELECT 1 FROM parts WHERE digest = ?", (bytes.fromhex(digest),)).fetchone() is not None
    )


def _whole(digest: object, kind: object, blob: object) -> bool:
    if not (isinstance(digest, bytes) and isinstance(kind, str) and isinstance(blob, bytes)):
        return False
    return part_digest(kind, blob) == digest.hex()


def _all(con: sqlite3.Connection, table: str) -> list[tuple[object, ...]]:
    return con.execute(f"SELECT * FROM {table}").fetchall()


def _drop(con: sqlite3.Connection, table: str, column: str, numbers: Iterable[object]) -> None:
    con.executemany(f"DELETE FROM {table} WHERE {column} = ?", [(number,) for number in numbers])
