"""Digest to bytes: stored once, read-only, found by content; sealed trees; publishing; audit and sweep.

Layout below the data directory: ``objects/ab/cdef…`` holds file contents (``.x``: executable, because one inode has one
mode), ``models/<id>/`` holds trees made of hard links into objects, ``artifacts/ab/cdef…/<name>`` what adapters
published. Bytes are written to a temporary file, fsynced, renamed, and the directory is fsynced before any database
row speaks of them. Temporary names all lie at the top of ``objects`` and of ``artifacts``, where ``tidy`` finds what a
killed process left. What is handed on was compared with its digest before (``known``: :mod:`cogbuild.hashed`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from cogbuild.copying import copy_durably, copy_hashed, copy_whole, make_read_only, remove, sync_directory
from cogbuild.digest import LARGE, file_digest
from cogbuild.errors.models import FileChangedWhileRead
from cogbuild.errors.state import ObjectMissing, PlaceNotMade, disk_error
from cogbuild.fingerprint.trees import Memo, read_tree, seen_as
from cogbuild.hashed import Hashed, Looks, many, reads, wrong_with

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cogbuild.fingerprint.trees import Entry, Tree

__all__ = ["TEMPORARY", "Finding", "Objects", "Published", "disk_errors", "half", "make_place"]

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


def make_place(directory: Path, option: str, mode: int = 0o777) -> None:
    """Make a directory that somebody named with *option*. Raises ``PlaceNotMade`` where none can be."""
    try:
        directory.mkdir(mode, parents=True, exist_ok=True)
    except (FileNotFoundError, NotADirectoryError, FileExistsError) as trouble:
        reason = "a file is there" if isinstance(trouble, FileExistsError) else trouble.strerror
        raise PlaceNotMade(path=directory, reason=reason, option=option) from trouble


def half(store: Path) -> Path:
    """Return a new name at the top of *store* for something that is not whole yet."""
    return store / f"{TEMPORARY}{os.urandom(8).hex()}"


class Objects:
    """The stores of bytes below one data directory; published artifacts may lie elsewhere."""

    def __init__(self, data: Path, artifacts: Path | None = None, *, hashed: Hashed | None = None) -> None:
        self.root = data / "objects"
        self.models = data / "models"
        self.aside = data / "aside"
        self.artifacts = artifacts or data / "artifacts"
        self.hashed = hashed or Hashed()
        self._own_artifacts = artifacts is None or artifacts.is_relative_to(data)

    def tidy(self) -> None:
        """Remove what processes that were killed left half done; for a time when nobody else is at work here.

        An artifact store elsewhere is left alone: others may be at work there.
        """
        for store in (self.root, self.artifacts) if self._own_artifacts else (self.root,):
            with contextlib.suppress(OSError):  # not made yet, or not to be written
                for name in os.listdir(store):
                    if name.startswith(TEMPORARY):
                        remove(store / name)

    # -- objects --------------------------------------------------------------------------------------------------

    def path(self, digest: str, *, executable: bool = False) -> Path:
        """Return where the content *digest* is kept."""
        return self.root / digest[:2] / (digest[2:] + (".x" if executable else ""))

    def add_tree(self, source: Path, tree: Tree) -> None:
        """Store the content of every file of *tree*, found at *source*; durable when this returns.

        What is stored already and damaged is set aside. Raises ``FileChangedWhileRead`` when a file's content is no longer
        what the tree says.
        """
        looks = Looks(self.hashed, tree)
        with disk_errors(self.root):
            touched = set()
            for entry in tree.entries:
                if entry.kind in "fx":
                    at = self.of(entry)
                    if not self._holds(at, entry):
                        self.set_aside(at, _called(entry))
                        self.put(source / entry.path, entry)
                    if looks.wants(entry) and entry.size < LARGE:
                        looks.written(os.lstat(at))
                    # Also where it was there already: whoever stored it may have been killed before its name was durable.
                    touched.add(at.parent)
            for directory in touched:
                sync_directory(directory)
            if touched:
                sync_directory(self.root)
        looks.keep()

    def of(self, entry: Entry) -> Path:
        """Return where the content of a file's entry is kept."""
        return self.path(entry.value, executable=entry.kind == "x")

    def _holds(self, at: Path, entry: Entry) -> bool:
        try:
            info = os.lstat(at)
        except OSError:
            return False
        return (
            stat.S_ISREG(info.st_mode)
            and info.st_size == entry.size
            and self.hashed.holds(at, info, entry.value)
        )

    def put(self, source: Path, entry: Entry) -> None:
        """Store the content of a file's entry, found at *source*; its name is durable once its directory is synced."""
        final = self.of(entry)
        final.parent.mkdir(parents=True, exist_ok=True)
        new = half(self.root)
        try:
            # What was copied is hashed, not the source: the source may change between the two.
            digest = copy_hashed(source, new, mode=0o555 if entry.kind == "x" else 0o444)
            if digest != entry.value:
                raise FileChangedWhileRead(file=entry.path, directory=None)
            os.replace(new, final)
            self.hashed.written(digest, os.lstat(final))
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new)

    def set_aside(self, damaged: Path, called: str) -> Path | None:
        """Move something damaged to where ``gc`` finds it when it is old; None where nothing is left of it."""
        if not os.path.lexists(damaged):
            return None
        with disk_errors(self.aside):
            self.aside.mkdir(exist_ok=True)
            target = self.aside / called
            if os.path.lexists(target):
                target = self.aside / f"{called}-{os.urandom(3).hex()}"
            import shutil

            with contextlib.suppress(FileNotFoundError):
                shutil.move(damaged, target)  # a store may be another file system
                os.utime(target, follow_symlinks=False)  # `gc` counts its age from here
                return target
        return None

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
            looks = Looks(self.hashed, tree)
            try:
                new.mkdir(mode=0o755, parents=True)
                before = [(entry, self._look(entry)) for entry in tree.entries if looks.wants(entry)]
                for entry in tree.entries:
                    self._place(entry, new)
                for entry, info in before:  # only now: one content may have several names
                    looks.linked(entry.value, info, os.lstat(new / entry.path))
                os.rename(new, final)
                looks.keep()
            except OSError as trouble:
                # Another process sealed the same tree between our look and our rename.
                if trouble.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
            finally:
                remove(new)
        return final

    def _look(self, entry: Entry) -> os.stat_result:
        try:
            return os.lstat(self.of(entry))
        except FileNotFoundError as gone:
            raise ObjectMissing(file=entry.path, digest=entry.value[:12]) from gone

    def _place(self, entry: Entry, root: Path) -> None:
        at = root / entry.path
        at.parent.mkdir(parents=True, exist_ok=True)
        if entry.kind == "d":
            at.mkdir(exist_ok=True)
            return
        if entry.kind == "l":
            os.symlink(entry.value, at)
            return
        source = self.of(entry)
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

    def check_sealed(self, tree: Tree, *, deep: bool = False, known: bool = False) -> list[Finding]:
        """Compare the sealed tree, where it exists, with *tree*: names and sizes.

        With *deep* every byte of it too; with *known* only the bytes that are not known to be those of their digests.
        """
        root = f"{self.models}/{tree.model_id}"
        if not os.path.isdir(root):
            return []
        looks = Looks(self.hashed, tree) if known else None
        holds = looks.holds if looks is not None else reads if deep else None
        found = [
            Finding(self.models / tree.model_id / entry.path, wrong)
            for entry in tree.entries
            if (wrong := wrong_with(f"{root}/{entry.path}", entry, holds))
        ]
        if looks is not None and not found:
            looks.keep()
        return found

    def check_objects(self, tree: Tree, *, deep: bool = False) -> list[Finding]:
        """Compare the stored contents of *tree* with their names."""
        found = []
        for entry in tree.entries:
            if entry.kind in "fx":
                at = self.of(entry)
                if wrong := wrong_with(at, entry, reads if deep else None):
                    found.append(Finding(at, wrong))
        return found

    def check_object(self, entry: Entry) -> bool:
        """Whether the stored content of a file's entry is there, every byte of it."""
        return wrong_with(self.of(entry), entry, reads) is None

    def unseal(self, model_id: str) -> None:
        """Remove a sealed tree; its contents stay in the objects. Renamed away first, so no half tree is ever seen."""
        final = self.models / model_id
        away = half(self.root)
        with contextlib.suppress(FileNotFoundError):
            os.rename(final, away)
            remove(away)

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
            tree = read_tree(source, rules="all").tree if source.is_dir() else None
            digest, size = (tree.digest, tree.size) if tree is not None else file_digest(source)
            final = self.artifact(digest, name or source.name)
            if os.path.lexists(final):
                if self.artifact_state(digest, final.name, size, known=True) is None:
                    self._sync_names(final)  # whoever made it may have been killed before it did
                    return Published(digest, size, final)
                self.set_aside(final, f"{digest[:12]}-{os.urandom(3).hex()}")
            make_place(self.artifacts, "artifact_store: in the settings")
            final.parent.mkdir(parents=True, exist_ok=True)
            new = half(self.artifacts)
            contents = {"": digest} if tree is None else {item.path: item.value for item in tree.entries}
            try:
                copy_whole(source, new, "", contents)
                os.rename(new, final)
                self._published(final, digest, tree)
            except OSError as trouble:
                if trouble.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
            finally:
                remove(new)
            self._sync_names(final)
        return Published(digest, size, final)

    def _published(self, final: Path, digest: str, tree: Tree | None) -> None:
        """Keep in mind what was just written and hashed."""
        if tree is None:
            self.hashed.written(digest, os.lstat(final))
        elif many(len(tree.entries), tree.size):
            self.hashed.note(_directory_hint(digest), seen_as(final, tree).encode())

    def adopt(self, source: Path, digest: str, name: str) -> Path:
        """Move what somebody made, and hashed, at the top of the store to where its digest says; read-only from then on."""
        final = self.artifact(digest, name)
        make_read_only(source)
        away = half(self.artifacts)
        with contextlib.suppress(FileNotFoundError):  # in one step for whoever looks
            os.rename(final, away)
            remove(away)
        final.parent.mkdir(parents=True, exist_ok=True)
        os.rename(source, final)
        if final.is_file():
            self.hashed.written(digest, os.lstat(final))
        return final

    def _sync_names(self, final: Path) -> None:
        for directory in (final.parent, final.parent.parent, self.artifacts):
            sync_directory(directory)

    def artifact_state(
        self, digest: str, name: str, size: int, *, deep: bool = False, known: bool = False
    ) -> str | None:
        """Return None where the artifact is as it was published, else what is wrong with it.

        Its bytes are looked at with *deep*, and with *known* where they are not known to be those of the digest.
        """
        at = self.artifact(digest, name)
        try:
            info = os.lstat(at)
        except OSError:
            return "it is not there"
        if stat.S_ISDIR(info.st_mode):
            whole = self._directory_holds(at, digest, known=known) if deep or known else True
        elif info.st_size != size:
            return f"it has {info.st_size} bytes, {size} were published"
        elif known:
            whole = self.hashed.holds(at, info, digest)
        else:
            whole = not deep or file_digest(at)[0] == digest
        return None if whole else "its content changed"

    def _directory_holds(self, at: Path, digest: str, *, known: bool) -> bool:
        name = _directory_hint(digest)
        hint = self.hashed.hint(name) if known else None
        old = Memo.decode(hint.looks) if hint is not None else None
        memo = read_tree(at, old, rules="all")
        if memo.tree.digest != digest:
            return False
        if known and memo is not old and many(len(memo.tree.entries), memo.tree.size):
            self.hashed.note(name, memo.encode(), at=hint.at if hint is not None else None)
        return True

    def withdraw(self, digest: str) -> None:
        """Remove a published artifact under all its names."""
        final = self.artifacts / digest[:2] / digest[2:]
        away = half(self.artifacts)
        with contextlib.suppress(FileNotFoundError):
            os.rename(final, away)
            remove(away)


def _called(entry: Entry) -> str:
    """Return how a damaged object is called where it is set aside."""
    return entry.value + (".x" if entry.kind == "x" else "")


def _directory_hint(digest: str) -> bytes:
    return b"d" + bytes.fromhex(digest[:40])
