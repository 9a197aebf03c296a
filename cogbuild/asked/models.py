"""Which models there are, and one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cogbuild import library
from cogbuild.asked import Answer, known_repos
from cogbuild.database import browsing, models
from cogbuild.database.browsing import ALL, Repos
from cogbuild.report.models import entry_json, listing, model_json, model_lines
from cogbuild.report.summary import problems_json
from cogbuild.views.models import model_view

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from cogbuild.database.browsing import Place
    from cogbuild.library import Problem
    from cogbuild.project import Project
    from cogbuild.report.tables import Page

__all__ = ["listed", "shown"]


def listed(
    project: Project,
    repos: Repos = ALL,
    *,
    limit: int | None = None,
    after: Place | None = None,
    problems: Sequence[Problem] = (),
) -> Answer:
    """Return the models, the newest first. Raises ``UnknownRepo``."""
    known_repos(project, repos.names, repos.scope)
    more = False
    if not project.exists:
        found = []
    elif limit is None:
        found = models.entries(project.con, repos=repos.names, scope=repos.scope)
    else:
        places = browsing.newest(project.con, repos, limit=limit + 1, after=after)
        more = len(places) > limit
        found = models.entries(project.con, eids=[place.eid for place in places[:limit]])

    def lines(on: Page) -> Iterable[str]:
        return listing(found, on) if found else ["no models; add one with `cogbuild models add PATH`"]

    return Answer(
        lambda: {"models": [entry_json(entry) for entry in found], "problems": problems_json(problems)},
        lines,
        browsing.Place(found[-1].added, found[-1].eid) if more and found else None,
    )


def shown(project: Project, model: str, repos: Repos = ALL, active: Collection[str] | None = None) -> Answer:
    """Return a model in each of its repos, what it declares and what was made of it. *active*: adapters, where known.

    Raises ``UnknownModel`` and ``AmbiguousModel``.
    """
    views = [
        model_view(project, entry, active) for entry in library.find(project, model, repos.names, repos.scope)
    ]

    def lines(_: Page) -> Iterable[str]:
        for number, view in enumerate(views):
            if number:
                yield ""
            yield from model_lines(view)

    return Answer(lambda: {"models": [model_json(view) for view in views]}, lines)
