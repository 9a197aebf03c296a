"""The private, throw-away view of a model in which an adapter runs.

An overlay where the machine allows one: it costs the same for any model. Else a copy, by reflink where the file
system shares blocks. Whatever the adapter does there, the model never changes.

All workspaces of one ``Workspaces`` lie in one directory with a lock on itself, which the kernel releases when the
process that holds it ends, however it ends. ``sweep`` removes the directories whose lock is free.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cogbuild.process import Protection, View
from cogbuild.process.tree import remove_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

__all__ = ["Workspace", "Workspaces", "is_free", "open_workspace", "sweep"]

_FICLONE = 0x40049409
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_CHUNK = 1 << 30


class Workspace:
    """A model directory as one adapter run sees it; what was done to it goes when it is closed."""

    def __init__(self, root: Path, view: View | None, close: Callable[[], None]) -> None:
        self.root = root
        self.view = view  # None: root is a copy
        self.close = close

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Workspaces:
    """The workspaces of one run of cogbuild, in a directory of their own below *parent*.

    What an overlay was mounted on is still empty afterwards, so it serves again: making and removing a directory
    costs more than all the rest of a workspace.
    """

    def __init__(self, parent: Path, protection: Protection) -> None:
        self._protection = protection
        self._guard = threading.Lock()
        self._count = 0
        self._spare: list[Path] = []
        #: Private to this process; swept when it is gone.
        self.directory, self._lock = _locked_directory(parent)

    def open(
        self,
        model: Path,
        *,
        masked: Sequence[str] = (),
        large_writes: bool = False,
        memory_limit: int = 2 << 30,
        sealed: bool = False,
        copy: bool = False,
    ) -> Workspace:
        """Make a workspace for the directory *model*, in which the *masked* paths are not there.

        *sealed* says that the model never changes and lies, like others, in a directory of the store; that is faster.
        *large_writes* sends what is written to disk; otherwise it may take *memory_limit* bytes of memory. *copy*
        makes a copy where an overlay was refused for this model (``Ended.view_failed``).
        """
        if copy or not self._protection.overlay:
            directory = self._fresh()
            root = directory / "model"
            try:
                _copy_tree(model, root, {os.path.normpath(path) for path in masked})
            except BaseException:
                remove_tree(directory)
                raise
            return Workspace(root, None, lambda: remove_tree(directory))
        if large_writes:
            directory = self._fresh()
            root, disk = directory / "model", directory / "disk"
            root.mkdir()
            disk.mkdir()
            view = View(root, (model,), tuple(masked), disk=disk)
            return Workspace(root, view, lambda: remove_tree(directory))
        with self._guard:
            spare = self._spare.pop() if self._spare else None
        root = spare or self._fresh()
        view = View(root, (model,), tuple(masked), memory_limit=memory_limit, sealed=sealed)
        return Workspace(root, view, lambda: self._spare.append(root))

    def _fresh(self) -> Path:
        with self._guard:
            self._count += 1
            directory = self.directory / f"{self._count:x}"
        directory.mkdir()
        return directory

    def close(self) -> None:
        """Remove them all, then let go of the lock."""
        try:
            remove_tree(self.directory)
        finally:
            os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_workspace(
    model: Path,
    parent: Path,
    *,
    masked: Sequence[str] = (),
    large_writes: bool = False,
    memory_limit: int = 2 << 30,
    protection: Protection,
) -> Workspace:
    """Make a single workspace below *parent*; the words are those of ``Workspaces.open``."""
    many = Workspaces(parent, protection)
    try:
        one = many.open(model, masked=masked, large_writes=large_writes, memory_limit=memory_limit)
    except BaseException:
        many.close()
        raise
    return Workspace(one.root, one.view, many.close)


def sweep(parent: Path) -> list[Path]:
    """Remove the workspaces below *parent* whose process is gone; return them."""
    removed = []
    with suppress(FileNotFoundError):
        for entry in list(os.scandir(parent)):
            if entry.is_dir(follow_symlinks=False) and (lock := _locked(entry.path)) is not None:
                try:
                    remove_tree(entry.path)
                finally:
                    os.close(lock)
                removed.append(Path(entry.path))
    return removed


def is_free(directory: Path) -> bool:
    """Whether the process that made the workspaces in *directory* is gone."""
    lock = _locked(directory)
    if lock is None:
        return False
    os.close(lock)
    return True


def _locked_directory(parent: Path) -> tuple[Path, int]:
    while True:
        directory = parent / os.urandom(8).hex()
        try:
            os.mkdir(directory, 0o755)
        except FileNotFoundError:
            parent.mkdir(parents=True, exist_ok=True)
            continue
        lock = _locked(directory)
        # A sweep may come in between: then it holds the lock, or has removed the directory with it.
        if lock is not None:
            if os.fstat(lock).st_nlink:
                return directory, lock
            os.close(lock)


def _locked(directory: str | Path) -> int | None:
    """Lock a directory and return the descriptor that holds the lock; None where another does."""
    try:
        lock = os.open(directory, _READ | os.O_DIRECTORY)
    except PermissionError:
        os.chmod(directory, 0o700)
        lock = os.open(directory, _READ | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _copy_tree(source: Path, target: Path, masked: set[str]) -> None:
    """Copy files, executable bits and symlinks, all writable for their owner; *masked* paths are left out."""
    pending = [""]
    while pending:
        below = pending.pop()
        os.mkdir(target / below, 0o755)
        for entry in os.scandir(source / below):
            path = os.path.join(below, entry.name)
            if path in masked:
                continue
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), target / path)
            elif entry.is_dir():
                pending.append(path)
            elif entry.is_file():
                _copy_file(entry.path, target / path)


def _copy_file(source: str, target: Path) -> None:
    reading = os.open(source, _READ)
    try:
        seen = os.fstat(reading)
        mode = stat.S_IMODE(seen.st_mode) & 0o111 | 0o644
        writing = os.open(target, _WRITE, mode)
        try:
            _copy_content(reading, writing)
            os.fchmod(writing, mode)
            os.utime(writing, ns=(seen.st_atime_ns, seen.st_mtime_ns))
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _copy_content(reading: int, writing: int) -> None:
    # Any refusal means that these two file systems share no blocks; what is wrong with the disk shows below too.
    with suppress(OSError):
        fcntl.ioctl(writing, _FICLONE, reading)
        return
    try:
        while os.copy_file_range(reading, writing, _CHUNK):
            pass
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        while os.sendfile(writing, reading, None, _CHUNK):
            pass
