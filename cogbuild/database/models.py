"""Repos, models and what links to live directories: functions over an open connection."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cogbuild.database.feed import memo
from cogbuild.database.jobs import add_candidate

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

__all__ = [
    "EntryRow",
    "Link",
    "add_entry",
    "add_link",
    "entries",
    "find",
    "kept_ones",
    "let_in",
    "memo",
    "next_seq",
    "part",
    "put_parts",
    "touch",
]


@dataclass(frozen=True)
class EntryRow:
    """One (repo, model)."""

    eid: int
    repo: str  # "user/name"
    model: str  # 40 hex digits
    tree: str  # 64 hex digits
    spec: str  # JSON of ModelSpec
    files: int
    size: int  # bytes
    seq: int
    added: float  # seconds since the epoch
    sealed: bool
    live: bool
    cpu_image: str | None
    settings: dict[str, Any] = field(default_factory=dict)  # adapters, params, examples


@dataclass(frozen=True)
class Link:
    """A live directory that is looked at on every run."""

    path: str
    repo: str
    eid: int | None  # the entry that it was at the last look
    declared: bool  # the settings name it; else `models add --link` did
    memo: bytes | None


_ENTRY = """SELECT e.eid, r.user || '/' || r.name, m.id, m.tree, m.spec, m.files, m.size, e.seq, e.added, e.sealed, e.live,
    e.cpu_image, e.settings FROM entries e JOIN repos r USING (rid) JOIN models m USING (mid) """


def _entry(row: Sequence[Any]) -> EntryRow:
    eid, repo, model, tree, spec, files, size, seq, added, sealed, live, image, settings = row
    return EntryRow(
        eid,
        repo,
        model,
        tree.hex(),
        spec,
        files,
        size,
        seq,
        added,
        bool(sealed),
        bool(live),
        image,
        json.loads(settings),
    )


def entries(
    con: sqlite3.Connection,
    *,
    eids: Iterable[int] | None = None,
    prefix: str | None = None,
    repos: Sequence[str] = (),
    scope: str = "*",
    limit: int = -1,
    offset: int = 0,
    live: bool = True,
    candidates: bool = False,
) -> list[EntryRow]:
    """Return live entries, newest first: those of *eids*, or whose model ID starts with *prefix*, in *repos*, …

    *scope* is ``user/name``, ``user/*`` or ``*``: others are as if they were not there. With ``live=False`` also those
    that were removed or superseded, with *candidates* also those that a job of the server has brought and not let in yet.
    """
    brought = "(e.live OR e.eid IN (SELECT eid FROM candidates))" if candidates else "e.live"
    where, values = [brought if live else "1"], []
    if eids is not None:
        where.append("e.eid IN (SELECT value FROM json_each(?))")
        values.append(json.dumps(list(eids)))
    if prefix is not None:
        where.append("m.id >= ? AND m.id < ?")
        values += [prefix, prefix + "g"]
    if repos:
        where.append(f"r.user || '/' || r.name IN ({','.join('?' * len(repos))})")
        values += list(repos)
    if scope != "*":
        where.append("r.user = ? AND ? IN (r.name, '*')")
        values += scope.split("/", 1)
    sql = f"{_ENTRY} WHERE {' AND '.join(where)} ORDER BY e.added DESC, e.eid DESC LIMIT {limit} OFFSET {offset}"
    return [_entry(row) for row in con.execute(sql, values)]


def repos(con: sqlite3.Connection) -> list[str]:
    """Return every repo that has a model, or had one."""
    return [repo for (repo,) in con.execute("SELECT user || '/' || name FROM repos ORDER BY user, name")]


def newest_first(con: sqlite3.Connection, eids: Iterable[int], repos: Sequence[str] = ()) -> list[int]:
    """Return those of *eids* that are live, and in *repos* where some are given, the newest first."""
    where = f"AND r.user || '/' || r.name IN ({','.join('?' * len(repos))})" if repos else ""
    rows = con.execute(
        "SELECT e.eid FROM entries e JOIN repos r USING (rid) WHERE e.live AND e.eid IN (SELECT value FROM json_each(?)) "
        f"{where} ORDER BY e.added DESC, e.eid DESC",
        [json.dumps(list(eids)), *repos],
    )
    return [eid for (eid,) in rows]


def moved(con: sqlite3.Connection, mark: int) -> list[EntryRow]:
    """Return the live entries that moved since *mark*, newest first."""
    rows = con.execute(
        _ENTRY + "WHERE e.seq > ? AND +e.live ORDER BY +e.added DESC, e.eid DESC",  # by seq, not by age
        (mark,),
    )
    return [_entry(row) for row in rows]


def entries_with_wishes(con: sqlite3.Connection) -> list[EntryRow]:
    """Return the live entries that do not simply want every adapter."""
    rows = con.execute(
        _ENTRY.replace("entries e", "entries e INDEXED BY entries_special")
        + "WHERE e.live AND (e.cpu_image IS NOT NULL OR e.settings ->> 'adapters' IS NOT NULL)"
    )
    return [_entry(row) for row in rows]


def find(con: sqlite3.Connection, eid: int) -> EntryRow | None:
    """Return the entry *eid*, live or not."""
    row = con.execute(_ENTRY + "WHERE e.eid = ?", (eid,)).fetchone()
    return _entry(row) if row else None


def versions(con: sqlite3.Connection, entry: EntryRow) -> list[int]:
    """Return the eids of the repo's other versions, the latest first, live or not."""
    user, _, name = entry.repo.partition("/")
    rows = con.execute(
        "SELECT eid FROM entries JOIN repos USING (rid) WHERE user = ? AND name = ? AND eid != ? ORDER BY added DESC, eid DESC",
        (user, name, entry.eid),
    )
    return [eid for (eid,) in rows]


def previous(con: sqlite3.Connection, entry: EntryRow, aid: int) -> int | None:
    """Return the repo's version before the entry that has an outcome of the adapter, else the next after it."""
    user, _, name = entry.repo.partition("/")
    for side, order in (("<=", "DESC"), (">", "ASC")):
        row = con.execute(
            "SELECT e.eid FROM entries e JOIN outcomes o ON o.eid = e.eid AND o.aid = ? "
            "WHERE e.rid = (SELECT rid FROM repos WHERE user = ? AND name = ?) "
            f"AND e.added {side} ? AND e.eid != ? ORDER BY e.added {order} LIMIT 1",
            (aid, user, name, entry.added, entry.eid),
        ).fetchone()
        if row is not None:
            return int(row[0])
    return None


def with_previous(con: sqlite3.Connection, eids: Sequence[int], aid: int) -> set[int]:
    """Return those of *eids* of whose repo another version has an outcome of the adapter."""
    rows = con.execute(
        "SELECT e.eid FROM entries e WHERE e.eid IN (SELECT value FROM json_each(?1)) AND EXISTS (SELECT 1 FROM entries v "
        "JOIN outcomes o ON o.eid = v.eid AND o.aid = ?2 WHERE v.rid = e.rid AND v.eid != e.eid)",
        (json.dumps(eids), aid),
    )
    return {eid for (eid,) in rows}


def next_seq(con: sqlite3.Connection) -> int:
    """Return the next number of the change feed."""
    row = con.execute(
        "INSERT INTO meta VALUES ('seq', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value"
    ).fetchone()
    return int(row[0])


def touch(con: sqlite3.Connection, eid: int) -> None:
    """Say that something about the entry changed: every adapter judges it again."""
    con.execute("UPDATE entries SET seq = ? WHERE eid = ?", (next_seq(con), eid))


def add_model(con: sqlite3.Connection, *, model: str, tree: str, spec: str, files: int, size: int) -> int:
    """Return the row of the model, made where it is new."""
    con.execute(
        "INSERT INTO models(id, tree, spec, files, size) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET spec = excluded.spec",
        (model, bytes.fromhex(tree), spec, files, size),
    )
    row = con.execute("SELECT mid FROM models WHERE id = ?", (model,)).fetchone()
    return int(row[0])


def add_entry(
    con: sqlite3.Connection,
    *,
    repo: str,
    mid: int,
    sealed: bool,
    cpu_image: str | None,
    settings: dict[str, Any],
    now: float | None = None,
    job: str | None = None,
) -> tuple[int, bool]:
    """Return (eid, whether it is new).

    What is there already keeps its settings, unless it had been let go; a new image or a seal is taken over. What a *job*
    of the server brings is a candidate until the job lets it in.
    """
    user, _, name = repo.partition("/")
    con.execute("INSERT INTO repos(user, name) VALUES (?, ?) ON CONFLICT DO NOTHING", (user, name))
    rid = con.execute("SELECT rid FROM repos WHERE user = ? AND name = ?", (user, name)).fetchone()[0]
    known = con.execute(
        "SELECT eid, sealed, live, cpu_image FROM entries WHERE rid = ? AND mid = ?", (rid, mid)
    ).fetchone()
    if known is not None:
        eid, was_sealed, was_live, image = known
        con.execute(
            "UPDATE entries SET sealed = ?, live = ?, cpu_image = ? WHERE eid = ?",
            (int(sealed or was_sealed), int(was_live or job is None), cpu_image or image, eid),
        )
        con.execute(
            "UPDATE entries SET settings = ? WHERE eid = ? AND settings = '{}'", (json.dumps(settings), eid)
        )
        if not was_live and job is not None:
            add_candidate(con, eid, job)
        elif not was_live or (cpu_image or image) != image:
            touch(con, eid)
        return int(eid), not was_live
    cursor = con.execute(
        "INSERT INTO entries(rid, mid, seq, added, sealed, live, cpu_image, settings) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            rid,
            mid,
            next_seq(con),
            time.time() if now is None else now,
            int(sealed),
            int(job is None),
            cpu_image,
            json.dumps(settings),
        ),
    )
    eid = int(cursor.lastrowid or 0)
    if job is not None:
        add_candidate(con, eid, job)
    return eid, True


def let_in(con: sqlite3.Connection, eid: int) -> bool:
    """Make a candidate live: it is in every plan and listing from now on, as the newest.

    False where the model was let go of meanwhile, and so has neither files nor settings any more.
    """
    con.execute("DELETE FROM candidates WHERE eid = ?", (eid,))
    changed = con.execute(
        "UPDATE entries SET live = 1, added = ? WHERE eid = ? AND NOT live AND sealed", (time.time(), eid)
    )
    if changed.rowcount:
        touch(con, eid)
    return is_live(con, eid)


def is_live(con: sqlite3.Connection, eid: int) -> bool:
    """Whether the entry is in plans and listings."""
    return con.execute("SELECT 1 FROM entries WHERE eid = ? AND live", (eid,)).fetchone() is not None


def change_entry(
    con: sqlite3.Connection, eid: int, *, settings: dict[str, Any], cpu_image: str | None
) -> None:
    """Set what is wanted for (repo, model)."""
    con.execute(
        "UPDATE entries SET settings = ?, cpu_image = ? WHERE eid = ?",
        (json.dumps(settings, sort_keys=True), cpu_image, eid),
    )
    touch(con, eid)


def kept_ones(con: sqlite3.Connection, eids: Sequence[int]) -> set[int]:
    """Return those of *eids* that are in plans and listings, or the candidate of a job, and so may have outcomes."""
    rows = con.execute(
        "SELECT e.eid FROM entries e WHERE e.eid IN (SELECT value FROM json_each(?)) "
        "AND (live OR EXISTS (SELECT 1 FROM candidates c WHERE c.eid = e.eid))",
        (json.dumps(eids),),
    )
    return {eid for (eid,) in rows}


def retire(con: sqlite3.Connection, eid: int) -> None:
    """Take the entry out of every plan and listing; its attempts stay, its outcomes are released."""
    con.execute(
        "UPDATE entries SET live = 0, sealed = 0, settings = '{}', cpu_image = NULL WHERE eid = ?", (eid,)
    )
    for table in ("outcomes", "pending", "pins"):
        con.execute(f"DELETE FROM {table} WHERE eid = ?", (eid,))
    con.execute("DELETE FROM links WHERE eid = ?", (eid,))


def links(con: sqlite3.Connection) -> list[Link]:
    """Return every live directory."""
    rows = con.execute("SELECT path, repo, eid, declared, memo FROM links ORDER BY path")
    return [Link(path, repo, eid, bool(declared), memo) for path, repo, eid, declared, memo in rows]


def add_link(con: sqlite3.Connection, link: Link) -> None:
    """Remember a live directory and what it looked like; the entry that it was before is superseded."""
    before = con.execute("SELECT eid FROM links WHERE path = ?", (link.path,)).fetchone()
    con.execute(
        "INSERT OR REPLACE INTO links(path, repo, eid, declared, memo) VALUES (?, ?, ?, ?, ?)",
        (link.path, link.repo, link.eid, int(link.declared), link.memo),
    )
    if before and before[0] not in (None, link.eid):
        supersede(con, before[0])


def supersede(con: sqlite3.Connection, eid: int) -> None:
    """Take an entry that no link leads to any more out of the plans; its outcomes stay for when it comes back."""
    if con.execute("SELECT 1 FROM links WHERE eid = ?", (eid,)).fetchone() is None:
        con.execute("UPDATE entries SET live = 0 WHERE eid = ? AND NOT sealed", (eid,))


def drop_links(con: sqlite3.Connection, paths: Iterable[str]) -> None:
    """Forget live directories."""
    for path in paths:
        row = con.execute("SELECT eid FROM links WHERE path = ?", (path,)).fetchone()
        con.execute("DELETE FROM links WHERE path = ?", (path,))
        if row and row[0] is not None:
            supersede(con, row[0])


def link_of(con: sqlite3.Connection, eid: int) -> str | None:
    """Return the live directory that the entry is now."""
    row = con.execute("SELECT path FROM links WHERE eid = ? ORDER BY path LIMIT 1", (eid,)).fetchone()
    return row[0] if row else None


def put_parts(con: sqlite3.Connection, parts: Iterable[tuple[str, str, bytes]]) -> None:
    """Store manifest parts by digest."""
    con.executemany(
        "INSERT OR IGNORE INTO parts(digest, kind, blob) VALUES (?, ?, ?)",
        ((bytes.fromhex(digest), kind, blob) for digest, kind, blob in parts),
    )


def part(con: sqlite3.Connection, digest: str) -> tuple[str, bytes] | None:
    """Return (kind, blob) of a part."""
    row = con.execute("SELECT kind, blob FROM parts WHERE digest = ?", (bytes.fromhex(digest),)).fetchone()
    return (row[0], row[1]) if row else None


def has_part(con: sqlite3.Connection, digest: bytes) -> bool:
    """Whether a part is kept."""
    return con.execute("SELECT 1 FROM parts WHERE digest = ?", (digest,)).fetchone() is not None


def put_memo(con: sqlite3.Connection, name: str, value: bytes) -> None:
    """Keep a memo."""
    con.execute("INSERT OR REPLACE INTO memos VALUES (?, ?)", (name, value))


def drop_memo(con: sqlite3.Connection, name: str) -> None:
    """Forget a memo."""
    con.execute("DELETE FROM memos WHERE name = ?", (name,))
