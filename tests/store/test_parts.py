"""Are the rows that an outcome refers to always there?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cogbuild.active import active
from cogbuild.planner import Planner

if TYPE_CHECKING:
    from conftest import Sandbox


def test_a_plan_that_came_to_nothing_leaves_no_gap(box: Sandbox) -> None:
    """A dry run may be the first to see a tree under a filter; the outcome of a later run still has its part."""
    box.adapter("narrow", inputs=["**", "!cog.yaml"])
    box.add("m")
    with box.project() as project:
        assert len(list(Planner(project, active(project)).plan(dry=True))) == 1
    assert box.adapt().ran == ["m narrow"]
