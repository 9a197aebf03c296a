"""Who uses the stores of bytes: builds and additions share a lock, and ``gc`` collects only while it has it alone.

Whoever reads or makes bytes that no row of the database speaks of yet is inside :func:`using`. The kernel releases the
lock when its holder ends, however that ends, and no child inherits it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["alone", "using"]


def lock_file(data: Path) -> Path:
    """Return the file that is locked."""
    return data / "work" / "gc.lock"


@contextlib.contextmanager
def using(data: Path, tidy: Callable[[], object] | None = None) -> Iterator[None]:
    """Keep ``gc`` from collecting in the data directory; waits for one that is at it.

    Where nobody else is at work there, *tidy* is called first: whatever looks half done is nobody's.
    """
    fd = _opened(data)
    if fd is None:
        yield
        return
    try:
        if tidy is not None and _taken(fd, wait=False):
            tidy()
        fcntl.flock(fd, fcntl.LOCK_SH)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def alone(data: Path, *, wait: bool = False) -> Iterator[bool]:
    """Yield whether nobody else uses the stores of the data directory, and nobody begins to until this ends."""
    fd = _opened(data)
    if fd is None:
        yield False
        return
    try:
        yield _taken(fd, wait=wait)
    finally:
        os.close(fd)


def _taken(fd: int, *, wait: bool) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _opened(data: Path) -> int | None:
    """Return the open lock file; None in a data directory that can't be written, where nothing is collected either."""
    path = lock_file(data)
    try:
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as trouble:
        if trouble.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        return None
