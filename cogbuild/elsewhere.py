"""Whether what was published is where the settings say it is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cogbuild.database import models, upkeep
from cogbuild.errors.state import ArtifactsElsewhere

if TYPE_CHECKING:
    from cogbuild.project import Project

__all__ = ["check_place", "is_known"]

_MEMO = "artifact_store"


def is_known(project: Project) -> bool:
    """Whether artifacts were there when runs last looked, or no run ever did."""
    return models.memo(project.con, _MEMO) in {None, _now(project)}


def _now(project: Project) -> bytes:
    store = project.settings.artifact_store
    return store.encode() if store is not None and store.startswith("file:") else b""


def check_place(project: Project, *, remember: bool = True) -> None:
    """Look once at every published artifact where the settings name another place for them than before.

    Outcomes name what was published by its path in that place, so all would count as fresh and be nowhere. Raises
    ``ArtifactsElsewhere``; *remember*: the place is the known one from now on where it has them all.
    """
    now, known = _now(project), models.memo(project.con, _MEMO)
    if known == now:
        return
    if known is not None:
        paths = upkeep.published(project.con)
        gone = sum(not os.path.lexists(project.objects.artifacts / path) for path in paths)
        if gone:
            before = known.decode() or "the data directory"
            raise ArtifactsElsewhere(
                gone=gone, count=len(paths), before=before, now=project.objects.artifacts
            )
    if remember:
        project.remember(_MEMO, now)
