"""Files copied: durably, hashed on the way, with blocks shared where the file system can."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from cogbuild.digest import LARGE, Hasher, descriptor_digest, update_hasher
from cogbuild.errors.models import FileChangedWhileRead

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["copy_durably", "copy_hashed", "copy_whole", "make_read_only", "remove", "sync_directory"]

# Bytes of a large file that are copied before the next ones are looked at.
_STEP = 64 << 20


def sync_directory(path: Path) -> None:
    """Make the names in *path* durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def copy_durably(source: Path, target: Path, *, mode: int) -> None:
    """Copy a regular file to the new file *target* and fsync it; the kernel shares blocks where it can."""
    with _opened(source, target) as (reader, writer):
        _copy_bytes(reader, writer)
        os.fchmod(writer, mode)
        os.fsync(writer)


def copy_hashed(source: Path, target: Path, *, mode: int) -> str:
    """Copy as :func:`copy_durably` does and return the digest of what was written."""
    with _opened(source, target) as (reader, writer):
        os.fchmod(writer, mode)
        if os.fstat(reader).st_size >= LARGE:
            return _copy_large(reader, writer)
        _copy_bytes(reader, writer)
        os.fsync(writer)
        return descriptor_digest(writer)[0]


@contextlib.contextmanager
def _opened(source: Path, target: Path) -> Iterator[tuple[int, int]]:
    reader = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        writer = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            yield reader, writer
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _copy_large(reader: int, writer: int) -> str:
    """Copy, and meanwhile hash what is written already and have the disk take it: neither waits for the other."""
    from concurrent.futures import Future, ThreadPoolExecutor

    hasher = Hasher(max_threads=Hasher.AUTO)
    hashed: list[Future[int]] = []
    synced = Future[None]()
    synced.set_result(None)
    at = 0
    with ThreadPoolExecutor(1) as hashing, ThreadPoolExecutor(1) as disk:
        while count := _step_over_hole(reader, writer) or _copy_bytes(reader, writer, _STEP):
            hashed.append(hashing.submit(update_hasher, hasher, writer, at, count))
            at += count
            if synced.done():
                synced.result()
                synced = disk.submit(os.fdatasync, writer)
        disk.submit(os.fsync, writer).result()
        synced.result()  # the kernel tells of a lost write once: the last fsync alone would not know
        for part in hashed:
            part.result()
    return hasher.hexdigest()


def _step_over_hole(reader: int, writer: int) -> int:
    """Leave a hole where the source has one now, so that a sparse file takes no room here either; return its length."""
    at, size = os.lseek(reader, 0, os.SEEK_CUR), os.fstat(reader).st_size
    try:
        end = os.lseek(reader, at, os.SEEK_DATA)
    except OSError as trouble:
        if trouble.errno != errno.ENXIO:
            return 0  # a file system that knows of no holes
        end = max(at, size)  # no data up to the end
    os.lseek(reader, end, os.SEEK_SET)
    if end > at:
        os.ftruncate(writer, end)
        os.lseek(writer, end, os.SEEK_SET)
    return end - at


def _copy_bytes(reader: int, writer: int, limit: int | None = None) -> int:
    """Copy to the end of the file, or *limit* bytes at most; return how many it were."""
    at = 0
    while limit is None or at < limit:
        count = _copy_some(reader, writer, _STEP if limit is None else limit - at)
        if not count:
            break
        at += count
    return at


def _copy_some(reader: int, writer: int, most: int) -> int:
    try:
        return os.copy_file_range(reader, writer, most)
    except OSError as trouble:
        if trouble.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF):
            raise
    chunk = os.read(reader, min(most, 1 << 20))
    view = memoryview(chunk)
    while view:
        view = view[os.write(writer, view) :]
    return len(chunk)


def copy_whole(source: Path, target: Path, path: str, contents: Mapping[str, str]) -> None:
    """Copy a file, symlink or directory durably; *contents* has the digests of its files by their paths below the whole.

    Raises ``FileChangedWhileRead`` where a copy is not what it says.
    """
    info = os.lstat(source)
    if stat.S_ISLNK(info.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISDIR(info.st_mode):
        target.mkdir(mode=0o755)
        for item in sorted(os.listdir(source)):
            copy_whole(source / item, target / item, f"{path}/{item}" if path else item, contents)
        sync_directory(target)
    else:
        digest = copy_hashed(source, target, mode=0o555 if info.st_mode & stat.S_IXUSR else 0o444)
        if digest != contents.get(path):
            raise FileChangedWhileRead(file=path or source.name, directory=None)


def make_read_only(path: Path) -> None:
    """Take the right to write from a file, or from all files below a directory."""
    files = [os.path.join(top, name) for top, _, names in os.walk(path) for name in names]
    for file in files or [os.fspath(path)]:
        mode = os.lstat(file).st_mode
        if stat.S_ISREG(mode):
            os.chmod(file, stat.S_IMODE(mode) & 0o555)


def remove(path: Path) -> None:
    """Remove a file or a directory, if it is there."""
    import shutil

    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
