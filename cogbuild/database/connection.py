"""Opening the database, and writing to it with commits that threads share."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

from cogbuild.database.schema import APPLICATION_ID, FORMAT, STEPS
from cogbuild.errors.state import (
    DatabaseBroken,
    DatabaseBusy,
    DatabaseTooNew,
    DiskFull,
    DiskTrouble,
    ReadOnlyData,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Database"]

T = TypeVar("T")

# Long enough for another process's large transaction; a holder that died releases its lock at once.
_BUSY_SECONDS = 60.0
# Milliseconds for which others may keep us from having a database on a full disk for ourselves.
_PATIENCE_ALONE = 1000
# Seconds that a commit waits for company.
_LINGER = 0.004


class _Job:
    """One caller's part of a shared transaction."""

    def __init__(self, work: Callable[[sqlite3.Connection], Any]) -> None:
        self.work = work
        self.done = threading.Event()
        self.result: Any = None
        self.error: BaseException | None = None


class _Held:
    """A connection that is closed with the thread that holds it."""

    def __init__(self, con: sqlite3.Connection) -> None:
        self.con = con
        self.pid = os.getpid()

    def __del__(self) -> None:
        if self.pid == os.getpid():
            self.con.close()


def _no_room(directory: Path) -> bool:
    """Whether the disk has no room for another file; SQLite says only that it can't open one."""
    try:
        disk = os.statvfs(directory)
    except OSError:
        return False
    return disk.f_bavail == 0 or (disk.f_files > 0 and disk.f_favail == 0)


def _statements(found: int) -> list[str]:
    """Return what leads from the format *found* to the current one."""
    return [statement for step in STEPS[found:] for statement in step.strip().split(";\n")]


class Database:
    """The Cog database at *path*; made when it is first written to.

    Connections belong to one thread of one process and are opened when first used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._turn = threading.Lock()
        self._queue: list[_Job] = []
        self._queue_lock = threading.Lock()
        self._all: weakref.WeakSet[_Held] = weakref.WeakSet()
        self._alone = False  # the connection that we have keeps everybody else out

    @property
    def con(self) -> sqlite3.Connection:
        """The connection of the calling thread, for reading."""
        held: _Held | None = getattr(self._local, "held", None)
        if held is None or held.pid != os.getpid():
            held = self._local.held = _Held(self._open())
            self._all.add(held)
        return held.con

    def write(self, work: Callable[[sqlite3.Connection], T], *, company: int = 1) -> T:
        """Run *work* in a transaction and return its result once that is durable.

        Calls of several threads that meet share one commit: the first to get its turn runs them all. An error of one
        caller's work undoes that work alone. A commit costs more than most work, so where *company* others are likely
        to call soon, they are waited for, a few milliseconds at most.
        """
        job = _Job(work)
        with self._queue_lock:
            self._queue.append(job)
        with self._turn:
            if not job.done.is_set():
                deadline = time.monotonic() + _LINGER
                while len(self._queue) < company and time.monotonic() < deadline:
                    time.sleep(_LINGER / 4)
                with self._queue_lock:
                    batch, self._queue = self._queue, []
                self._run(batch)
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result

    def close(self) -> None:
        """Close the connections that this process opened."""
        for held in list(self._all):
            held.con.close()
        self._all.clear()
        self._alone = False
        self._local = threading.local()

    def _run(self, batch: list[_Job]) -> None:
        try:
            con = self.con
            con.execute("BEGIN IMMEDIATE")
            try:
                if len(batch) == 1:
                    batch[0].result = batch[0].work(con)
                else:
                    for job in batch:
                        self._run_job(con, job)
                con.execute("COMMIT")
            except BaseException:
                if con.in_transaction:
                    con.execute("ROLLBACK")
                raise
        except BaseException as trouble:  # noqa: BLE001 - every caller of the batch hears of it
            for job in batch:
                job.error = self._worded(trouble)
        for job in batch:
            job.done.set()

    def _run_job(self, con: sqlite3.Connection, job: _Job) -> None:
        con.execute("SAVEPOINT job")
        try:
            job.result = job.work(con)
        except Exception as trouble:
            if not con.in_transaction:  # a full disk or a broken file took the whole transaction with it
                raise
            job.error = self._worded(trouble)
            con.execute("ROLLBACK TO job")
        con.execute("RELEASE job")

    def _worded(self, trouble: BaseException) -> BaseException:
        if not isinstance(trouble, sqlite3.Error):
            return trouble
        text = str(trouble)
        error: Exception
        refused = "readonly" in text or "unable to open" in text
        if "full" in text or (refused and _no_room(self.path.parent)):
            error = DiskFull(path=self.path, reason=text)
        elif refused:
            error = ReadOnlyData(path=self.path.parent, reason=text)
        elif "disk I/O" in text:
            error = DiskTrouble(path=self.path, reason=text)
        elif "locked" in text:
            error = DatabaseBusy(database=self.path, reason=text)
        else:
            error = DatabaseBroken(database=self.path, reason=text)
        error.__cause__ = trouble
        return error

    def _open(self) -> sqlite3.Connection:
        try:
            if self._alone:  # another thread of ours would wait for this one
                raise sqlite3.OperationalError("database or disk is full")
            try:
                con = self._connect()
                try:
                    self._prepare(con)
                except BaseException:
                    con.close()
                    raise
            except sqlite3.OperationalError as trouble:
                # A directory that can't be written still answers questions, and so does a full disk.
                if self.path.exists() and isinstance(self._worded(trouble), DiskTrouble):
                    con = self._on_full_disk()
                elif not self.path.exists() or os.access(self.path.parent, os.W_OK):
                    raise
                else:
                    con = self._read_only()
        except sqlite3.Error as trouble:
            raise self._worded(trouble) from trouble
        return con

    def _connect(self, query: str = "") -> sqlite3.Connection:
        name: str | bytes = os.fsencode(self.path)
        if query:
            from urllib.parse import quote

            name = f"file:{quote(os.fsencode(self.path))}?{query}"
        con = sqlite3.connect(
            name, uri=bool(query), isolation_level=None, timeout=_BUSY_SECONDS, check_same_thread=False
        )
        con.execute("PRAGMA foreign_keys=OFF")
        return con

    def _on_full_disk(self) -> sqlite3.Connection:
        try:
            return self._without_index()
        except sqlite3.OperationalError:  # not even an empty log can be made, so there is none
            return self._read_only()

    def _without_index(self) -> sqlite3.Connection:
        """Open where the disk has no room for the log's index: it is kept in our memory, and nobody else gets in.

        Whoever had the database open already would have made the index.
        """
        if len(self._all):  # one thread of ours would wait for another
            raise sqlite3.OperationalError("database or disk is full")
        con = self._connect("mode=rw")
        try:
            con.execute(f"PRAGMA busy_timeout={_PATIENCE_ALONE}")
            con.execute("PRAGMA locking_mode=EXCLUSIVE")
            con.execute("PRAGMA synchronous=FULL")
            self._as_if_current(con)
        except BaseException:
            con.close()
            raise
        self._alone = True
        return con

    def _read_only(self) -> sqlite3.Connection:
        con = self._connect("mode=ro")
        try:
            con.execute("SELECT 1 FROM meta").fetchone()
        except sqlite3.OperationalError:  # the log's index can't be made there: read the file as it is
            con.close()
            con = self._connect("mode=ro&immutable=1")
        self._as_if_current(con)
        return con

    def _prepare(self, con: sqlite3.Connection) -> None:
        con.execute("PRAGMA synchronous=FULL")
        con.execute("PRAGMA cache_size=-1000")  # kB; each thread has one
        if self._check_format(con) == FORMAT:
            return
        con.execute("PRAGMA journal_mode=WAL")
        con.execute("BEGIN IMMEDIATE")
        for statement in _statements(self._check_format(con)):  # none where somebody was faster
            con.execute(statement)
        con.execute(f"PRAGMA application_id={APPLICATION_ID}")
        con.execute(f"PRAGMA user_version={FORMAT}")
        con.execute("COMMIT")

    def _as_if_current(self, con: sqlite3.Connection) -> None:
        """Have an older database that can't be written read as the current format: what is newer is there, and empty."""
        con.execute("PRAGMA temp_store=MEMORY")
        found = self._check_format(con)
        for statement in _statements(found) if found else ():  # 0: no database of ours
            if statement.startswith("CREATE TABLE"):  # indexes of tables that are there are only faster
                con.execute(statement.replace("CREATE TABLE", "CREATE TEMP TABLE", 1))

    def _check_format(self, con: sqlite3.Connection) -> int:
        found: int = con.execute("PRAGMA user_version").fetchone()[0]
        if found > FORMAT:
            con.close()
            raise DatabaseTooNew(database=self.path, written=f"format {found}", readable=f"format {FORMAT}")
        return found
