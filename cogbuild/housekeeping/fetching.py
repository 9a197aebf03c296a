"""Copying an artifact out to a place that a user names."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from cogbuild.copying import copy_durably
from cogbuild.damage import lose, set_aside
from cogbuild.errors.housekeeping import (
    ArtifactGone,
    FetchRefused,
    NotFetchable,
    TargetRefused,
    TargetTaken,
)
from cogbuild.fingerprint.trees import content_digest
from cogbuild.objects import make_place
from cogbuild.planner.judged import artifact_file
from cogbuild.remote import STORES, located
from cogbuild.using import using

if TYPE_CHECKING:
    from cogbuild.database.pairs import Artifact
    from cogbuild.housekeeping.made import Made
    from cogbuild.project import Project

__all__ = ["fetch"]

_PATIENCE = 60.0  # seconds without a byte
_CHUNK = 1 << 20


def fetch(project: Project, made: Made, artifact: Artifact, target: Path, *, force: bool = False) -> Path:
    """Copy an artifact to *target*, or into it where that is a directory; return where it is.

    What is there already stays, unless *force*. Raises ``TargetTaken``, ``TargetRefused``, ``PlaceNotMade``,
    ``ArtifactGone``, ``NotFetchable`` and ``FetchRefused``.
    """
    target = Path(os.path.abspath(target))
    if target.is_dir():
        target /= _file_name(artifact)
    if os.path.lexists(target) and not force:
        raise TargetTaken(path=target)
    half = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
    try:
        make_place(target.parent, "-o")
        _fill(project, made, artifact, half)
        _put(half, target, force=force)
    except OSError as trouble:
        raise TargetRefused(path=target, reason=trouble.strerror) from trouble
    finally:
        with contextlib.suppress(OSError):  # where nothing can be written, what is wrong is said already
            _remove(half)
    return target


def _file_name(artifact: Artifact) -> str:
    path = artifact.uri if artifact.published else unquote(urlsplit(artifact.uri).path)
    return path.rstrip("/").rpartition("/")[2] or artifact.name or "artifact"


def _fill(project: Project, made: Made, artifact: Artifact, half: Path) -> None:
    facts = {"adapter": made.adapter, "model": made.model}
    if artifact.published:
        with using(project.data):
            _published(project, artifact, half, facts)
        return
    parts = urlsplit(artifact.uri)
    if parts.scheme == "file":
        source = Path(unquote(parts.path))
        if not os.path.lexists(source):
            raise ArtifactGone(**facts, reason="it is not there", uri=artifact.uri)
        _copy(source, half)
    elif parts.scheme in ("http", "https"):
        _download(artifact.uri, half, facts)
    elif parts.scheme in STORES and "://" in artifact.uri:
        _from_store(project, artifact, half, facts)
    else:
        raise NotFetchable(**facts, uri=artifact.uri)


def _published(project: Project, artifact: Artifact, half: Path, facts: dict[str, str]) -> None:
    digest = artifact.digest or ""
    source = project.objects.artifact(digest, artifact_file(artifact))
    wrong = project.objects.artifact_state(digest, source.name, artifact.size or 0)
    if wrong is None:
        _copy(source, half)
        wrong = None if content_digest(half) == digest else "its content changed"
    if wrong is not None:
        aside = set_aside(project, artifact)
        lose(project, artifact, wrong)
        raise ArtifactGone(**facts, reason=wrong, now_at=aside)


def _copy(source: Path, target: Path) -> None:
    """Copy a file, symlink or directory; the copies can be written, and share blocks where the file system can."""
    info = os.lstat(source)
    if stat.S_ISLNK(info.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISDIR(info.st_mode):
        target.mkdir()
        for name in sorted(os.listdir(source)):
            _copy(source / name, target / name)
    else:
        copy_durably(source, target, mode=0o755 if info.st_mode & stat.S_IXUSR else 0o644)


def _download(uri: str, half: Path, facts: dict[str, str]) -> None:
    import http.client
    from urllib.error import HTTPError, URLError
    from urllib.request import urlopen

    try:
        with urlopen(uri, timeout=_PATIENCE) as answer, half.open("xb") as out:
            while chunk := answer.read(_CHUNK):
                out.write(chunk)
            promised = answer.headers.get("Content-Length")
            if promised is not None and out.tell() != int(promised):
                why = f"it ended after {out.tell()} of {promised} bytes"
                raise FetchRefused(**facts, uri=uri, reason=why)
    except HTTPError as refused:
        refused.close()
        raise FetchRefused(**facts, uri=uri, reason=f"the server says {refused.code}") from refused
    except (URLError, TimeoutError, ConnectionError, http.client.HTTPException, ValueError) as trouble:
        said = getattr(trouble, "reason", None) or trouble
        raise FetchRefused(**facts, uri=uri, reason=str(said)) from trouble


def _from_store(project: Project, artifact: Artifact, half: Path, facts: dict[str, str]) -> None:
    from cogbuild.errors.remote import StoreError
    from cogbuild.remote import fetch

    try:
        place = located(artifact.uri)
        there = place is not None and fetch(*place, half)
    except StoreError as trouble:
        why = trouble.facts.get("reason")
        raise FetchRefused(**facts, uri=artifact.uri, reason=f"{trouble.title}: {why}") from trouble
    if not there:
        raise ArtifactGone(**facts, reason="it is not there", uri=artifact.uri)
    if artifact.size is not None and content_digest(half) != artifact.digest:  # cogbuild put it there
        lose(project, artifact, "its content changed")
        raise ArtifactGone(**facts, reason="its content changed", uri=artifact.uri)


def _put(half: Path, target: Path, *, force: bool) -> None:
    if not force:
        _put_new(half, target)
        return
    old = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
    with contextlib.suppress(FileNotFoundError):
        if target.is_dir() and not target.is_symlink():  # a directory can't be replaced in one step
            os.rename(target, old)
    os.rename(half, target)
    _remove(old)


def _put_new(half: Path, target: Path) -> None:
    """Give *half* its name unless somebody else took that meanwhile."""
    try:
        if half.is_dir() and not half.is_symlink():
            os.rename(half, target)  # refused by the kernel where a directory that holds anything is there
        else:
            os.link(half, target, follow_symlinks=False)
    except OSError as trouble:
        if os.path.lexists(target):
            raise TargetTaken(path=target) from trouble
        if trouble.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        os.rename(half, target)  # a file system without hard links


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
