"""A directory that looks empty to commands, but for what each may see in it."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from cogbuild.process.worker import kernel

__all__ = ["Curtain", "below"]

# What a mount inherited may be locked by the owner of the outer namespace and has to be named again.
_KEPT = (1, 2, 4, 8, 1024, 2048)
_ST_RELATIME = 4096


class Curtain:
    """An empty read-only directory over a real one; what is shown through it changes from command to command."""

    def __init__(self, path: bytes) -> None:
        self.path = path
        self._behind = os.open(path, os.O_PATH | os.O_CLOEXEC)
        self._front = -1  # the same empty directory, writable: mount points are made here
        self._shown: dict[tuple[bytes, bool], int] = {}

    def covers(self, path: bytes) -> bool:
        """Whether *path* lies behind."""
        return below(path, self.path)

    def behind(self, path: bytes) -> int:
        """Open what really lies at *path*."""
        try:
            return os.open(self._rest(path) or b".", os.O_PATH | os.O_CLOEXEC, dir_fd=self._behind)
        except OSError as error:
            error.filename = path
            raise

    def draw(self) -> None:
        """Hide the directory."""
        kernel.mount(b"tmpfs", self.path, b"tmpfs", kernel.SAFE, b"size=1m,nr_inodes=4096,mode=755")
        self._front = os.open(self.path, os.O_PATH | os.O_CLOEXEC)
        kernel.mount(kernel.path_of(self._front), self.path, b"", kernel.MS_BIND)
        kernel.mount(b"", self.path, b"", kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | kernel.SAFE)

    def show(self, wanted: list[tuple[bytes, bool]]) -> None:
        """Show exactly the paths in *wanted*, each with whether it is read-only; those above others first."""
        gone = [
            item for item, fd in self._shown.items() if item not in wanted or not self._is_still(item[0], fd)
        ]
        for item in reversed(gone):
            fd = self._shown.pop(item)
            kernel.umount(kernel.path_of(fd))
            os.close(fd)
            with suppress(OSError):  # it lies in another path that is shown
                point = self._point(item[0])
                os.rmdir(point) if os.path.isdir(point) else os.unlink(point)
        for path, readonly in wanted:
            if (path, readonly) not in self._shown:
                self._shown[path, readonly] = self._bound(path, readonly=readonly)

    def make(self, path: bytes) -> None:
        """Let there be a directory at *path* to mount something on."""
        if not os.path.isdir(path):
            os.makedirs(self._point(path), 0o755)

    def close(self) -> None:
        """Let go of everything; what is mounted is for others to unmount."""
        for fd in (self._behind, self._front, *self._shown.values()):
            if fd >= 0:
                os.close(fd)

    def _is_still(self, path: bytes, fd: int) -> bool:
        """Whether what *fd* shows is what lies at *path* now; it may have been removed and made anew."""
        source = self.behind(path)
        try:
            ours, theirs = os.fstat(fd), os.fstat(source)
        finally:
            os.close(source)
        return ours.st_nlink > 0 and (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)

    def _rest(self, path: bytes) -> bytes:
        return path[len(self.path) :].strip(b"/")

    def _point(self, path: bytes) -> bytes:
        return kernel.path_of(self._front) + b"/" + self._rest(path)

    def _bound(self, path: bytes, *, readonly: bool) -> int:
        source = self.behind(path)
        try:
            if stat.S_ISDIR(os.fstat(source).st_mode):
                self.make(path)
            elif not os.path.lexists(path):
                self.make(os.path.dirname(path))
                os.mknod(self._point(path), stat.S_IFREG | 0o644)
            kernel.mount(kernel.path_of(source), path, b"", kernel.MS_BIND | kernel.MS_REC)
            if readonly:
                flags = os.statvfs(path).f_flag
                kept = sum(flag for flag in _KEPT if flags & flag)
                kept |= kernel.MS_RELATIME if flags & _ST_RELATIME else 0
                kernel.mount(b"", path, b"", kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | kept)
        finally:
            os.close(source)
        return os.open(path, os.O_PATH | os.O_CLOEXEC)


def below(path: bytes, top: bytes) -> bool:
    """Whether *path* is *top* or lies below it."""
    return path == top or path.startswith(top.rstrip(b"/") + b"/")
