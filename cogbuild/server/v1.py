"""The API of Cog's server of 2021."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from cogbuild import library
from cogbuild.database import models
from cogbuild.errors.server import ServerStopping
from cogbuild.server.access import Guarded, needs
from cogbuild.server.forms import receive_form
from cogbuild.server.jobs import UPLOAD
from cogbuild.server.messages import as_of_2021
from cogbuild.server.service import Here, Service
from cogbuild.server.shown import model_2021, zipped
from cogbuild.server.wire import LIVE
from cogbuild.spec.names import checked_repo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cogbuild.database.models import EntryRow

__all__ = ["open_router", "router"]

router = APIRouter(tags=["v1"], route_class=Guarded)
#: Whether a server is here anybody may know.
open_router = APIRouter(tags=["v1"])


@open_router.get("/ping", response_class=PlainTextResponse, summary="Is a Cog server here?")
async def ping() -> str:
    """Answer `pong`."""
    return "pong"


_FORM = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "the model as a zip"},
        "adapter": {"type": "array", "items": {"type": "string"}, "description": "what is built of it"},
    },
}
PACKAGES = "/v1/repos/{user}/{name}/packages"


@router.put(
    PACKAGES + "/",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "What happens, a message in JSON a line; the model, or an error, is the last.",
            "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
        }
    },
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}},
    summary="Upload a model and follow its build",
)
@needs("push")
async def upload(user: str, name: str, request: Request, service: Here) -> StreamingResponse:
    """Take a zip as the multipart field `file`; answer with a JSON message a line, as things happen.

    The fields `adapter`, each a name, choose what is built of it; without one it is what the model wants, else all.
    Who goes away meanwhile ends nothing.
    """
    repo = _repo(user, name)
    if service.jobs.stopping:
        raise ServerStopping
    job = service.jobs.new_id()
    fields = await receive_form(request, service.intake.zip_for(job))
    asked = {"size": fields.size, "adapters": fields.all("adapter") or None}
    # Not here: it waits for the database as long as another process holds that.
    await run_in_threadpool(_submit, service, job, asked, repo, request.state.grant.token)
    return StreamingResponse(_told(service, job), media_type="application/x-ndjson", headers=LIVE)


def _submit(service: Service, job: str, asked: dict[str, Any], repo: str, owner: str) -> None:
    try:
        service.jobs.submit(UPLOAD, asked, repo=repo, owner=owner, job=job)
    except BaseException:
        service.intake.forget(job)
        raise


async def _told(service: Service, job: str) -> AsyncIterator[bytes]:
    """Yield what a client of 2021 understands. It takes any error for the end of all, so a model is the last thing it hears."""
    async for said in service.jobs.feeds.follow(job):
        lines, over = [], False
        for _, line in said or ():
            if not over and (message := as_of_2021(line)) is not None:
                lines.append(json.dumps(message, separators=(",", ":")) + "\n")
                over = message["type"] == "model"
        if lines:
            yield "".join(lines).encode()
        if over:
            return


@router.get(PACKAGES + "/", summary="List the models of a repo")
@needs("read")
def listed(user: str, name: str, service: Here) -> list[dict[str, Any]]:
    """Return the repo's models, the newest first."""
    found = models.entries(service.project.con, repos=[_repo(user, name)])
    return [model_2021(service.project, entry) for entry in found]


@router.get(
    PACKAGES + "/{model}.zip",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}},
    summary="Download a model's files",
)
@needs("read")
def package(user: str, name: str, model: str, service: Here) -> StreamingResponse:
    """Return the model's files as a zip: the same bytes every time."""
    entry = _entry(service, user, name, model)
    headers = {"Content-Disposition": f'attachment; filename="{entry.model}.zip"'}
    return StreamingResponse(zipped(service.project, entry), media_type="application/zip", headers=headers)


@router.get(PACKAGES + "/{model}", summary="Show a model")
@needs("read")
def shown(user: str, name: str, model: str, service: Here) -> dict[str, Any]:
    """Return one model with its artifacts."""
    return model_2021(service.project, _entry(service, user, name, model))


@router.delete(PACKAGES + "/{model}", response_class=PlainTextResponse, summary="Let go of a model")
@needs("admin")
def deleted(user: str, name: str, model: str, service: Here) -> str:
    """Take the model out of the repo."""
    entry = _entry(service, user, name, model)
    library.remove(service.project, entry)
    return f"Deleted {entry.model}"


def _repo(user: str, name: str) -> str:
    return checked_repo(f"{user}/{name}")


def _entry(service: Service, user: str, name: str, model: str) -> EntryRow:
    return library.find(service.project, model, [_repo(user, name)])[0]
