"""Letting go of an outcome and of what it published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cogbuild.database import pairs
from cogbuild.using import alone

if TYPE_CHECKING:
    from cogbuild.database.pairs import Artifact, Outcome
    from cogbuild.project import Project

__all__ = ["clean"]


def clean(project: Project, outcome: Outcome) -> list[str]:
    """Drop an outcome and what it published; return a line for each thing that went or stayed.

    A published artifact that another outcome or a pin names stays, and so does one that a running build may be about to
    name, or that another data directory may.
    """
    project.database.write(lambda con: pairs.drop_outcome(con, outcome.eid, outcome.aid))
    project.cache.remove(outcome.key)
    ours = project.objects.artifacts == project.data / "artifacts"
    with alone(project.data) as nobody_else:
        return [
            line
            for item in outcome.artifacts
            if (line := _let_go(project, item, ours, nobody_else)) is not None
        ]


def _let_go(project: Project, item: Artifact, ours: bool, nobody_else: bool) -> str | None:
    if item.size is not None and not item.published:
        return f"left {item.uri}: another data directory may use it"
    if not item.published or item.digest is None:
        return f"left {item.uri}: cogbuild did not make that place"
    if pairs.is_named(project.con, item.digest):
        return None
    if not ours:
        return f"left {project.uri(item)}: another data directory may use it"
    if not nobody_else:
        return f"left {project.uri(item)} for `cogbuild cache gc`: a build runs"
    project.objects.withdraw(item.digest)
    return f"removed {project.uri(item)}"
