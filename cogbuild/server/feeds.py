"""What jobs have said: a file of lines a job, followed from any line on while it grows."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import threading
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool

from cogbuild.server.messages import is_end, line_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path
    from typing import BinaryIO

__all__ = ["Feed", "Feeds"]

#: Bytes that are read of a log at a time.
_PIECE = 1 << 18
#: Seconds after which who follows hears that the connection is alive.
PULSE = 10.0


class Feed:
    """The lines of one job. One thread at a time writes, any number of requests follow."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._file: Any = None
        self._followers: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self.closed = False

    def say(self, message: dict[str, Any]) -> None:
        """Add a message: all of it or, with an error, nothing."""
        with self._lock:
            self._add(message)
            self._wake()

    def end(self, last: dict[str, Any]) -> None:
        """Add the last message and say that nothing more comes: nobody gets a word in between."""
        with self._lock:
            self._add(last)
            self._close()

    def let_go(self, last: dict[str, Any]) -> None:
        """Say *last* to those who follow, as far as there is room for it, and that nothing more comes now."""
        with self._lock:
            if not self.closed:
                with contextlib.suppress(OSError):
                    self._add(last)
                self._close()

    def close(self) -> None:
        """Say that nothing more comes."""
        with self._lock:
            self._close()

    def _add(self, message: dict[str, Any]) -> None:
        if self._file is None:
            self._file = _opened(self._path)
        line = line_of(message)
        whole = False
        try:
            whole = self._file.write(line) == len(line)
        finally:
            if not whole:
                self._file.close()  # whoever opens it again takes half a line away
                self._file = None
        if not whole:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        for loop, moved in self._followers:
            with contextlib.suppress(RuntimeError):  # its loop has ended
                loop.call_soon_threadsafe(moved.set)

    @contextlib.contextmanager
    def followed(self) -> Iterator[asyncio.Event]:
        """Yield an event that is set whenever something was said."""
        me = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._followers.add(me)
        try:
            yield me[1]
        finally:
            with self._lock:
                self._followers.discard(me)


def _opened(path: Path) -> Any:
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError), path.open("r+b") as before:
        # A power cut or a full disk may have left half a line.
        before.truncate(_end_of_lines(before))
    return path.open("ab", buffering=0)


def _end_of_lines(file: BinaryIO) -> int:
    """Return where the last whole line ends; only what comes after it is read."""
    at = file.seek(0, os.SEEK_END)
    while at:
        start = max(0, at - _PIECE)
        file.seek(start)
        end = file.read(at - start).rfind(b"\n") + 1
        if end:
            return start + end
        at = start
    return 0


def _last_line(path: Path) -> bytes:
    """Return the last whole line, empty where there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            wanted = _PIECE
            while True:
                file.seek(max(0, size - wanted))
                lines = file.read().rpartition(b"\n")[0].split(b"\n")
                if len(lines) > 1 or wanted >= size:
                    return lines[-1]
                wanted *= 2
    except FileNotFoundError:
        return b""


class Feeds:
    """The feeds of all jobs in a directory; those of jobs that have ended are files only."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._open: dict[str, Feed] = {}

    def path(self, job: str) -> Path:
        """Return where the lines of a job are."""
        return self._directory / f"{job}.jsonl"

    def open(self, job: str) -> Feed:
        """Return the feed of a job that is under way."""
        with self._lock:
            if job not in self._open:
                self._open[job] = Feed(self.path(job))
            return self._open[job]

    def close(self, job: str) -> None:
        """Say that a job has ended."""
        with self._lock:
            feed = self._open.pop(job, None)
        if feed is not None:
            feed.close()

    def end(self, job: str, last: dict[str, Any]) -> None:
        """Say the last message of a job. Raises ``OSError`` where there is no room for it."""
        self.open(job).end(last)
        self.close(job)

    def has_end(self, job: str) -> bool:
        """Whether the last message of a job says how it ended."""
        try:
            return is_end(json.loads(_last_line(self.path(job))))
        except ValueError:  # there is none, or what a power cut left of one
            return False

    def tail(self, job: str, most: int) -> tuple[list[bytes], int]:
        """Return the last lines, so many bytes of them at most, and how many there are; no more than that is in memory."""
        try:
            with self.path(job).open("rb") as file:
                end = _end_of_lines(file)
                start = max(0, end - most)
                file.seek(start)
                lines = file.read(end - start).splitlines()
                if start:  # the first of them may be half a line
                    del lines[:1]
                return lines, _count(file, end)
        except FileNotFoundError:
            return [], 0

    def let_go(self, last: dict[str, Any]) -> None:
        """Say *last* to everybody who follows, and let go of them."""
        with self._lock:
            feeds = list(self._open.values())
        for feed in feeds:
            feed.let_go(last)

    def close_all(self) -> None:
        """Close what jobs said after everybody was let go of: they have ended."""
        with self._lock:
            feeds = list(self._open.values())
        for feed in feeds:
            feed.close()

    async def follow(self, job: str, after: int = 0) -> AsyncIterator[list[tuple[int, bytes]] | None]:
        """Yield (number, line) of the messages after the number *after*, until the job has ended; None now and then.

        Those that are there already come many at once: who goes away is noticed only between two sendings.
        """
        with self._lock:
            feed = self._open.get(job)
        if feed is None:
            feed = Feed(self.path(job))
            feed.closed = True
        with feed.followed() as moved:
            number, offset = 0, 0
            while True:
                moved.clear()
                over = feed.closed  # asked before reading: all that was said until then is read now
                while piece := await run_in_threadpool(_read, self.path(job), offset):
                    offset += len(piece)
                    lines = list(enumerate(piece.splitlines(), number + 1))
                    number += len(lines)
                    if wanted := [said for said in lines if said[0] > after]:
                        yield wanted
                if over:
                    return
                try:
                    async with asyncio.timeout(PULSE):
                        await moved.wait()
                except TimeoutError:
                    yield None


def _count(file: BinaryIO, end: int) -> int:
    """Return how many lines end before *end*."""
    file.seek(0)
    found = 0
    while end and (piece := file.read(min(_PIECE, end))):
        found += piece.count(b"\n")
        end -= len(piece)
    return found


def _read(path: Path, offset: int) -> bytes:
    """Return whole lines from *offset* on, empty where there is none yet."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        size = _PIECE
        while True:
            data = os.pread(fd, size, offset)
            end = data.rfind(b"\n") + 1
            if end or len(data) < size:
                return data[:end]
            size *= 2
    finally:
        os.close(fd)
