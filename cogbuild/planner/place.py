"""Whether what was published is where the settings say it is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cogbuild.database import models, pairs
from cogbuild.errors.state import ArtifactsElsewhere

if TYPE_CHECKING:
    from cogbuild.project import Project

__all__ = ["check_place"]

_MEMO = "artifact_store"


def check_place(project: Project, *, remember: bool) -> None:
    """Look once at every published artifact where the settings name another place for them than before.

    Outcomes name what was published by its path in that place, so all would count as fresh and be nowhere. Raises
    ``ArtifactsElsewhere``; *remember*: the place is the known one from now on where it has them all.
    """
    store = project.settings.artifact_store
    now = store if store is not None and store.startswith("file:") else ""
    known = models.memo(project.con, _MEMO)
    if known == now.encode():
        return
    if known is not None:
        paths = pairs.published(project.con)
        gone = sum(not os.path.lexists(project.objects.artifacts / path) for path in paths)
        if gone:
            raise ArtifactsElsewhere(
                gone=gone,
                count=len(paths),
                before=known.decode() or "the data directory",
                now=project.objects.artifacts,
            )
    if remember:
        project.remember(_MEMO, now.encode())
