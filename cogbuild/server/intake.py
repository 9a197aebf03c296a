"""What was sent and is not a model yet: zips and trees of uploads until their job has ended, contents until a tree has them.

A content counts as known to a request only where it is in a tree that the request may read, or where the same token sent it:
that a digest is known tells whoever asks that somebody has these bytes.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from typing import TYPE_CHECKING

from cogbuild import library
from cogbuild.copying import copy_durably
from cogbuild.database import jobs, models
from cogbuild.errors.server import BadTree, ObjectsMissing, UploadGone
from cogbuild.server.looking import Looking
from cogbuild.spec import WISHES_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from cogbuild.database.jobs import JobRow
    from cogbuild.fingerprint.trees import Entry, Tree
    from cogbuild.library import Added
    from cogbuild.project import Project
    from cogbuild.server.grants import Grant

__all__ = ["Intake"]

#: Versions of a repo, and models of others, whose contents are looked through.
_VERSIONS = 20
#: Seconds for which a content waits for the tree that holds it.
_PATIENCE = 86400.0
#: Seconds between two looks for those that waited in vain.
_INTERVAL = 3600.0


class Intake:
    """The place of what is sent, in the data directory."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.root = project.data / "uploads"
        self.looking = Looking("intake", self.sweep, _INTERVAL)

    def begin(self) -> None:
        """Remove what a server before was sent and has no job for; from now on, contents that nobody came back for."""
        kept = {row.id for row in jobs.under_way(self.project.con)}
        for left in _listed(self.root):
            if left.name != "sent" and left.name.partition(".")[0] not in kept:
                _remove(left)
        self.looking.begin()

    def sweep(self) -> None:
        """Remove contents that nobody came back for."""
        for owner in _listed(self.root / "sent"):
            for content in _listed(owner):
                with contextlib.suppress(FileNotFoundError):
                    if content.stat().st_mtime < time.time() - _PATIENCE:
                        content.unlink()

    # -- whole uploads --------------------------------------------------------------------------------------------

    def zip_for(self, job: str) -> Path:
        """Return where the zip of a job is to be written."""
        return self.root / f"{job}.zip"

    def _tree(self, job: str) -> Path:
        return self.root / f"{job}.tree"

    def stored(self, row: JobRow) -> Added:
        """Store what was sent for a job as a candidate. Raises errors of uploads, models and declarations."""
        for source in (self.zip_for(row.id), self._tree(row.id)):
            if source.exists():
                added = library.add(self.project, source, repo=row.repo, job=row.id, shown="the upload")
                if row.model not in (None, added.model):
                    raise BadTree(problem=f"it is that of {added.model}, not of {row.model}")
                return added
        raise UploadGone(job=row.id)

    def drop(self, row: JobRow) -> None:
        """Remove what was sent for a job."""
        self.forget(row.id)

    def forget(self, job: str) -> None:
        """Remove what was sent for a job that there is not."""
        _remove(self.zip_for(job))
        _remove(self._tree(job))

    # -- contents -------------------------------------------------------------------------------------------------

    def place(self, grant: Grant, digest: str) -> Path:
        """Return where a content that this token sends is kept."""
        return self._sent(grant.token, digest)

    def _sent(self, owner: str, digest: str) -> Path:
        return self.root / "sent" / re.sub(r"[^A-Za-z0-9]", "-", owner) / digest

    def settle(self, owner: str, tree: Tree) -> None:
        """Remove contents that the token *owner* sent and that a model has now which was let in.

        An upload that has been told of them and has not asked for its own tree yet is told by ``assemble`` what to send.
        """
        for item in tree.entries:
            if item.kind in "fx":
                with contextlib.suppress(OSError):  # else it goes when it has waited a day
                    self._sent(owner, item.value).unlink()

    def missing(self, grant: Grant, repo: str, digests: Sequence[str]) -> list[str]:
        """Return those of *digests* that have to be sent."""
        known = self._known(grant, repo)
        return [
            digest
            for digest in digests
            if not self._whole(known.get(digest), digest) and not self.place(grant, digest).exists()
        ]

    def _whole(self, stored: Path | None, digest: str) -> bool:
        """Whether a content is stored, and its bytes are known to be those of its digest."""
        try:
            return stored is not None and self.project.hashed.holds(stored, os.lstat(stored), digest)
        except OSError:
            return False

    def _known(self, grant: Grant, repo: str) -> dict[str, Path]:
        """Return the contents of trees that the request may read, with where they are."""
        con, store = self.project.con, self.project.objects
        found: list[models.EntryRow] = []
        if "read" in grant.can:
            found = models.entries(con, repos=[repo], scope=grant.repos, limit=_VERSIONS)
            found += models.entries(con, scope=grant.repos, limit=_VERSIONS)
        known: dict[str, Path] = {}
        for digest in dict.fromkeys(entry.tree for entry in found if entry.sealed):
            for item in library.tree_of(self.project, digest).entries:
                if item.kind in "fx":
                    known.setdefault(item.value, store.path(item.value, executable=item.kind == "x"))
        return known

    def assemble(
        self, job: str, entries: Iterable[Entry], wishes: bytes | None, *, grant: Grant, repo: str
    ) -> None:
        """Make the tree of a job out of contents that are here. Raises ``ObjectsMissing`` and ``BadTree``."""
        known = self._known(grant, repo)

        def sources(digest: str) -> list[Path]:
            stored = known.get(digest)
            whole = stored if self._whole(stored, digest) else None
            return _sources(self.place(grant, digest), whole)

        tree = self._tree(job)
        tree.mkdir(mode=0o700, parents=True)
        try:
            _filled(tree, entries, sources)
            if wishes is not None:
                (tree / WISHES_FILE).write_bytes(wishes)
        except BaseException:
            _remove(tree)
            raise


def _sources(*places: Path | None) -> list[Path]:
    return [place for place in places if place is not None]


def _filled(tree: Path, entries: Iterable[Entry], sources: Callable[[str], list[Path]]) -> None:
    """Make the entries below *tree*. Links come last: nothing is made through one."""
    missing: list[str] = []
    links: list[Entry] = []
    for entry in entries:
        at = tree / entry.path
        try:
            at.parent.mkdir(parents=True, exist_ok=True)
            if entry.kind == "d":
                at.mkdir(exist_ok=True)
            elif entry.kind == "l":
                links.append(entry)
            elif not any(_put(source, at, executable=entry.kind == "x") for source in sources(entry.value)):
                missing.append(entry.value)
        except (FileExistsError, NotADirectoryError):
            raise BadTree(problem=f"{entry.path} is in it twice, or below a file") from None
    if missing:
        raise ObjectsMissing(sorted(set(missing)))
    for entry in links:
        try:
            os.symlink(entry.value, tree / entry.path)
        except (FileExistsError, NotADirectoryError):
            raise BadTree(problem=f"{entry.path} is in it twice") from None


def _put(source: Path, at: Path, *, executable: bool) -> bool:
    """Put a content in its place; False where it is not there."""
    try:
        if bool(source.stat().st_mode & 0o111) == executable:
            try:
                os.link(source, at)
            except FileExistsError:
                raise
            except FileNotFoundError:
                return False
            except OSError:  # too many links to one file
                copy_durably(source, at, mode=0o555 if executable else 0o444)
        else:
            copy_durably(source, at, mode=0o555 if executable else 0o444)
    except FileNotFoundError:
        return False
    return True


def _listed(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.is_dir() else []


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
