"""Building over HTTP what is not fresh."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from cogbuild import library
from cogbuild.database import models
from cogbuild.errors.adapters import UnknownAdapter
from cogbuild.errors.models import UnknownModel, UnknownRepo
from cogbuild.errors.server import ServerStopping
from cogbuild.server.access import Guarded, needs
from cogbuild.server.jobs import ADAPT
from cogbuild.server.jobs import Once as Named
from cogbuild.server.service import Here, Service
from cogbuild.server.v2.uploads import Accepted, Once
from cogbuild.spec.names import checked_repo

if TYPE_CHECKING:
    from cogbuild.server.grants import Grant

__all__ = ["router"]

router = APIRouter(prefix="/v2", tags=["adapt"], route_class=Guarded)


class Adapt(BaseModel):
    """What is to be built; empty means all that the token may adapt."""

    model_config = ConfigDict(extra="forbid")
    models: Annotated[list[str], Field(max_length=1000)] = []
    repos: Annotated[list[str], Field(max_length=1000)] = []
    adapters: Annotated[list[str], Field(max_length=1000)] = []
    force: bool = False
    fail_fast: bool = False
    jobs: Annotated[int | None, Field(ge=1, le=1 << 20)] = None


@router.post("/adapt", summary="Build what is not fresh", status_code=202)
@needs("adapt")
def adapt(asked: Adapt, request: Request, service: Here, once: Once = None) -> Accepted:
    """Start the job that builds every chosen pair that is not fresh; the same `Idempotency-Key` gives the same job."""
    if service.jobs.stopping:
        raise ServerStopping
    grant: Grant = request.state.grant
    named = Named.of(once, ADAPT, asked.model_dump())
    known = service.jobs.known(grant.token, named)
    if known is not None:
        return Accepted(job=known.id, repo=known.repo, model=known.model)
    active = service.adapters()
    for name in asked.adapters:
        if name not in active:
            raise UnknownAdapter(name=name, active=list(active))
    repos = _repos(service, grant, [checked_repo(repo) for repo in asked.repos])
    ids = {entry.model for prefix in asked.models for entry in _found(service, grant, prefix, repos)}
    row = service.jobs.submit(
        ADAPT,
        {**asked.model_dump(), "repos": repos, "models": sorted(ids)},
        repo=repos[0] if len(repos) == 1 else None,
        model=next(iter(ids)) if len(ids) == 1 else None,
        owner=grant.token,
        once=named,
    )
    return Accepted(job=row.id, repo=row.repo, model=row.model)


def _repos(service: Service, grant: Grant, asked: list[str]) -> list[str]:
    """Return the repos that the job is about, none for all. Raises ``UnknownRepo`` and ``NotAllowed``."""
    if not asked and grant.repos == "*":
        return []
    there = models.repos(service.project.con)
    if not asked:
        mine = [repo for repo in there if grant.may("adapt", repo)]
        if not mine:
            raise UnknownRepo(repo=grant.repos)
        return mine
    for repo in asked:
        if repo not in there or not grant.may("read", repo):
            raise UnknownRepo(repo=repo)
        grant.require("adapt", repo)
    return asked


def _found(service: Service, grant: Grant, prefix: str, repos: list[str]) -> list[models.EntryRow]:
    """Return what a prefix names. Raises ``UnknownModel`` and ``AmbiguousModel``."""
    found = library.find(service.project, prefix, repos, grant.repos)
    mine = [entry for entry in found if grant.may("adapt", entry.repo)]
    if not mine:
        raise UnknownModel(model=prefix)
    return mine
