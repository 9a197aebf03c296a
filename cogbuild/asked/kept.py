"""What adapters made, what the cache was good for, and what a run would do."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cogbuild.asked import Answer, known_repos
from cogbuild.database import browsing
from cogbuild.database.browsing import ALL, Repos
from cogbuild.environment import list_environments
from cogbuild.housekeeping.made import every
from cogbuild.housekeeping.records import counted
from cogbuild.report.artifacts import made_json, made_lines
from cogbuild.report.foretold import foretold_json, foretold_lines, totals
from cogbuild.report.summary import problems_json
from cogbuild.report.tables import Column, table
from cogbuild.report.words import amount, span
from cogbuild.verdict import Kind
from cogbuild.views.models import active_names

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from cogbuild.database.browsing import Place
    from cogbuild.planner import Plan
    from cogbuild.project import Project
    from cogbuild.report.tables import Page

__all__ = ["artifacts", "cache_stats", "foretold"]


def artifacts(
    project: Project,
    repos: Repos = ALL,
    *,
    models: Sequence[str] = (),
    adapters: Sequence[str] = (),
    lost: bool = False,
    orphaned: bool = False,
    limit: int | None = None,
    after: Place | None = None,
    active: Collection[str] | None = None,
) -> Answer:
    """Return what was made, of the newest models first; *limit* counts models, and is for when none is named.

    Raises ``UnknownRepo``, ``UnknownModel``, ``AmbiguousModel`` and ``UnknownAdapter``.
    """
    known_repos(project, repos.names, repos.scope)
    active = active_names(project) if active is None else active
    upto = None
    if limit is not None and not models and project.exists:
        places = browsing.newest(project.con, repos, limit=limit + 1, after=after)
        upto = places[limit - 1] if len(places) > limit else None
    found = (
        item
        for item in every(project, prefixes=models, repos=repos, adapters=adapters, after=after, upto=upto)
        if not (lost and item.outcome.lost is None) and not (orphaned and item.adapter in active)
    )

    def lines(on: Page) -> Iterable[str]:
        empty = True
        for item in found:
            empty = False
            yield from made_lines(project, item, on, orphaned=item.adapter not in active)
        if empty:
            yield "no artifacts" if not (lost or orphaned) else "none"

    return Answer(
        lambda: {
            "artifacts": [made_json(project, item, orphaned=item.adapter not in active) for item in found]
        },
        lines,
        upto,
    )


def cache_stats(project: Project) -> Answer:
    """Return what the cache was good for, by adapter, and what is kept."""
    counters = counted(project)
    records = sum(1 for _ in project.cache.keys())  # noqa: SIM118 - no mapping
    environments = list_environments(project.data / "envs")
    volume = project.cache.volume()
    size = sum(item.size for item in environments)

    def lines(on: Page) -> Iterable[str]:
        heads = ("runs", "hits", "misses", "restored", "saved")
        columns = [Column("adapter", cut=True), *(Column(head, right=True) for head in heads)]
        rows = [
            [
                item.adapter,
                *map(str, (item.runs, item.restored, item.misses, item.restored)),
                span(item.saved),
            ]
            for item in counters
        ]
        yield from table(columns, rows, on) if rows else []
        yield f"{records} records, {amount(volume)}"
        yield f"{len(environments)} environments, {amount(size)}"

    return Answer(
        lambda: {
            "adapters": [asdict(item) | {"hits": item.restored} for item in counters],
            "records": {"count": records, "bytes": volume},
            "environments": {"count": len(environments), "bytes": size},
        },
        lines,
    )


def foretold(plan: Plan) -> Answer:
    """Return what a run of *plan* would do and why; pairs are judged as they are told."""
    counts: dict[str, int] = {}

    def judged() -> Iterable[Any]:
        for item in plan:
            told = plan.judge.explained(item)
            kind = str(told.verdict.kind)
            counts[kind] = counts.get(kind, 0) + 1
            yield told
        counts["fresh"] = max(0, plan.pairs - sum(counts.values()))

    def lines(_: Page) -> Iterable[str]:
        for item in judged():
            yield from foretold_lines(item)
        for problem in plan.problems:
            yield str(problem.error)
        yield totals(counts)

    def as_json() -> dict[str, Any]:
        rows = [foretold_json(item) for item in judged()]
        return {
            "results": rows,
            "summary": {str(kind): counts.get(kind, 0) for kind in Kind},
            "problems": problems_json(plan.problems),
        }

    return Answer(as_json, lines)
