"""How the pairs of each adapter stand in all, from what is counted and listed; no pair is judged for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cogbuild.database import browsing, feed
from cogbuild.quiet import wanted

if TYPE_CHECKING:
    from cogbuild.adapters import Adapter
    from cogbuild.project import Project

__all__ = ["Standing", "standing"]


@dataclass(frozen=True)
class Standing:
    """The pairs of one adapter."""

    adapter: str
    pairs: int
    failed: int  # the last attempt did
    blocked: int  # what they need failed
    waiting: int  # planned or to be looked at again
    unseen: int  # models that came, or another version of the adapter, and no run has looked since

    @property
    def settled(self) -> int:
        """Those with nothing to do: fresh, or the adapter does not apply."""
        return max(0, self.pairs - self.failed - self.blocked - self.waiting - self.unseen)


def standing(project: Project, adapters: dict[str, Adapter]) -> list[Standing]:
    """Return how the pairs of each adapter stand."""
    con = project.con
    listed = browsing.listed_by_kind(con)
    live = feed.count_live(con)
    needs = {name: adapter.needs for name, adapter in adapters.items()}
    unwanted = dict.fromkeys(adapters, 0)
    for wished, image, count in feed.wishes(con):
        names = wanted(needs, json.loads(wished) if wished else None, image=image)
        for name in unwanted:
            unwanted[name] += count if name not in names else 0
    found = []
    for name, adapter in adapters.items():
        known = feed.scope(con, name)
        pairs = live - unwanted[name]
        kinds = listed.get(known[0], {}) if known is not None else {}
        if known is None or known[1] != adapter.context:
            unseen = max(0, pairs - sum(kinds.values()))
        else:
            unseen = browsing.count_unseen(con, known[0], known[2])
        failed, blocked, waiting = (kinds.get(kind, 0) for kind in ("failed", "blocked", "waiting"))
        found.append(Standing(name, pairs, failed, blocked, waiting, min(unseen, pairs)))
    return found
