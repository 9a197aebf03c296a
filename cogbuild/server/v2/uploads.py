"""Uploads content by content: ask what is missing, send that, then the list of files."""

from __future__ import annotations

import contextlib
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from cogbuild.digest import hexdigest
from cogbuild.errors.access import BodyTooLarge
from cogbuild.errors.server import ObjectsMissing, ServerStopping
from cogbuild.objects import disk_errors
from cogbuild.server.access import Guarded, needs
from cogbuild.server.answers import error_json, refusal
from cogbuild.server.batches import receive_batch
from cogbuild.server.forms import receive_content
from cogbuild.server.jobs import UPLOAD
from cogbuild.server.jobs import Once as Named
from cogbuild.server.service import Here
from cogbuild.server.trees import read_sent
from cogbuild.spec.names import checked_repo

if TYPE_CHECKING:
    from cogbuild.database.jobs import JobRow
    from cogbuild.server.grants import Grant
    from cogbuild.server.service import Service
    from cogbuild.server.trees import SentTree

__all__ = ["router"]

router = APIRouter(prefix="/v2", tags=["uploads"], route_class=Guarded)

_TREE = {
    "type": "object",
    "required": ["model", "entries"],
    "properties": {
        "model": {"type": "string", "pattern": "^[0-9a-f]{40}$"},
        "entries": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["path", "kind"],
                "properties": {
                    "path": {"type": "string", "description": "names that are no UTF-8: lone surrogates"},
                    "kind": {"enum": ["f", "x", "l", "d"]},
                    "digest": {"type": "string", "description": "of a file: BLAKE3"},
                    "size": {"type": "integer", "description": "of a file: bytes"},
                    "target": {"type": "string", "description": "of a symlink"},
                },
            },
        },
        "wishes": {"type": ["string", "null"], "description": "the text of cog-adapters.yaml"},
        "adapters": {"type": ["array", "null"], "items": {"type": "string"}},
        "force": {"type": "boolean"},
    },
}
#: Bytes that the list of a model's files may take.
_MOST_OF_A_LIST = 64 << 20
#: Bytes of it that are not put on the disk.
_IN_MEMORY = 1 << 20

Digest = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]
#: Names a request, so that sending it again starts nothing twice.
Once = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=200)]


class Asked(BaseModel):
    """Which contents somebody has."""

    model_config = ConfigDict(extra="forbid")
    repo: str
    digests: Annotated[list[Annotated[str, Field(pattern="^[0-9a-f]{64}$")]], Field(max_length=10_000)]


class Missing(BaseModel):
    """Which of them have to be sent."""

    missing: list[str]


class Content(BaseModel):
    """A content that is here."""

    digest: str


class Kept(BaseModel):
    """How many contents were not here before."""

    new: int


class Accepted(BaseModel):
    """The job that was started."""

    job: str
    repo: str | None = None
    model: str | None = None


@router.post("/objects/missing", summary="Ask which contents have to be sent")
@needs("push")
def missing(asked: Asked, request: Request, service: Here) -> Missing:
    """Return those digests that are in no tree which this token reads, and that it has not sent."""
    repo = checked_repo(asked.repo)
    request.state.grant.require("push", repo)
    return Missing(missing=service.intake.missing(request.state.grant, repo, asked.digests))


@router.put(
    "/objects/{digest}",
    summary="Send a content",
    status_code=201,
    responses={
        200: {"model": Content, "description": "It was here"},
        201: {"model": Content, "description": "It is here now"},
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
@needs("push")
async def content(
    digest: Digest, repo: Annotated[str, Query()], request: Request, service: Here
) -> JSONResponse:
    """Take a file's bytes, hashed as they come; they wait a day for the tree that holds them."""
    grant: Grant = request.state.grant
    grant.require("push", checked_repo(repo))
    new = await receive_content(request, service.intake.place(grant, digest), digest)
    return JSONResponse({"digest": digest}, 201 if new else 200)


@router.post(
    "/objects",
    summary="Send small contents together",
    status_code=201,
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "A line of JSON, `[[digest, size], ...]`, and then the contents, one after another",
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
@needs("push")
async def contents(repo: Annotated[str, Query()], request: Request, service: Here) -> Kept:
    """Take up to 1,000 contents of 4 MiB in all; they wait a day for the tree that holds them."""
    grant: Grant = request.state.grant
    grant.require("push", checked_repo(repo))
    return Kept(new=await receive_batch(request, partial(service.intake.place, grant)))


@router.post(
    "/repos/{user}/{name}/models",
    summary="Make a model of contents that were sent",
    status_code=202,
    response_model=Accepted,
    responses={
        409: {
            "description": "Some contents are not here: `missing` names them",
            "content": refusal(missing={"type": "array", "items": {"type": "string"}}),
        }
    },
    openapi_extra={
        "requestBody": {"required": True, "content": {"application/json": {"schema": _TREE}}},
    },
)
@needs("push")
async def model(user: str, name: str, request: Request, service: Here, once: Once = None) -> Any:
    """Start the job that stores, tests and builds the model; the same `Idempotency-Key` gives the same job."""
    repo = checked_repo(f"{user}/{name}")
    if service.jobs.stopping:
        raise ServerStopping
    with await _body(request, service) as body:
        async with service.one_list:  # in memory it is several times as large
            sent = await run_in_threadpool(lambda: read_sent(body.read()))
    try:
        row = await run_in_threadpool(_started, service, request.state.grant, repo, sent, once)
    except ObjectsMissing as error:
        return JSONResponse({"missing": error.missing, **error_json(error)}, 409)
    return Accepted(job=row.id, repo=repo, model=sent.model)


async def _body(request: Request, service: Service) -> SpooledTemporaryFile[bytes]:
    """Return the body from its beginning; what is long waits on the disk, because many may come at the same time."""
    root = service.intake.root
    with disk_errors(root), contextlib.ExitStack() as stack:
        root.mkdir(mode=0o700, exist_ok=True)
        body = stack.enter_context(SpooledTemporaryFile(_IN_MEMORY, "w+b", dir=str(root)))
        async for data in request.stream():
            await run_in_threadpool(body.write, data)
            if body.tell() > _MOST_OF_A_LIST:
                raise BodyTooLarge(limit=_MOST_OF_A_LIST)
        body.seek(0)
        stack.pop_all()
        return body


def _started(service: Service, grant: Grant, repo: str, sent: SentTree, once: str | None) -> JobRow:
    asked = {"adapters": sent.adapters, "force": sent.force}
    wishes = hexdigest(sent.wishes) if sent.wishes is not None else None
    named = Named.of(once, UPLOAD, repo, sent.model, wishes, asked)
    known = service.jobs.known(grant.token, named)
    if known is not None:
        return known
    job = service.jobs.new_id()
    service.intake.assemble(job, sent.entries, sent.wishes, grant=grant, repo=repo)
    row: JobRow | None = None
    try:
        row = service.jobs.submit(
            UPLOAD, asked, repo=repo, model=sent.model, owner=grant.token, once=named, job=job
        )
    finally:
        if row is None or row.id != job:  # it can't be begun, or was asked for twice at the same moment
            service.intake.forget(job)
    return row
