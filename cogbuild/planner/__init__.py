"""Which pairs are not fresh, at the cost of what changed.

``judging`` gathers the facts of one pair and asks :mod:`cogbuild.verdict`; ``plan`` finds the pairs that have to be asked
about at all: those whose entry moved in the change feed since their adapter's mark, and those listed as pending.
"""

from __future__ import annotations

from cogbuild.planner.judged import Judged, Needed
from cogbuild.planner.judging import Judge
from cogbuild.planner.plan import Plan, Planner, Selection

__all__ = ["Judge", "Judged", "Needed", "Plan", "Planner", "Selection"]
