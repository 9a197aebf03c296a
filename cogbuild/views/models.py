"""One (repo, model) with what it declares and what was made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cogbuild.active import survey
from cogbuild.database import feed, models, pairs
from cogbuild.library import spec_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from cogbuild.database.models import EntryRow
    from cogbuild.database.pairs import Artifact, Outcome
    from cogbuild.project import Project
    from cogbuild.spec import AdapterSpec, ModelSpec

__all__ = ["Made", "ModelView", "active_names", "active_specs", "model_of", "model_view", "unlisted"]


@dataclass(frozen=True)
class Made:
    """What one adapter made of a model, or that it does not apply."""

    adapter: str
    active: bool
    outcome: Outcome
    artifacts: tuple[tuple[Artifact, str], ...]  # with their URIs as people use them


@dataclass(frozen=True)
class ModelView:
    """One (repo, model) with what it declares and what was made of it."""

    entry: EntryRow
    spec: ModelSpec
    path: str | None  # the live directory
    made: tuple[Made, ...]
    unlisted: str | None  # why it is in no list or plan


def model_of(project: Project, pair: str) -> str:
    """Return the whole ID of the model that a pair's name shows in twelve digits."""
    repo, _, rest = pair.partition("@")
    prefix = rest.partition(":")[0]
    found = models.entries(project.con, prefix=prefix, repos=[repo])
    return found[0].model if found else prefix


def active_names(project: Project) -> set[str]:
    """Return the names of the active adapters, also of those that can't be used just now."""
    return {item.name for item in survey(project) if item.name is not None}


def active_specs(project: Project) -> dict[str, AdapterSpec | None]:
    """Return what they declare, None where that can't be read."""
    return {
        item.name: item.adapter.spec if item.adapter is not None else None
        for item in survey(project)
        if item.name is not None
    }


def model_view(project: Project, entry: EntryRow, active: Collection[str] | None = None) -> ModelView:
    """Return everything about one (repo, model)."""
    known = active_names(project) if active is None else active
    names = feed.adapter_names(project.con)
    made = [
        Made(
            names[aid],
            names[aid] in known,
            outcome,
            tuple((item, project.uri(item)) for item in outcome.artifacts),
        )
        for (_, aid), outcome in pairs.outcomes(project.con, eids=[entry.eid]).items()
    ]
    path = None if entry.sealed else models.link_of(project.con, entry.eid)
    return ModelView(
        entry,
        spec_of(entry),
        path,
        tuple(sorted(made, key=lambda item: item.adapter)),
        unlisted(project, entry),
    )


def unlisted(project: Project, entry: EntryRow) -> str | None:
    """Return why a model is in no list or plan, None where it is in them. What is gone says not whether it ever was."""
    if entry.live:
        return None
    if entry.sealed:
        return "the model is not let in yet"
    for eid in models.versions(project.con, entry):
        newer = models.find(project.con, eid)
        if newer is not None and newer.live and not newer.sealed and newer.added >= entry.added:
            return f"its directory holds another version now, {newer.model[:12]}"
    return "the model was removed, or never let in"
