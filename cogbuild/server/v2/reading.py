"""What there is, how it stands and why: the reading half of the API, in the shapes and words of the command line.

`Accept: text/plain` gets what the command prints. Looking changes nothing: live directories are looked at by jobs and by
commands, not here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from cogbuild.asked import kept, known_repos
from cogbuild.asked import models as asked_models
from cogbuild.asked import pairs as asked_pairs
from cogbuild.database import feed
from cogbuild.errors.server import TooMuchAtOnce
from cogbuild.planner import Planner, Selection
from cogbuild.report.tables import Page
from cogbuild.server.access import Guarded, needs
from cogbuild.server.service import Here
from cogbuild.server.testing import TEST_ADAPTER
from cogbuild.server.v2 import shapes
from cogbuild.server.wire import About, After, Limit, Shown, reply, text_too
from cogbuild.views.browsing import STATES, Filters

if TYPE_CHECKING:
    from cogbuild.database.browsing import Repos
    from cogbuild.project import Project

__all__ = ["router"]

router = APIRouter(prefix="/v2", tags=["reading"], route_class=Guarded)

#: Models whose pairs are judged for one answer that is not paged.
_MOST = 5_000

Names = Annotated[
    list[str], Query(alias="adapter", description="Only this adapter; may be given more than once.")
]
State = Literal[STATES]  # type: ignore[valid-type] # a tuple of literals is one


@router.get(
    "/models", responses=text_too(shapes.Models, "The models, the newest first."), summary="List models"
)
@needs("read")
def models(
    request: Request, service: Here, about: About, on: Shown, after: After, limit: Limit = 1000
) -> Response:
    """List the models, the newest first, as `cogbuild models ls` does. A `Link` header leads to the next page."""
    return reply(request, asked_models.listed(service.project, about, limit=limit, after=after), on)


@router.get("/models/{model}", responses=text_too(shapes.ShownModels, "The model."), summary="Show a model")
@needs("read")
def model(request: Request, model: str, service: Here, about: About, on: Shown) -> Response:
    """Show a model in each of its repos, as `cogbuild models show` does: what it declares, what was made of it."""
    return reply(request, asked_models.shown(service.project, model, about, [*service.adapters()]), on)


@router.get("/status", responses=text_too(shapes.Status, "A page of the matrix."), summary="Show the matrix")
@needs("read")
def status(
    request: Request,
    service: Here,
    about: About,
    on: Shown,
    after: After,
    adapter: Names = [],  # noqa: B006
    state: Annotated[list[State], Query(description="Only models with a pair that stands so.")] = [],  # noqa: B006
    page: Annotated[
        int, Query(ge=1, le=1_000_000_000, description="The N-th page, as long as `lines` is high.")
    ] = 1,
    everything: Annotated[
        bool, Query(alias="all", description="Everything, with what adapters made that are no longer active.")
    ] = False,
    limit: Annotated[
        int | None, Query(ge=1, le=500, description="Go by `after` instead, so many models a page.")
    ] = None,
) -> Response:
    """Show how pairs stand, models down, adapters across, as `cogbuild status` does.

    With `state`, `limit` or `after` it is read from a place on: a `Link` header leads to what follows. A page may have fewer
    models than `limit` and yet not be the last one.
    """
    project, adapters = service.project, service.adapters()
    if state or limit is not None or after is not None:
        filters = Filters(about, tuple(adapter), tuple(state))
        answer = asked_pairs.browsed(project, adapters, filters, limit=limit or 50, after=after)
        return reply(request, answer, on)
    if everything:
        _bounded(project, about)
    answer = asked_pairs.status(
        project, adapters, on or Page(), repos=about, names=adapter, number=0 if everything else page
    )
    return reply(request, answer, on)


def _bounded(project: Project, about: Repos) -> None:
    if about.everything and (count := feed.count_live(project.con)) > _MOST:
        raise TooMuchAtOnce(models=count)


@router.get(
    "/explain/{model}/{adapter}",
    responses=text_too(shapes.Explained, "The pair, in each of the model's repos."),
    summary="Explain a pair",
)
@needs("read")
def explain(request: Request, model: str, adapter: str, service: Here, about: About, on: Shown) -> Response:
    """Say why a pair is what it is, as `cogbuild explain` does: its verdict, and which rows of its manifest moved."""
    return reply(
        request, asked_pairs.explained(service.project, service.adapters(), model, adapter, about), on
    )


@router.get(
    "/artifacts", responses=text_too(shapes.Artifacts, "What adapters made."), summary="List artifacts"
)
@needs("read")
def artifacts(
    request: Request,
    service: Here,
    about: About,
    on: Shown,
    after: After,
    model: Annotated[list[str], Query(description="Only of this model.")] = [],  # noqa: B006
    adapter: Names = [],  # noqa: B006
    lost: Annotated[bool, Query(description="Only what is known to be gone.")] = False,
    orphaned: Annotated[bool, Query(description="Only of adapters that are no longer active.")] = False,
    limit: Limit = 1000,
) -> Response:
    """List what was made of the newest models first, as `cogbuild artifacts ls` does; `limit` counts models."""
    answer = kept.artifacts(
        service.project,
        about,
        models=model,
        adapters=adapter,
        lost=lost,
        orphaned=orphaned,
        limit=limit,
        after=after,
        active=[*service.adapters()],
    )
    return reply(request, answer, on)


@router.get(
    "/cache/stats", responses=text_too(shapes.CacheStats, "Counts and sizes."), summary="Show the cache"
)
@needs("read", everywhere=True)
def cache_stats(request: Request, service: Here, on: Shown) -> Response:
    """Say what the cache was good for and what is kept, as `cogbuild cache stats` does."""
    return reply(request, kept.cache_stats(service.project), on)


@router.get("/plan", responses=text_too(shapes.Plan, "What a run would do."), summary="Foretell a run")
@needs("read")
def plan(
    request: Request,
    service: Here,
    about: About,
    on: Shown,
    model: Annotated[list[str], Query(description="Only this model.")] = [],  # noqa: B006
    adapter: Names = [],  # noqa: B006
    force: Annotated[bool, Query(description="Also what is fresh.")] = False,
) -> Response:
    """Say what a run would do and why, as `cogbuild adapt --dry-run` does; it runs nothing."""
    project = service.project
    known_repos(project, about.names, about.scope)
    within = about.names or (() if about.scope == "*" else tuple(about.known(project.con)) or (about.scope,))
    active = service.adapters()
    # As a job does: the model's test is not asked again by whoever adapts.
    names = tuple(adapter) or tuple(name for name in active if name != TEST_ADAPTER)
    found = Planner(project, active).plan(Selection(tuple(model), within, names, force), dry=True)
    if not about.everything:
        found.problems.clear()  # of live directories, whoever's they are
    if len(found.eids) > _MOST:
        raise TooMuchAtOnce(models=len(found.eids))
    return reply(request, kept.foretold(found), on, code=2 if found.problems else 0)
