"""`/metrics`, in the format of Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import CollectorRegistry, CounterMetricFamily, GaugeMetricFamily

from cogbuild.database import feed
from cogbuild.database import jobs as job_rows
from cogbuild.housekeeping.records import counted
from cogbuild.server.access import Guarded, needs
from cogbuild.server.service import Here
from cogbuild.views.attempts import running_pairs
from cogbuild.views.standing import standing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from cogbuild.server.service import Service

__all__ = ["router"]

router = APIRouter(tags=["server"], route_class=Guarded)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    summary="Numbers for Prometheus",
)
@needs("read", everywhere=True)
def metrics(service: Here) -> Response:
    """Return how pairs stand, jobs, adapters, the cache and requests as numbers, in the format of Prometheus."""
    registry = CollectorRegistry()
    registry.register(_Kept(service))
    text = generate_latest(registry) + generate_latest(service.numbers.registry)
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})


class _Kept:
    """What the database knows now; each question is of an index or a short list."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """Yield the numbers."""
        yield from self._pairs()
        yield from self._jobs()
        yield from self._cache()

    def _pairs(self) -> Iterator[Metric]:
        project, adapters = self._service.project, self._service.adapters()
        yield GaugeMetricFamily("cogbuild_models", "Models in their repos.", feed.count_live(project.con))
        pairs = GaugeMetricFamily("cogbuild_pairs", "Pairs by how they stand.", labels=["adapter", "state"])
        for item in standing(project, self._service.targets()):
            for state in ("settled", "failed", "blocked", "waiting", "unseen"):
                pairs.add_metric([item.adapter, state], getattr(item, state))
        yield pairs
        running = GaugeMetricFamily(
            "cogbuild_adapters_running", "Adapters that run now, of any process.", labels=["adapter"]
        )
        names = [name for _, name in running_pairs(project)]
        for name in adapters:
            running.add_metric([name], names.count(name))
        yield running

    def _jobs(self) -> Iterator[Metric]:
        jobs = GaugeMetricFamily("cogbuild_jobs", "Jobs under way.", labels=["kind", "state"])
        rows = [(row.kind, row.state) for row in job_rows.under_way(self._service.project.con)]
        for kind in ("upload", "adapt", "backfill"):
            for state in ("queued", "running"):
                jobs.add_metric([kind, state], rows.count((kind, state)))
        yield jobs

    def _cache(self) -> Iterator[Metric]:
        runs = CounterMetricFamily(
            "cogbuild_adapter_runs", "Runs of adapters, of any process.", labels=["adapter"]
        )
        hits = CounterMetricFamily("cogbuild_cache_hits", "Pairs that were restored.", labels=["adapter"])
        misses = CounterMetricFamily(
            "cogbuild_cache_misses", "Pairs that nothing was kept of.", labels=["adapter"]
        )
        saved = CounterMetricFamily(
            "cogbuild_cache_saved_seconds", "Time that restored work had taken.", labels=["adapter"]
        )
        for item in counted(self._service.project):
            runs.add_metric([item.adapter], item.runs)
            hits.add_metric([item.adapter], item.restored)
            misses.add_metric([item.adapter], item.misses)
            saved.add_metric([item.adapter], item.saved)
        yield from (runs, hits, misses, saved)
