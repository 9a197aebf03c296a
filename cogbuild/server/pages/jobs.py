"""What the server was asked to do, and what it says while it does it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from cogbuild.database import jobs as job_rows
from cogbuild.errors import printable
from cogbuild.errors.server import JobHasEnded, UnknownJob
from cogbuild.report.logs import Escaped
from cogbuild.report.words import age, iso, span
from cogbuild.server.access import Guarded, needs
from cogbuild.server.pages.rendering import checked_form, render
from cogbuild.server.pages.session import own_path
from cogbuild.server.service import Here, Service

if TYPE_CHECKING:
    from cogbuild.database.jobs import JobRow
    from cogbuild.server.grants import Grant

__all__ = ["reads", "router", "shown_job"]

router = APIRouter(include_in_schema=False, route_class=Guarded)

_ROWS = 50
_MESSAGES = 1 << 18  # bytes of messages that are on a page


def reads(grant: Grant, row: JobRow) -> bool:
    """Whether a job may be read."""
    return row.owner == grant.token or (
        grant.may("read", row.repo) if row.repo is not None else grant.everywhere
    )


def shown_job(grant: Grant, row: JobRow) -> dict[str, Any]:
    """Return what pages show of a job."""
    took = (row.ended or time.time()) - row.started if row.started is not None else None
    mine = row.owner == grant.token or row.repo is None
    may = "adapt" in grant.can if mine else grant.may("adapt", row.repo or "")
    return {
        "id": row.id,
        "kind": row.kind,
        "state": row.state,
        "repo": row.repo,
        "model": row.model,
        "age": age(row.created),
        "took": span(took) if took is not None else "",
        "may_cancel": may and row.state not in job_rows.ENDED,
    }


@router.get("/jobs")
@needs("read")
def jobs(request: Request, service: Here, before: Annotated[str | None, Query()] = None) -> Response:
    """List jobs that may be read, the newest first."""
    grant: Grant = request.state.grant
    number = _found(service, request, before).jid if before is not None else None
    rows = job_rows.listed(
        service.project.con, before=number, limit=_ROWS, reads=lambda row: reads(grant, row)
    )
    shown = [shown_job(grant, row) for row in rows]
    return render(
        request,
        "jobs.html",
        here="jobs",
        rows=shown,
        older=f"/jobs?before={rows[-1].id}" if len(rows) == _ROWS else None,
        busy=any(row["state"] in ("queued", "running") for row in shown),
    )


@router.get("/jobs/{job}")
@needs("read")
def job(job: str, request: Request, service: Here) -> Response:
    """Show one job and its messages."""
    row = _found(service, request, job)
    text, count = _said(service, row)
    facts = [
        ("asked", f"{age(row.created)} ago, {iso(row.created)}"),
        *([("model", row.model)] if row.model else []),
        *([("adapters", ", ".join(row.request["adapters"]))] if row.request.get("adapters") else []),
        *([("exit code", str(row.exit_code))] if row.exit_code is not None else []),
    ]
    return render(
        request,
        "job.html",
        here="jobs",
        job=shown_job(request.state.grant, row),
        facts=facts,
        log=text,
        said=count,
        busy=row.state not in job_rows.ENDED,
    )


def _found(service: Service, request: Request, job: str) -> JobRow:
    row = service.jobs.find(job)
    if not reads(request.state.grant, row):
        raise UnknownJob(job=job)
    return row


def _said(service: Service, row: JobRow) -> tuple[str, int]:
    """Return the end of what a job has said as text, and how many messages there were."""
    lines, count = service.jobs.feeds.tail(row.id, _MESSAGES)
    return "".join(map(_line, lines)), count


def _line(line: bytes) -> str:
    try:
        message = json.loads(line)
    except ValueError:
        return ""
    text = str(message.get("data") or "")
    if message.get("type") == "model" or not text:
        return ""
    whose = f"{message['pair']} | " if message.get("type") == "log_line" and message.get("pair") else ""
    return printable(whose) + Escaped()(text.encode("utf-8", "surrogateescape"), last=True) + "\n"


@router.post("/jobs/{job}/cancel")
@needs("adapt")
async def cancel(job: str, request: Request, service: Here) -> Response:
    """End a job and go back to where the button was."""
    fields = await checked_form(request)
    await run_in_threadpool(_cancel, service, request, job)
    return RedirectResponse(own_path(fields.get("back", "/jobs")), 303)


def _cancel(service: Service, request: Request, job: str) -> None:
    row = _found(service, request, job)
    grant: Grant = request.state.grant
    if row.owner != grant.token:
        if row.repo is not None:
            grant.require("adapt", row.repo)
        else:
            grant.require_everywhere("adapt")
    try:
        service.jobs.cancel(row.id)
    except JobHasEnded:
        return  # it was faster than the button
