"""A pair and a model, each on a page of its own: reasons, what was made, what was tried, the log; and what can be done."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from cogbuild.asked.pairs import Attempts, within
from cogbuild.database import jobs as job_rows
from cogbuild.database.browsing import Repos
from cogbuild.errors.commands import NoAttempt
from cogbuild.planner.judged import pair_name
from cogbuild.planner.judging import Judge
from cogbuild.report.explained import stored_reasons
from cogbuild.report.logs import Escaped
from cogbuild.report.models import facts as model_facts
from cogbuild.report.models import fidelity_words
from cogbuild.report.words import age, amount, reason_text, span
from cogbuild.server.access import Guarded, needs
from cogbuild.server.jobs import ADAPT, Once
from cogbuild.server.pages.cells import MEANINGS, cell_of, content_link, model_link, pair_link
from cogbuild.server.pages.jobs import reads, shown_job
from cogbuild.server.pages.rendering import checked_form, render
from cogbuild.server.service import Here, Service
from cogbuild.server.wire import scope_of
from cogbuild.views.attempts import (
    attempts_of,
    entries_ever,
    is_running,
    kept_log,
    running_pairs,
    shown_by_default,
)
from cogbuild.views.browsing import RUNNING
from cogbuild.views.matrix import judged_rows
from cogbuild.views.models import model_view
from cogbuild.views.pair import pair_view

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cogbuild.database.jobs import JobRow
    from cogbuild.database.models import EntryRow
    from cogbuild.server.grants import Grant
    from cogbuild.views.attempts import Tried
    from cogbuild.views.pair import PairView

__all__ = ["router"]

router = APIRouter(include_in_schema=False, route_class=Guarded)

_TAIL = 1 << 16  # bytes of a log that are on the page from the start
_MOST_ATTEMPTS = 50


@router.get("/pairs/{user}/{name}/{model}/{adapter}")
@needs("read")
def pair(
    user: str,
    name: str,
    model: str,
    adapter: str,
    request: Request,
    service: Here,
    attempt: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """Show one pair."""
    project, repo = service.project, f"{user}/{name}"
    entry = entries_ever(project, model, [repo], scope_of(request))[0]
    adapters = service.adapters()
    view = within(pair_view(project, adapters, entry, adapter), Repos((), scope_of(request)))
    tried = attempts_of(project, entry, adapter)
    chosen = _chosen(service, entry, adapter, tried, attempt)
    now = [item for item in tried if item.seconds is None]
    running, elsewhere = _jobs_of(service, now)
    about = {row.id: row for row in (*_jobs_about(service, entry, adapter), *running)}
    under_way = about.values()
    grant: Grant = request.state.grant
    busy = bool(now or under_way)
    judged = view.verdict is not None
    undone = view.verdict is not None and not view.verdict.settled
    last_failed = undone and bool(tried) and tried[-1].status in ("failed", "refused")
    state = RUNNING if now else "failed" if last_failed else _state(view)
    return render(
        request,
        "pair.html",
        entry=entry,
        adapter=adapter,
        repo_link=f"/?repo={repo}",
        model_link=model_link(entry),
        here_link=pair_link(entry, adapter),
        state=state,
        lead=_lead(view, state),
        jobs=[shown_job(grant, row) for row in under_way if reads(grant, row)],
        hidden=any(not reads(grant, row) for row in under_way),
        may_adapt=grant.may("adapt", repo),
        elsewhere=elsewhere,
        action=None
        if not judged or busy
        else "Retry"
        if last_failed
        else "Build again"
        if state == "fresh"
        else "Build",
        action_fields={"force": "1"} if state in ("fresh", "not applicable") else {},
        once=secrets.token_hex(16),
        moved=view.moved,
        against=view.against,
        row_count=view.rows,
        made=list(_made(view)),
        artifacts=[_artifact(item, uri, content_link(entry, adapter, item)) for item, uri in view.artifacts],
        manifest=view.manifest,
        attempts=[_attempt(item) for item in reversed(tried[-_MOST_ATTEMPTS:])],
        busy=busy,
        **_log(service, entry, adapter, chosen, len(tried)),
    )


def _lead(view: PairView, state: str) -> str:
    """Return the sentence below the heading."""
    if view.verdict is None:
        return f"It is not judged: {view.unjudged}."
    said = "; ".join(reason.text for reason in view.verdict.reasons if reason.label is None)
    said = said or dict(MEANINGS).get(state, "")
    return said[:1].upper() + said[1:] + ("" if said.endswith((".", "?", "!")) else ".")


def _state(view: PairView) -> str:
    if view.verdict is None:
        failed = view.outcome is None and view.last is not None and view.last.status in ("failed", "refused")
        return "failed" if failed else "orphaned"
    kind = str(view.verdict.kind)
    return "never built" if kind == "stale" and view.outcome is None else kind


def _chosen(
    service: Service, entry: EntryRow, adapter: str, tried: list[Tried], attempt: str
) -> Tried | None:
    if not attempt:
        return shown_by_default(service.project, entry, adapter, tried)
    for item in tried:
        if item.id == attempt:
            return item
    raise NoAttempt(pair=pair_name(entry, adapter), number=attempt)


def _jobs_about(service: Service, entry: EntryRow, adapter: str | None = None) -> list[JobRow]:
    """Return the jobs under way that build the model, or the pair; not those that are about everything."""
    return [
        row
        for row in job_rows.under_way(service.project.con)
        if row.model == entry.model
        and row.repo in (entry.repo, None)
        and (adapter is None or not row.request.get("adapters") or adapter in row.request["adapters"])
    ]


def _jobs_of(service: Service, now: list[Tried]) -> tuple[list[JobRow], bool]:
    """Return the jobs that run these attempts, whatever they were asked for, and whether another process runs one."""
    found: list[JobRow] = []
    elsewhere = False
    for item in now:
        row = service.jobs.that_runs_in(item.work) if item.work is not None else None
        if row is not None:
            found.append(row)
        elif is_running(service.project, item):  # else it has just ended
            elsewhere = True
    return found, elsewhere


def _made(view: PairView) -> Iterator[tuple[str, str]]:
    outcome, origin = view.outcome, view.origin
    if outcome is None:
        return
    took = f" in {span(origin.ran.seconds)}" if origin is not None and origin.ran is not None else ""
    yield (
        outcome.how,
        f"{age(outcome.made)} ago{took}" + (f", for {origin.pair}" if origin and origin.pair else ""),
    )
    if outcome.reasons != "[]":
        yield "because", reason_text(stored_reasons(outcome.reasons), most=8)
    if outcome.reason is not None:
        yield "says", outcome.reason
    if outcome.lost is not None:
        yield "gone", outcome.lost
    elif outcome.seen is not None:
        yield "seen", f"{age(outcome.seen)} ago"
    if outcome.test_failed is not None:
        yield "test", f"refused it: {outcome.test_failed}"
    yield (
        "key",
        (view.key or outcome.key)[:12]
        + (f" now, {outcome.key[:12]} when it was made" if view.key not in (None, outcome.key) else ""),
    )


def _artifact(item: Any, uri: str, download: str) -> dict[str, Any]:
    facts = [amount(item.size)] if item.size is not None else []
    facts += [item.media_type] if item.media_type else []
    facts += [item.digest.removeprefix("sha256:")[:12]] if item.digest else []
    return {
        "name": item.name,
        "uri": uri,
        "download": download if item.size is not None else None,  # else somebody else keeps it
        "facts": facts,
        "fidelity": fidelity_words(item.fidelity).removeprefix("off by up to ") if item.fidelity else None,
    }


def _attempt(item: Tried) -> dict[str, Any]:
    return {
        "id": item.id,
        "number": item.number,
        "status": item.status,
        "age": f"{age(item.started)} ago",
        "took": span(item.seconds) if item.seconds is not None else "",
        "kind": item.kind,
        "detail": item.detail,
    }


def _log(service: Service, entry: EntryRow, adapter: str, chosen: Tried | None, count: int) -> dict[str, Any]:
    if chosen is None:
        return {"shown_id": None, "running": False, "log": "", "log_end": 0, "log_cut": None, "log_note": ""}
    project = service.project
    runs = is_running(project, chosen)
    start = end = 0
    data = b""
    if chosen.log is not None:
        with chosen.log.open("rb") as file:
            end = file.seek(0, 2)
            start = max(0, end - _TAIL)
            file.seek(start)
            data = file.read(end - start)
        if runs:  # the rest of a line is followed
            data = data[: data.rfind(b"\n") + 1] if b"\n" in data else b""
            end = start + len(data)
        if start:
            data = data[data.find(b"\n") + 1 :]
    elif (kept := kept_log(project, entry, adapter, chosen.id)) is not None:
        data = kept.encode("utf-8", "surrogateescape")
    note = Attempts(project, entry, adapter, [chosen] * count).note(chosen)
    return {
        "shown_id": chosen.id,
        "running": runs,
        "log": Escaped()(data, last=True),
        "log_end": end,
        "log_cut": amount(len(data)) if start else None,
        "log_note": note,
    }


# -- a model ----------------------------------------------------------------------------------------------------------


@router.get("/models/{user}/{name}/{model}")
@needs("read")
def model(user: str, name: str, model: str, request: Request, service: Here) -> Response:
    """Show one model with its pairs."""
    project, repo = service.project, f"{user}/{name}"
    entry = entries_ever(project, model, [repo], scope_of(request))[0]
    adapters = service.adapters()
    view = model_view(project, entry, list(adapters))
    running = running_pairs(project)
    cells = []
    if entry.live:
        ((_, row),) = judged_rows(project, Judge(project, adapters), [entry], list(adapters))
        cells = [cell_of(entry, item, running=(entry.eid, item.adapter) in running) for item in row.values()]
    return render(
        request,
        "model.html",
        entry=entry,
        repo_link=f"/?repo={repo}",
        here_link=model_link(entry),
        facts=[row for row in model_facts(view) if row[0] not in ("model", "repo")],
        unlisted=view.unlisted,
        cells=cells,
        may_adapt=entry.live and request.state.grant.may("adapt", repo),
        once=secrets.token_hex(16),
        busy=bool(_jobs_about(service, entry)) or any(cell.state == RUNNING for cell in cells),
    )


# -- buttons ----------------------------------------------------------------------------------------------------------


@router.post("/pairs/{user}/{name}/{model}/{adapter}/adapt")
@needs("adapt")
async def adapt(user: str, name: str, model: str, adapter: str, request: Request, service: Here) -> Response:
    """Build a pair, and show it while it is built."""
    fields = await checked_form(request)
    return await run_in_threadpool(_begin, service, request, (f"{user}/{name}", model), [adapter], fields)


@router.post("/models/{user}/{name}/{model}/adapt")
@needs("adapt")
async def adapt_model(user: str, name: str, model: str, request: Request, service: Here) -> Response:
    """Build every pair of a model that is not fresh."""
    fields = await checked_form(request)
    return await run_in_threadpool(_begin, service, request, (f"{user}/{name}", model), [], fields)


def _begin(
    service: Service, request: Request, named: tuple[str, str], names: list[str], fields: dict[str, str]
) -> Response:
    from cogbuild import library
    from cogbuild.errors.adapters import UnknownAdapter
    from cogbuild.errors.server import ServerStopping

    repo, prefix = named
    if service.jobs.stopping:
        raise ServerStopping
    active = service.adapters()
    for name in names:
        if name not in active:
            raise UnknownAdapter(name=name, active=list(active))
    entry = library.find(service.project, prefix, [repo], scope_of(request))[0]
    asked = {"models": [entry.model], "repos": [repo], "adapters": names, "fail_fast": False, "jobs": None}
    asked["force"] = fields.get("force") == "1"
    service.jobs.submit(
        ADAPT,
        asked,
        repo=repo,
        model=entry.model,
        owner=request.state.grant.token,
        once=Once.of(f"page:{fields['once']}" if fields.get("once") else None, ADAPT, asked),
    )
    return RedirectResponse(pair_link(entry, names[0]) if names else model_link(entry), 303)
