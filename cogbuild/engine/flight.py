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
        try:
            fd = self._spare.pop()
        except IndexError:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            offset = int(name[:15], 16)
            yield _take(fd, offset, waiting, cancelled)
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, offset, 1, 0))
        except BaseException:
            os.close(fd)  # releases the lock whatever happened
            raise
        self._spare.append(fd)

    def close(self) -> None:
        """Close what is kept."""
        while self._spare:
            os.close(self._spare.pop())


def _take(fd: int, offset: int, waiting: Callable[[], None], cancelled: Callable[[], bool]) -> bool:
    request = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)
    pause = 0.002
    told = False
    while True:
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, request)
        except OSError as trouble:
            if trouble.errno not in (errno.EACCES, errno.EAGAIN):
                raise
        else:
            return True
        if not told:
            waiting()
            told = True
        if cancelled():
            return False
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_WAIT)
