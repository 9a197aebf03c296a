"""One execution per action key across threads and processes, by locks that the kernel releases.

All keys share one file: a key's lock is one byte of it at an offset made from the key (open file description locks,
``fcntl(2)``). So a killed holder's lock is gone at once, no file per key stays behind, and no child inherits a lock,
because the descriptor is closed on exec.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["Flights"]

_FLOCK = struct.Struct("@hhqqi")
_DIGITS = 15  # of a key, that make the offset of its lock
_LONGEST_WAIT = 0.1  # seconds between two looks


class Flights:
    """The locks of all keys in the lock file *path*.

    Descriptors are kept for further keys: opening a file costs more than locking it.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._spare: list[int] = []

    @contextlib.contextmanager
    def held(
        self, name: str, *, waiting: Callable[[], None], cancelled: Callable[[], bool]
    ) -> Iterator[bool]:
        """Hold the lock of *name* (hex digits); yield False if cancelled while waiting.

        *waiting* is called once when somebody else holds it.
        """
        fd = self._descriptor()
        try:
            yield _take(fd, int(name[:_DIGITS], 16), waiting, cancelled)
        except BaseException:
            os.close(fd)  # releases the lock whatever happened
            raise
        self.let_go(name, fd)

    def take(self, name: str) -> int | None:
        """Take the lock of *name* and return what ``let_go`` wants; None where somebody holds it."""
        fd = self._descriptor()
        if _try(fd, int(name[:_DIGITS], 16)):
            return fd
        self._spare.append(fd)
        return None

    def let_go(self, name: str, fd: int) -> None:
        """Release what was taken."""
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _request(fcntl.F_UNLCK, int(name[:_DIGITS], 16)))
        self._spare.append(fd)

    def _descriptor(self) -> int:
        try:
            return self._spare.pop()
        except IndexError:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def close(self) -> None:
        """Close what is kept."""
        while self._spare:
            os.close(self._spare.pop())


def _request(kind: int, offset: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, offset, 1, 0)


def _try(fd: int, offset: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _request(fcntl.F_WRLCK, offset))
    except OSError as trouble:
        if trouble.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        return False
    return True


def _take(fd: int, offset: int, waiting: Callable[[], None], cancelled: Callable[[], bool]) -> bool:
    pause = 0.002
    told = False
    while not _try(fd, offset):
        if not told:
            waiting()
            told = True
        if cancelled():
            return False
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_WAIT)
    return True
