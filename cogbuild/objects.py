"""Digest to bytes: stored once, read-only, found by content; sealed trees; publishing; audit and sweep.

Layout below the data directory: ``objects/ab/cdef…`` holds file contents (``.x``: executable, because one inode has one
mode), ``models/<id>/`` holds trees made of hard links into objects, ``artifacts/ab/cdef…/<name>`` what adapters
published. Bytes are written to a temporary file, fsynced, renamed, and the directory is fsynced before any database
row speaks of them. Temporary names all lie at the top of ``objects`` and of ``artifacts``, where ``tidy`` finds what a
killed process left.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from cogbuild.digest import LARGE, Hasher, descriptor_digest, file_digest, update_hasher
from cogbuild.errors.models import FileChangedWhileRead
from cogbuild.errors.state import ObjectMissing, disk_error
from cogbuild.fingerprint.trees import read_tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cogbuild.fingerprint.trees import Entry, Tree

__all__ = ["TEMPORARY", "Finding", "Objects", "Published", "disk_errors", "half"]

# Bytes of a large file that are copied before the next ones are looked at.
_STEP = 64 << 20

#: How the names of what is not whole yet begin.
TEMPORARY = ".tmp-"


class Published(NamedTuple):
    """What was put into the artifact store."""

    digest: str  # of the file's content, or of the directory's tree
    size: int  # bytes
    path: Path


class Finding(NamedTuple):
    """Something an audit found."""

    path: Path
    what: str


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` of a write into an error with words: no room, no right, a broken disk."""
    try:
        yield
    except OSError as trouble:
        if (error := disk_error(trouble, path)) is not None:
            raise error from trouble
        raise


def half(store: Path) -> Path:
    """Return a new name at the top of *store* for something that is not whole yet."""
    return store / f"{TEMPORARY}{os.urandom(8).hex()}"


def sync_directory(path: Path) -> None:
    """Make the names in *path* durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Objects:
    """The stores of bytes below one data directory; published artifacts may lie elsewhere."""

    def __init__(self, data: Path, artifacts: Path | None = None) -> None:
        self.root = data / "objects"
        self.models = data / "models"
        self.artifacts = artifacts or data / "artifacts"

        self._own_artifacts = artifacts is None or artifacts.is_relative_to(data)

    def tidy(self) -> None:
        """Remove what processes that were killed left half done; for a time when nobody else is at work here.

        An artifact store elsewhere is left alone: others may be at work there.
        """
        for store in (self.root, self.artifacts) if self._own_artifacts else (self.root,):
            with contextlib.suppress(OSError):  # not made yet, or not to be written
                for name in os.listdir(store):
                    if name.startswith(TEMPORARY):
                        _remove(store / name)

    # -- objects --------------------------------------------------------------------------------------------------

    def path(self, digest: str, *, executable: bool = False) -> Path:
        """Return where the content *digest* is kept."""
        return self.root / digest[:2] / (digest[2:] + (".x" if executable else ""))

    def has(self, entry: Entry) -> bool:
        """Whether the content of a file's entry is stored, by name and size."""
        try:
            info = os.lstat(self.path(entry.value, executable=entry.kind == "x"))
        except OSError:
            return False
        return stat.S_ISREG(info.st_mode) and info.st_size == entry.size

    def add_tree(self, source: Path, tree: Tree) -> None:
        """Store the content of every file of *tree*, found at *source*; durable when this returns.

        Raises ``FileChangedWhileRead`` when a file's content is no longer what the tree says.
        """
        with disk_errors(self.root):
            # Also where the content is there already: whoever stored it may have been killed before its name was durable.
            touched = {
                self._add(source / entry.path, entry)
                if not self.has(entry)
                else self.path(entry.value).parent
                for entry in tree.entries
                if entry.kind in "fx"
            }
            for directory in touched:
                sync_directory(directory)
            if touched:
                sync_directory(self.root)

    def _add(self, source: Path, entry: Entry) -> Path:
        final = self.path(entry.value, executable=entry.kind == "x")
        final.parent.mkdir(parents=True, exist_ok=True)
        new = half(self.root)
        try:
            # What was copied is hashed, not the source: the source may change between the two.
            digest = copy_hashed(source, new, mode=0o555 if entry.kind == "x" else 0o444)
            if digest != entry.value:
                raise FileChangedWhileRead(file=entry.path, directory=None)
            os.replace(new, final)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new)
        return final.parent

    # -- sealed trees ---------------------------------------------------------------------------------------------

    def sealed(self, tree: Tree) -> Path:
        """Return the directory that holds *tree*, made of links into the objects when first needed.

        Raises ``ObjectMissing`` where a content is not stored.
        """
        final = self.models / tree.model_id
        if os.path.isdir(final):
            return final
        with disk_errors(self.models):
            self.models.mkdir(parents=True, exist_ok=True)
            new = half(self.root)
            try:
                new.mkdir(mode=0o755, parents=True)
                for entry in tree.entries:
                    self._place(entry, new)
                os.rename(new, final)
            except OSError as trouble:
                # Another process sealed the same tree between our look and our rename.
                if trouble.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
            finally:
                _remove(new)
        return final

    def _place(self, entry: Entry, root: Path) -> None:
        at = root / entry.path
        at.parent.mkdir(parents=True, exist_ok=True)
        if entry.kind == "d":
            at.mkdir(exist_ok=True)
            return
        if entry.kind == "l":
            os.symlink(entry.value, at)
            return
        source = self.path(entry.value, executable=entry.kind == "x")
        try:
            os.link(source, at)
        except FileNotFoundError as gone:
            raise ObjectMissing(file=entry.path, digest=entry.value[:12]) from gone
        except OSError as trouble:
            if trouble.errno not in (errno.EMLINK, errno.EXDEV, errno.EPERM):
                raise
            # The inode is full (ext4: 65,000 links): a further copy takes its place and the links to come.
            fresh = half(self.root)
            copy_durably(source, fresh, mode=0o555 if entry.kind == "x" else 0o444)
            os.replace(fresh, source)
            os.link(source, at)

    def check_sealed(self, tree: Tree, *, deep: bool = False) -> list[Finding]:
        """Compare the sealed tree, where it exists, with *tree*: names and sizes, or with *deep* every byte."""
        root = f"{self.models}/{tree.model_id}"
        if not os.path.isdir(root):
            return []
        return [
            Finding(self.models / tree.model_id / entry.path, wrong)
            for entry in tree.entries
            if (wrong := _wrong(f"{root}/{entry.path}", entry, deep=deep))
        ]

    def check_objects(self, tree: Tree, *, deep: bool = False) -> list[Finding]:
        """Compare the stored contents of *tree* with their names."""
        found = []
        for entry in tree.entries:
            if entry.kind in "fx":
                at = self.path(entry.value, executable=entry.kind == "x")
                if wrong := _wrong(at, entry, deep=deep):
                    found.append(Finding(at, wrong))
        return found

    def unseal(self, model_id: str) -> None:
        """Remove a sealed tree; its contents stay in the objects. Renamed away first, so no half tree is ever seen."""
        final = self.models / model_id
        away = half(self.root)
        with contextlib.suppress(FileNotFoundError):
            os.rename(final, away)
            _remove(away)

    def unseal_all_with(self, damaged: Path) -> None:
        """Remove every sealed tree that holds the stored file *damaged*: they are links to the same inode."""
        try:
            inode = os.lstat(damaged).st_ino
        except OSError:
            return
        for root in list(self.models.iterdir()) if self.models.is_dir() else []:
            with contextlib.suppress(FileNotFoundError):  # beside a running build trees come and go
                if any(os.lstat(path).st_ino == inode for path in root.rglob("*")):
                    self.unseal(root.name)

    # -- artifacts ------------------------------------------------------------------------------------------------

    def artifact(self, digest: str, name: str) -> Path:
        """Return where the published artifact is kept."""
        return self.artifacts / digest[:2] / digest[2:] / name

    def publish(self, source: Path, name: str | None = None) -> Published:
        """Put a file or a directory into the artifact store by digest; durable when this returns.

        It is kept under *name*, else its own. Publishing what is there already, and is whole, writes nothing.
        """
        with disk_errors(self.artifacts):
            if source.is_dir():
                memo = read_tree(source, rules="all")
                digest, size = memo.tree.digest, memo.tree.size
            else:
                digest, size = file_digest(source)
            final = self.artifact(digest, name or source.name)
            if os.path.lexists(final):
                if self.artifact_state(digest, final.name, size, deep=True) is None:
                    self._sync_names(final)  # whoever made it may have been killed before it did
                    return Published(digest, size, final)
                self._take_away(final)
            final.parent.mkdir(parents=True, exist_ok=True)
            new = half(self.artifacts)
            try:
                _publish_copy(source, new)
                os.rename(new, final)
            except OSError as trouble:
                if trouble.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
            finally:
                _remove(new)
            self._sync_names(final)
        return Published(digest, size, final)

    def adopt(self, source: Path, digest: str, name: str) -> Path:
        """Move a file or directory that somebody made at the top of the store to where its digest says; read-only from then on."""
        final = self.artifact(digest, name)
        _make_read_only(source)
        self._take_away(final)
        final.parent.mkdir(parents=True, exist_ok=True)
        os.rename(source, final)
        return final

    def _sync_names(self, final: Path) -> None:
        for directory in (final.parent, final.parent.parent, self.artifacts):
            sync_directory(directory)

    def _take_away(self, damaged: Path) -> None:
        """Remove what no longer matches its name, in one step for whoever looks."""
        away = half(self.artifacts)
        with contextlib.suppress(FileNotFoundError):
            os.rename(damaged, away)
            _remove(away)

    def artifact_state(self, digest: str, name: str, size: int, *, deep: bool = False) -> str | None:
        """Return None where the artifact is as it was published, else what is wrong with it."""
        at = self.artifact(digest, name)
        try:
            info = os.lstat(at)
        except OSError:
            return "it is not there"
        if stat.S_ISDIR(info.st_mode):
            return (
                None
                if not deep or read_tree(at, rules="all").tree.digest == digest
                else "its content changed"
            )
        if info.st_size != size:
            return f"it has {info.st_size} bytes, {size} were published"
        return None if not deep or file_digest(at)[0] == digest else "its content changed"

    def withdraw(self, digest: str) -> None:
        """Remove a published artifact under all its names."""
        final = self.artifacts / digest[:2] / digest[2:]
        away = half(self.artifacts)
        with contextlib.suppress(FileNotFoundError):
            os.rename(final, away)
            _remove(away)


def _wrong(at: str | Path, entry: Entry, *, deep: bool) -> str | None:
    try:
        info = os.lstat(at)
        if entry.kind == "l":
            return (
                None
                if stat.S_ISLNK(info.st_mode) and os.readlink(at) == entry.value
                else "the symlink changed"
            )
        if entry.kind == "d":
            return None if stat.S_ISDIR(info.st_mode) else "it is no directory"
        if not stat.S_ISREG(info.st_mode):
            return "it is no file"
        if info.st_size != entry.size:
            return f"it has {info.st_size} bytes, {entry.size} were stored"
        return "its content changed" if deep and file_digest(at)[0] != entry.value else None
    except OSError as trouble:
        return trouble.strerror or "it can't be read"


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
        while count := _copy_bytes(reader, writer, _STEP):
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


def _publish_copy(source: Path, target: Path) -> None:
    info = os.lstat(source)
    if stat.S_ISLNK(info.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISDIR(info.st_mode):
        target.mkdir(mode=0o755)
        for item in sorted(os.listdir(source)):
            _publish_copy(source / item, target / item)
        sync_directory(target)
    else:
        copy_durably(source, target, mode=0o555 if info.st_mode & stat.S_IXUSR else 0o444)


def _make_read_only(path: Path) -> None:
    files = [os.path.join(top, name) for top, _, names in os.walk(path) for name in names]
    for file in files or [os.fspath(path)]:
        mode = os.lstat(file).st_mode
        if stat.S_ISREG(mode):
            os.chmod(file, stat.S_IMODE(mode) & 0o555)


def _remove(path: Path) -> None:
    import shutil

    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
