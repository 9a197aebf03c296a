"""Jobs of the server and the models that they have not let in yet: functions over an open connection."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Sequence

__all__ = [
    "ENDED",
    "JobRow",
    "add",
    "add_candidate",
    "brought_by_another",
    "drop",
    "drop_candidates",
    "end",
    "find",
    "known_once",
    "last",
    "lately",
    "listed",
    "next_queued",
    "old",
    "requeue",
    "set_model",
    "start",
    "under_way",
    "unwant",
]

#: The states that a job does not leave.
ENDED = ("done", "failed", "cancelled")


@dataclass(frozen=True)
class JobRow:
    """One job."""

    jid: int
    id: str
    kind: str  # "upload", "adapt" or "backfill"
    state: str  # "queued", "running", "done", "failed" or "cancelled"
    priority: int  # the highest goes first
    repo: str | None
    model: str | None
    request: dict[str, Any]  # what it was asked for
    owner: str  # the token that asked
    created: float
    started: float | None
    ended: float | None
    exit_code: int | None

    @property
    def unwanted(self) -> bool:
        """Whether it was cancelled while it ran: it ends, and never begins again."""
        return bool(self.request.get("cancelled"))


_JOB = "SELECT jid, id, kind, state, priority, repo, model, request, owner, created, started, ended, exit_code FROM jobs "


def _job(row: Sequence[Any]) -> JobRow:
    jid, name, kind, state, priority, repo, model, request, *rest = row
    return JobRow(jid, name, kind, state, priority, repo, model, json.loads(request), *rest)


def add(
    con: sqlite3.Connection,
    *,
    job: str,
    kind: str,
    priority: int,
    repo: str | None,
    model: str | None,
    request: dict[str, Any],
    owner: str,
    once: str | None,
) -> JobRow:
    """Queue a job and return it; what the same owner asked for under the same *once* is not asked for again."""
    known = known_once(con, owner, once)
    if known is not None:
        return known
    con.execute(
        "INSERT INTO jobs(id, kind, state, priority, repo, model, request, owner, once, created) "
        "VALUES (?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?)",
        (job, kind, priority, repo, model, json.dumps(request), owner, once, time.time()),
    )
    added = find(con, job)
    assert added is not None
    return added


def known_once(con: sqlite3.Connection, owner: str, once: str | None) -> JobRow | None:
    """Return the job that *owner* asked for under *once*."""
    if once is None:
        return None
    row = con.execute(_JOB + "WHERE owner = ? AND once = ?", (owner, once)).fetchone()
    return _job(row) if row else None


def find(con: sqlite3.Connection, job: str) -> JobRow | None:
    """Return one job."""
    row = con.execute(_JOB + "WHERE id = ?", (job,)).fetchone()
    return _job(row) if row else None


def listed(
    con: sqlite3.Connection,
    *,
    before: int | None = None,
    limit: int = 100,
    reads: Callable[[JobRow], bool] = lambda _: True,
) -> list[JobRow]:
    """Return so many jobs of which *reads* says yes, the newest first; those before the number *before* where it is given."""
    rows = con.execute(_JOB + "WHERE jid < ? ORDER BY jid DESC", (2**62 if before is None else before,))
    return list(islice(filter(reads, map(_job, rows)), limit))


def last(con: sqlite3.Connection, kind: str) -> JobRow | None:
    """Return the newest job of a kind."""
    row = con.execute(_JOB + "WHERE kind = ? ORDER BY jid DESC LIMIT 1", (kind,)).fetchone()
    return _job(row) if row else None


def under_way(con: sqlite3.Connection) -> list[JobRow]:
    """Return the jobs that are queued or running, those that go first first."""
    rows = con.execute(_JOB + "WHERE state IN ('queued', 'running') ORDER BY priority DESC, jid")
    return [_job(row) for row in rows]


def next_queued(con: sqlite3.Connection, kinds: Sequence[str]) -> JobRow | None:
    """Return the queued job of *kinds* that goes first."""
    row = con.execute(
        _JOB + "WHERE state IN ('queued', 'running') AND state = 'queued' "
        f"AND kind IN ({','.join('?' * len(kinds))}) ORDER BY priority DESC, jid LIMIT 1",
        list(kinds),
    ).fetchone()
    return _job(row) if row else None


def start(con: sqlite3.Connection, job: str) -> None:
    """Say that a job runs."""
    con.execute("UPDATE jobs SET state = 'running', started = ? WHERE id = ?", (time.time(), job))


def requeue(con: sqlite3.Connection, jobs: Iterable[str]) -> None:
    """Say that jobs are to begin again."""
    con.executemany("UPDATE jobs SET state = 'queued', started = NULL WHERE id = ?", [(job,) for job in jobs])


def unwant(con: sqlite3.Connection, job: str) -> None:
    """Say that a job is to end which somebody works at; one that has ended stays as it is."""
    con.execute(
        "UPDATE jobs SET request = json_set(request, '$.cancelled', json('true')) "
        "WHERE id = ? AND state IN ('queued', 'running')",
        (job,),
    )


def end(con: sqlite3.Connection, job: str, state: str, exit_code: int) -> None:
    """Say how a job ended."""
    con.execute(
        "UPDATE jobs SET state = ?, ended = ?, exit_code = ? WHERE id = ?",
        (state, time.time(), exit_code, job),
    )


def old(con: sqlite3.Connection, before: float) -> list[str]:
    """Return the IDs of the jobs that ended before the time *before*."""
    return [job for (job,) in con.execute("SELECT id FROM jobs WHERE ended < ? ORDER BY jid", (before,))]


def lately(con: sqlite3.Connection, seconds: float) -> list[JobRow]:
    """Return the jobs that ended so many seconds before the last one at most, whenever that was."""
    rows = con.execute(_JOB + "WHERE ended >= (SELECT max(ended) FROM jobs) - ? ORDER BY jid", (seconds,))
    return [_job(row) for row in rows]


def drop(con: sqlite3.Connection, jobs: Iterable[str]) -> None:
    """Forget jobs that have ended."""
    con.executemany("DELETE FROM jobs WHERE id = ? AND ended IS NOT NULL", [(job,) for job in jobs])


def set_model(con: sqlite3.Connection, job: str, model: str) -> None:
    """Say which model a job turned out to be about."""
    con.execute("UPDATE jobs SET model = ? WHERE id = ?", (model, job))


def add_candidate(con: sqlite3.Connection, eid: int, job: str) -> None:
    """Say that a job has brought an entry that is not live yet: it is in nobody's plan or listing but the job's."""
    con.execute("INSERT OR IGNORE INTO candidates VALUES (?, ?)", (eid, job))


def brought_by_another(con: sqlite3.Connection, eid: int, job: str) -> bool:
    """Whether a job other than *job* has brought the entry too, and has not let it in."""
    row = con.execute("SELECT 1 FROM candidates WHERE eid = ? AND job <> ?", (eid, job)).fetchone()
    return row is not None


def drop_candidates(con: sqlite3.Connection, job: str) -> list[int]:
    """Forget what a job has brought; return the entries that no other job has brought as well, and nobody let in."""
    brought = [eid for (eid,) in con.execute("SELECT eid FROM candidates WHERE job = ?", (job,))]
    con.execute("DELETE FROM candidates WHERE job = ?", (job,))
    return [eid for eid in brought if not _candidate(con, eid)]


def _candidate(con: sqlite3.Connection, eid: int) -> bool:
    return con.execute("SELECT 1 FROM candidates WHERE eid = ?", (eid,)).fetchone() is not None
