"""What the views of the command line show, gathered as values: models, the matrix, one pair and its attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cogbuild.database import models

if TYPE_CHECKING:
    from cogbuild.project import Project

__all__ = ["model_of"]


def model_of(project: Project, pair: str) -> str:
    """Return the whole ID of the model that a pair's name shows in twelve digits."""
    repo, _, rest = pair.partition("@")
    prefix = rest.partition(":")[0]
    found = models.entries(project.con, prefix=prefix, repos=[repo])
    return found[0].model if found else prefix
