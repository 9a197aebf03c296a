"""Pages are found by their place: no question about one reads a whole table, and all pages together are the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cogbuild.active import active
from cogbuild.database import browsing
from cogbuild.database.browsing import ALL, Place, Repos
from cogbuild.views.browsing import Filters, browse
from cogbuild.views.standing import standing

if TYPE_CHECKING:
    from conftest import Sandbox


class Watched:
    """A connection that keeps how SQLite would answer each question."""

    def __init__(self, con: Any) -> None:
        self._con = con
        self.plans: list[str] = []

    def execute(self, sql: str, values: Any = ()) -> Any:
        """Keep the plan, then answer."""
        self.plans += [row[3] for row in self._con.execute("EXPLAIN QUERY PLAN " + sql, values)]
        return self._con.execute(sql, values)


@pytest.mark.parametrize("repos", [ALL, Repos(("local/a",)), Repos((), "local/*"), Repos((), "local/a")])
def test_places_come_from_an_index(box: Sandbox, repos: Repos) -> None:
    """Neither a page's models nor what narrows it down is looked for in a whole table, and nothing is sorted."""
    box.add("a")
    with box.project() as project:
        con = Watched(project.con)
        here: Any = con
        for place in (None, Place(1.0, 1)):
            browsing.newest(here, repos, limit=3, after=place)
            browsing.newest(here, repos, limit=3, before=place)
        list(browsing.listed(here, 1, 9, failed=True))
        list(browsing.not_applicable(here, [1], 9))
        list(browsing.every(here, 9))
        browsing.count_unseen(here, 1, 0)
    bad = [
        plan
        for plan in con.plans
        if plan.startswith("SCAN") and "INDEX" not in plan and "json_each" not in plan
    ]
    assert bad == []
    assert [plan for plan in con.plans if "TEMP B-TREE" in plan] == []


def test_pages_forth_and_back(box: Sandbox) -> None:
    """Whatever the size of a page, going on and going back show each model once, in one order."""
    box.adapter("count")
    for number in range(7):
        box.add(f"m{number}", repo=f"ada/m{number % 3}")
    with box.project() as project:
        adapters = active(project)
        for repos, size in ((ALL, 7), (Repos(("ada/m0", "ada/m1")), 5), (Repos((), "ada/m2"), 2)):
            whole = [place.eid for place in browsing.newest(project.con, repos, limit=99)]
            assert len(whole) == size
            for limit in (1, 2, 3):
                seen: list[int] = []
                page = browse(project, adapters, Filters(repos), limit=limit)
                pages = [page]
                while page.after is not None:
                    page = browse(project, adapters, Filters(repos), limit=limit, after=page.after)
                    pages.append(page)
                for page in pages:
                    seen += [entry.eid for entry, _ in page.matrix.rows]
                assert seen == whole
                back = pages[-1]
                for before in reversed(pages[:-1]):
                    assert back.before is not None
                    back = browse(project, adapters, Filters(repos), limit=limit, before=back.before)
                    assert back.matrix.rows == before.matrix.rows


def test_totals_without_judging(box: Sandbox) -> None:
    """What is settled, failed, waiting and never looked at adds up to the pairs there are."""
    box.adapter("count")
    box.adapter("bad", "#!/bin/sh\nexit 3\n")
    for name in ("a", "b"):
        box.add(name)
    box.adapt()
    box.add("c")
    box.add("d", {"cog-adapters.yaml": "adapters: [count]\n"})
    with box.project() as project:
        count, bad = standing(project, active(project))
    assert (count.pairs, count.settled, count.failed, count.unseen) == (4, 2, 0, 2)
    assert (bad.pairs, bad.settled, bad.failed) == (3, 0, 2)
