"""Jobs over HTTP: what was asked for, how far it is, what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse

from cogbuild.database import jobs
from cogbuild.errors.server import UnknownJob
from cogbuild.report.words import iso
from cogbuild.server.access import Guarded, needs
from cogbuild.server.service import Here, Service
from cogbuild.server.wire import LIVE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cogbuild.database.jobs import JobRow
    from cogbuild.server.grants import Grant

__all__ = ["job_json", "router"]

router = APIRouter(prefix="/v2/jobs", tags=["jobs"], route_class=Guarded)


def job_json(row: JobRow) -> dict[str, Any]:
    """Return a job as JSON."""
    return {
        "job": row.id,
        "kind": row.kind,
        "state": row.state,
        "repo": row.repo,
        "model": row.model,
        "created": iso(row.created),
        "started": iso(row.started),
        "ended": iso(row.ended),
        "exit_code": row.exit_code,
    }


def _found(service: Service, request: Request, job: str) -> JobRow:
    """Return a job that the request may read: its own, or one about a repo that it reads. Raises ``UnknownJob``."""
    row = service.jobs.find(job)
    if not _reads(request.state.grant, row):
        raise UnknownJob(job=job)
    return row


def _reads(grant: Grant, row: JobRow) -> bool:
    about = grant.may("read", row.repo) if row.repo is not None else grant.everywhere
    return about or row.owner == grant.token


@router.get("", summary="List jobs")
@needs("read")
def listed(
    request: Request,
    service: Here,
    before: Annotated[str | None, Query(description="The `next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """Return jobs that this token may read, the newest first; `next` is the `before` of the next page."""
    grant: Grant = request.state.grant
    # By the ID and not by the number, which tells how many jobs others have.
    number = _found(service, request, before).jid if before is not None else None
    rows = jobs.listed(service.project.con, before=number, limit=limit, reads=lambda row: _reads(grant, row))
    return {"jobs": [job_json(row) for row in rows], "next": rows[-1].id if len(rows) == limit else None}


@router.get("/{job}", summary="Show a job")
@needs("read", "push", "adapt")
def shown(job: str, request: Request, service: Here) -> dict[str, Any]:
    """Return how far a job is."""
    return job_json(_found(service, request, job))


@router.get(
    "/{job}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
    summary="Follow a job",
)
@needs("read", "push", "adapt")
def events(
    job: str, request: Request, service: Here, last_event_id: Annotated[int, Header(ge=0)] = 0
) -> StreamingResponse:
    """Return the job's messages as server-sent events, those after `Last-Event-ID`, until it has ended."""
    row = _found(service, request, job)
    return StreamingResponse(
        _events(service, row.id, last_event_id), media_type="text/event-stream", headers=LIVE
    )


async def _events(service: Service, job: str, after: int) -> AsyncIterator[bytes]:
    async for said in service.jobs.feeds.follow(job, after):
        yield b":\n\n" if said is None else b"".join(b"id: %d\ndata: %s\n\n" % message for message in said)


@router.delete("/{job}", summary="Cancel a job")
@needs("adapt", "push")
def cancelled(job: str, request: Request, service: Here) -> dict[str, Any]:
    """End a job: what it has made stays, what runs is ended."""
    row = _found(service, request, job)
    grant: Grant = request.state.grant
    if row.owner != grant.token and row.repo is not None:
        grant.require("adapt", row.repo)
    elif row.owner != grant.token:
        grant.require_everywhere("adapt")
    return job_json(service.jobs.cancel(job))
