"""How pairs stand, why, and what was tried: the matrix, one pair, its attempts and their logs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cogbuild.asked import Answer, known_repos
from cogbuild.database.browsing import ALL, Repos
from cogbuild.errors.adapters import NoAdapters
from cogbuild.errors.commands import NoAttempt, RepoWanted
from cogbuild.planner.judged import pair_name
from cogbuild.report.explained import pair_json, pair_lines, tried_json
from cogbuild.report.logs import attempt_lines, attempt_note
from cogbuild.report.matrix import matrix_json, matrix_lines, models_a_page
from cogbuild.report.summary import problems_json
from cogbuild.views.attempts import (
    adapter_number,
    attempts_of,
    entries_ever,
    kept_log,
    shown_by_default,
)
from cogbuild.views.browsing import Filters, browse
from cogbuild.views.matrix import matrix
from cogbuild.views.models import active_names
from cogbuild.views.pair import pair_view

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cogbuild.adapters import Adapter
    from cogbuild.database.browsing import Place
    from cogbuild.database.models import EntryRow
    from cogbuild.library import Problem
    from cogbuild.project import Project
    from cogbuild.report.tables import Page
    from cogbuild.views.attempts import Tried
    from cogbuild.views.matrix import Matrix
    from cogbuild.views.pair import PairView

__all__ = ["Attempts", "attempts", "browsed", "explained", "status"]


def status(
    project: Project,
    adapters: dict[str, Adapter],
    on: Page,
    *,
    repos: Repos = ALL,
    names: Sequence[str] = (),
    number: int = 1,
    problems: Sequence[Problem] = (),
) -> Answer:
    """Return the *number*-th page of the matrix as it fits on a page of text; 0: all of it, with orphans.

    Raises ``NoAdapters``, ``UnknownAdapter`` and ``UnknownRepo``.
    """
    if not adapters and number:
        raise NoAdapters(looked_in="the settings and --adapter-dir")
    known_repos(project, repos.names, repos.scope)
    if not project.exists:
        return _matrix_answer(None, problems)
    if number == 0:
        found = matrix(project, adapters, repos=repos, names=names, orphans=True)
    else:
        limit = models_a_page(names or list(adapters), on)
        found = matrix(project, adapters, repos=repos, names=names, start=(number - 1) * limit, limit=limit)
    return _matrix_answer(found, problems)


def browsed(
    project: Project,
    adapters: dict[str, Adapter],
    filters: Filters,
    *,
    limit: int,
    after: Place | None = None,
) -> Answer:
    """Return a page of the matrix from a place on, of models with a pair in one of some states."""
    known_repos(project, filters.repos.names, filters.repos.scope)
    page = browse(project, adapters, filters, limit=limit, after=after)
    return replace(_matrix_answer(page.matrix, ()), after=page.after)


def _matrix_answer(found: Matrix | None, problems: Sequence[Problem]) -> Answer:
    empty = {"adapters": [], "first": 1, "total": 0, "more": False, "models": [], "counts": {}}

    def lines(on: Page) -> Iterable[str]:
        if found is None or not found.rows:
            nowhere = found is not None and bool(found.total)
            return ["no models there" if nowhere else "no models; add one with `cogbuild models add PATH`"]
        return matrix_lines(found, on)

    return Answer(
        lambda: {**(matrix_json(found) if found else empty), "problems": problems_json(problems)}, lines
    )


def explained(
    project: Project, adapters: dict[str, Adapter], model: str, adapter: str, repos: Repos = ALL
) -> Answer:
    """Return why a pair is what it is, in each of the model's repos.

    Raises ``UnknownModel``, ``AmbiguousModel``, ``UnknownAdapter`` and ``NoSuchPair``.
    """
    views = [
        within(pair_view(project, adapters, entry, adapter), repos)
        for entry in entries_ever(project, model, repos.names, repos.scope)
    ]

    def lines(_: Page) -> Iterable[str]:
        for number, view in enumerate(views):
            if number:
                yield ""
            yield from pair_lines(view)

    return Answer(lambda: {"pairs": [pair_json(view) for view in views]}, lines)


def within(view: PairView, repos: Repos) -> PairView:
    """Return the view without the name of a pair that is out of scope: its work was shared, its name is its own."""
    origin = view.origin
    if origin is None or origin.pair is None or Repos((), repos.scope).hold(origin.pair.partition("@")[0]):
        return view
    return replace(view, origin=replace(origin, pair=None))


# -- attempts ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attempts:
    """What was tried for one pair."""

    project: Project
    entry: EntryRow
    adapter: str
    tried: list[Tried]  # the first first

    @property
    def answer(self) -> Answer:
        """All of them, and which one is shown where none is named."""
        shown = shown_by_default(self.project, self.entry, self.adapter, self.tried)
        return Answer(
            lambda: {
                "attempts": [tried_json(item) for item in self.tried],
                "shown": shown.id if shown else None,
            },
            lambda on: attempt_lines(self.tried, on) if self.tried else ["no attempts"],
        )

    def chosen(self, number: int | None) -> Tried:
        """Return the attempt of that number, counted from the end where it is negative; None: the one to show.

        Raises ``NoAttempt``.
        """
        name, tried = pair_name(self.entry, self.adapter), self.tried
        if number is None:
            found = shown_by_default(self.project, self.entry, self.adapter, tried)
            if found is None:
                raise NoAttempt(pair=name, number="yet")
            return found
        position = number - 1 if number > 0 else len(tried) + number
        if number == 0 or not 0 <= position < len(tried):
            raise NoAttempt(pair=name, number=number, attempts=len(tried))
        return tried[position]

    def note(self, chosen: Tried) -> str:
        """Return which attempt it is and how it ended."""
        return attempt_note(chosen, len(self.tried))

    def kept(self, chosen: Tried) -> str | None:
        """Return the log that the cache has of an attempt without a log of its own."""
        return kept_log(self.project, self.entry, self.adapter, chosen.id)

    def text(self, chosen: Tried) -> str | None:
        """Return the whole log."""
        return self.kept(chosen) if chosen.log is None else chosen.log.read_bytes().decode("utf-8", "replace")


def attempts(project: Project, model: str, adapter: str, repos: Repos = ALL) -> Attempts:
    """Return the attempts of a pair.

    Raises ``UnknownModel``, ``AmbiguousModel``, ``UnknownAdapter``, and ``RepoWanted`` where several repos have some.
    """
    entries = entries_ever(project, model, repos.names, repos.scope)
    adapter_number(project, adapter, sorted(active_names(project)))
    found = [Attempts(project, entry, adapter, attempts_of(project, entry, adapter)) for entry in entries]
    found = [pair for pair in found if pair.tried] or found
    if len(found) > 1:
        raise RepoWanted(model=entries[0].model[:12], repos=[pair.entry.repo for pair in found])
    return found[0]
