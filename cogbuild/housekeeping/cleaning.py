"""Letting go of an outcome and of what it published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cogbuild.database import pairs

if TYPE_CHECKING:
    from cogbuild.database.pairs import Outcome
    from cogbuild.project import Project

__all__ = ["clean"]


def clean(project: Project, outcome: Outcome) -> list[str]:
    """Drop an outcome and what it published; return a line for each thing that went.

    A published artifact that another outcome or a pin names stays.
    """
    project.database.write(lambda con: pairs.drop_outcome(con, outcome.eid, outcome.aid))
    project.cache.remove(outcome.key)
    gone = []
    for item in outcome.artifacts:
        if item.published and item.digest and not pairs.is_named(project.con, item.digest):
            project.objects.withdraw(item.digest)
            gone.append(f"removed {project.uri(item)}")
        elif not item.published:
            gone.append(f"left {item.uri}: cogbuild did not make that place")
    return gone
