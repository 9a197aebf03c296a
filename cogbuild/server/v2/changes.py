"""What is wanted of a model, changed; a model, let go of: the words of `cogbuild models set` and `rm`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from cogbuild import library
from cogbuild.asked import Answer
from cogbuild.report.models import changed_line, entry_json, removed_line, returns_note
from cogbuild.server.access import Guarded, needs
from cogbuild.server.service import Here
from cogbuild.server.v2 import shapes
from cogbuild.server.wire import About, Shown, reply, text_too
from cogbuild.wanted import Wish, change, notes, param

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cogbuild.database.browsing import Repos
    from cogbuild.database.models import EntryRow
    from cogbuild.server.service import Service

__all__ = ["router"]

router = APIRouter(prefix="/v2/models", tags=["changes"], route_class=Guarded)

Names = Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=1000)]


class Changed(BaseModel):
    """What is to be wanted; what is not named stays as it is."""

    model_config = ConfigDict(extra="forbid")
    cpu_image: str | None = Field(None, max_length=2000, description="Empty takes the image away.")
    adapters: Names = Field([], description="These adapters and no others.")
    all_adapters: bool = Field(False, description="Every active adapter; not together with `adapters`.")
    params: Annotated[list[Annotated[str, Field(max_length=100_000)]], Field(max_length=1000)] = Field(
        [], description="`ADAPTER.NAME=JSON`; null takes the parameter away."
    )

    @model_validator(mode="after")
    def _not_both(self) -> Self:
        if self.adapters and self.all_adapters:
            raise ValueError("adapters and all_adapters exclude each other")
        return self


class Rows(BaseModel):
    """The models as they are now."""

    models: list[shapes.Entry]


@router.patch("/{model}", responses=text_too(Rows, "What was changed."), summary="Change what is wanted")
@needs("adapt")
def wanted(asked: Changed, request: Request, model: str, service: Here, about: About, on: Shown) -> Response:
    """Change a model's image, its adapters, their parameters, in each of its repos, as `cogbuild models set` does."""
    wish = Wish(asked.cpu_image, asked.adapters, asked.all_adapters, [param(text) for text in asked.params])
    found = change(service.project, _entries(service, request, model, about, "adapt"), wish)
    active = {name: adapter.spec for name, adapter in service.adapters().items()}
    return reply(request, _rows(found, changed_line), on, stderr=_lines(notes(wish, active)))


@router.delete("/{model}", responses=text_too(Rows, "What was let go of."), summary="Let go of a model")
@needs("admin")
def removed(request: Request, model: str, service: Here, about: About, on: Shown) -> Response:
    """Let go of a model in each of its repos, as `cogbuild models rm` does: outcomes are released, attempts stay."""
    found = _entries(service, request, model, about, "admin")
    declared = library.declared_by_settings(service.project)
    for entry in found:
        library.remove(service.project, entry)
    returning = [returns_note(declared[entry.eid]) for entry in found if entry.eid in declared]
    return reply(request, _rows(found, removed_line), on, stderr=_lines(returning))


def _entries(service: Service, request: Request, model: str, about: Repos, action: str) -> list[EntryRow]:
    found = library.find(service.project, model, about.names, about.scope)
    for entry in found:
        request.state.grant.require(action, entry.repo, what=f"model {model}")
    return found


def _lines(said: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in said)


def _rows(found: Sequence[EntryRow], line: Callable[[EntryRow], str]) -> Answer:
    return Answer(
        lambda: {"models": [entry_json(entry) for entry in found]},
        lambda _: [line(entry) for entry in found],
    )
