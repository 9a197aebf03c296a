"""Artifacts over HTTP: the bytes themselves, compared with their digest before the last of them is sent."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple
from urllib.parse import quote

from anyio import CancelScope
from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from cogbuild.damage import lose
from cogbuild.digest import Hasher
from cogbuild.fingerprint.trees import read_tree
from cogbuild.housekeeping.fetching import fetch
from cogbuild.housekeeping.made import one, the_artifact
from cogbuild.server.access import Guarded, needs
from cogbuild.server.limits import check_fetch
from cogbuild.server.observing import BrokenOff
from cogbuild.server.service import Here, Service
from cogbuild.server.shown import zip_of
from cogbuild.using import using

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from typing import BinaryIO

    from starlette.types import Receive, Scope, Send

    from cogbuild.database.pairs import Artifact
    from cogbuild.housekeeping.made import Made

__all__ = ["router"]

router = APIRouter(prefix="/v2/artifacts", tags=["artifacts"], route_class=Guarded)

_PIECE = 1 << 20


@router.get(
    "/{model}/{adapter}/content",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/octet-stream": {}}, "description": "The artifact's bytes."}},
    summary="Download an artifact",
)
@needs("read")
def content(
    *,
    model: str,
    adapter: str,
    request: Request,
    service: Here,
    repo: Annotated[list[str] | None, Query()] = None,
    name: str | None = None,
) -> StreamingResponse:
    """Return what an adapter made of a model; a directory comes as a zip.

    `name` chooses one of several. Bytes that are not those that were made are never sent whole: the connection breaks off.
    What an adapter put elsewhere is fetched only where the setting `server: {fetch: […]}` allows its scheme and host.
    """
    made = one(service.project, model, adapter, repo or (), request.state.grant.repos)
    artifact = the_artifact(made, name)
    source = _source(service, made, artifact)
    headers = {"Content-Disposition": _disposition(source.name), "X-Content-Type-Options": "nosniff"}
    if source.size is not None:
        headers["Content-Length"] = str(source.size)
    # Never what the adapter said it is: a page of its own would run among ours.
    return _Sending(_sent(service, artifact, source), source, headers)


class _Source(NamedTuple):
    path: Path
    name: str
    file: BinaryIO | None  # None: it is a directory
    drop: bool  # it was fetched for this answer alone

    @property
    def size(self) -> int | None:
        """Return the bytes that are sent, where they are known beforehand."""
        return os.fstat(self.file.fileno()).st_size if self.file is not None else None

    def close(self) -> None:
        """Let go of it."""
        if self.file is not None:
            self.file.close()
        if self.drop:
            _remove(self.path)


class _Sending(StreamingResponse):
    """Sends a source and lets go of it however that ends: left to the garbage, the file of who went away stays open."""

    def __init__(self, pieces: Generator[bytes], source: _Source, headers: dict[str, str]) -> None:
        super().__init__(pieces, 200, headers, "application/octet-stream")
        self._held = (pieces, source)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with CancelScope(shield=True):
                for held in self._held:
                    await run_in_threadpool(held.close)


def _source(service: Service, made: Made, artifact: Artifact) -> _Source:
    project = service.project
    store = project.remote
    name = artifact.uri.rstrip("/").rpartition("/")[2] or artifact.name or made.adapter
    if artifact.published:
        # Not while it is sent, which takes as long as the client wants: what is open can be read when it was collected.
        with using(project.data):
            if (kept := project.objects.artifacts / artifact.uri).exists():
                return _opened(kept, name, drop=False)
    ours = artifact.published or (store is not None and artifact.uri.startswith(store.url + "/"))
    if not ours:
        check_fetch(artifact.uri, project.settings.server)
    service.intake.root.mkdir(mode=0o700, exist_ok=True)
    place = service.intake.root / f"get-{secrets.token_hex(8)}"
    return _opened(fetch(project, made, artifact, place), name, drop=True)


def _opened(path: Path, name: str, *, drop: bool) -> _Source:
    if path.is_dir():
        return _Source(path, f"{name}.zip", None, drop)
    return _Source(path, name, path.open("rb"), drop)


def _sent(service: Service, artifact: Artifact, source: _Source) -> Generator[bytes]:
    if source.file is None:
        yield from _zipped(service, artifact, source.path)
    else:
        yield from _checked(service, artifact, source.file)


def _checked(service: Service, artifact: Artifact, file: BinaryIO) -> Iterator[bytes]:
    """Yield a file; its last piece only once all of it was seen to be what its digest says."""
    hasher, held = Hasher(), b""
    while piece := file.read(_PIECE):
        hasher.update(piece)
        if held:
            yield held
        held = piece
    _same(service, artifact, hasher.hexdigest())
    yield held


def _zipped(service: Service, artifact: Artifact, path: Path) -> Iterator[bytes]:
    """Yield a directory; where it is collected meanwhile, what is missing of it breaks the answer off."""
    with using(service.project.data):
        tree = read_tree(path, rules="all").tree
    _same(service, artifact, tree.digest)
    yield from zip_of((path / item.path, item) for item in tree.entries)


def _same(service: Service, artifact: Artifact, digest: str) -> None:
    if artifact.published and digest != artifact.digest:
        lose(service.project, artifact, "its content changed")
        raise BrokenOff(f"artifact {artifact.digest} is not what was made")


def _disposition(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name) or "artifact"
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(os.fsencode(name), safe='')}"


def _remove(path: Path) -> None:
    import shutil

    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
