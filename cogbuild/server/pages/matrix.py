"""The front page: models down, adapters across, how each pair stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from cogbuild.database.browsing import Repos
from cogbuild.report.words import age
from cogbuild.server.access import Guarded, needs
from cogbuild.server.pages.cells import MEANINGS, Cell, cell_of, model_link
from cogbuild.server.pages.rendering import render
from cogbuild.server.service import Here, Service
from cogbuild.server.wire import After, place_of, place_text, scope_of
from cogbuild.views.browsing import STATES, Browsed, Filters, browse
from cogbuild.views.matrix import Matrix
from cogbuild.views.standing import standing

if TYPE_CHECKING:
    from cogbuild.database.browsing import Place
    from cogbuild.database.models import EntryRow
    from cogbuild.views.matrix import Pair

__all__ = ["router"]

router = APIRouter(include_in_schema=False, route_class=Guarded)

_MODELS = 50  # a page


@dataclass(frozen=True)
class _Row:
    user: str
    name: str
    model: str
    age: str
    link: str
    cells: dict[str, Cell | None]


@router.get("/")
@needs("read")
def matrix(
    request: Request,
    service: Here,
    after: After,
    repo: Annotated[str, Query(max_length=300)] = "",
    adapter: Annotated[str, Query(max_length=200)] = "",
    state: Annotated[str, Query(max_length=40)] = "",
    before: Annotated[str, Query(max_length=60)] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = _MODELS,
) -> Response:
    """Show a page of the matrix."""
    project, adapters, scope = service.project, service.adapters(), scope_of(request)
    repo = repo.strip()
    asked = {"repo": repo, "adapter": adapter, "state": state if state in STATES else ""}
    if limit != _MODELS:
        asked["limit"] = str(limit)
    repos = Repos((repo,) if repo else (), scope)
    unknown = bool(repo) and ("/" not in repo or not repos.known(project.con))
    filters = Filters(repos, (adapter,) if adapter else (), (asked["state"],) if asked["state"] else ())
    end = place_of(before) if before else None
    page = None if unknown else browse(project, adapters, filters, limit=limit, after=after, before=end)
    return render(
        request,
        "matrix.html",
        here="matrix",
        repo=repo,
        adapter=adapter,
        state=asked["state"],
        **_page(page, asked, start=after is None and end is None),
        repo_unknown=unknown,
        filtered=bool(repo or adapter or asked["state"]),
        adapters=list(adapters),
        states=STATES,
        standing=_standing(service) if scope == "*" and not repo else None,
        origin=f"{request.url.scheme}://{request.url.netloc}",
        meanings=MEANINGS,
    )


def _page(page: Browsed | None, asked: dict[str, str], *, start: bool) -> dict[str, Any]:
    if page is None:
        page = Browsed(Matrix((), (), None, None, more=False), frozenset())
    found = page.matrix
    rows = [_row(entry, row, page, found.adapters) for entry, row in found.rows]
    count = len(rows)
    return {
        "columns": found.adapters,
        "column_links": {name: _link(asked | {"adapter": name}) for name in found.adapters},
        "rows": rows,
        "total": found.total,
        "caption": f"{count} model{'' if count == 1 else 's'}, the newest first"
        if start
        else f"{count} older models",
        "newest": None if start else _link(asked),
        "newer": _link(asked, before=page.before) if page.before else None,
        "older": _link(asked, after=page.after) if page.after else None,
        "whole": page.whole,
        "reached": age(page.after.added) if page.after else None,
        "busy": bool(page.running),
    }


def _row(entry: EntryRow, row: dict[str, Pair], page: Browsed, columns: tuple[str, ...]) -> _Row:
    user, _, name = entry.repo.partition("/")
    cells = {
        column: cell_of(entry, row[column], running=(entry.eid, column) in page.running)
        if column in row
        else None
        for column in columns
    }
    return _Row(user, name, entry.model, f"added {age(entry.added)} ago", model_link(entry), cells)


def _link(asked: dict[str, str], *, after: Place | None = None, before: Place | None = None) -> str:
    query = {name: value for name, value in asked.items() if value}
    if after is not None:
        query["after"] = place_text(after)
    if before is not None:
        query["before"] = place_text(before)
    return f"/?{urlencode(query)}" if query else "/"


def _standing(service: Service) -> list[tuple[str, int, str]]:
    """Return (state, pairs, where to see them) of the whole project."""
    found = standing(service.project, service.targets())
    return [
        ("done", sum(item.settled for item in found), "/?state=fresh"),
        ("failed", sum(item.failed for item in found), "/?state=failed"),
        ("blocked", sum(item.blocked for item in found), "/?state=blocked"),
        ("waiting", sum(item.waiting + item.unseen for item in found), "/?state=not+fresh"),
    ]
