"""New and changed adapters over the models that are there: a sample first, the rest behind everybody else."""

from __future__ import annotations

from queue import SimpleQueue
from typing import TYPE_CHECKING

from cogbuild.database import feed, history, jobs
from cogbuild.planner import Plan, Selection
from cogbuild.report.summary import together
from cogbuild.server.jobs import BACKFILL, Active, Ending
from cogbuild.server.looking import Looking
from cogbuild.server.messages import status
from cogbuild.server.testing import TEST_ADAPTER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cogbuild.planner import Judged, Planner
    from cogbuild.report.summary import Summary
    from cogbuild.server.service import Service

__all__ = ["MODES", "Backfill", "sample"]

#: Nothing · pairs that were never made · those and what is made anew because something changed.
MODES = ("off", "missing", "stale")
#: Seconds between two looks at the adapters.
INTERVAL = 2.0


class Backfill:
    """Sees that adapters came or changed, and does the job that follows from it."""

    def __init__(self, service: Service, mode: str | None) -> None:
        self.service = service
        self._mode = mode
        self._seen: dict[str, str] | None = None  # contexts for which a job was started
        self.looking = Looking("backfill", self.look, INTERVAL)

    @property
    def mode(self) -> str:
        """The option, else the setting."""
        return self._mode or self.service.project.settings.server.backfill

    # -- seeing ---------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Start a job where adapters are not as they were; the first look finds them all new."""
        self.service.pipeline.notice()
        found = self.service.targets()
        mode = self.mode
        contexts = {name: adapter.context for name, adapter in found.items()}
        contexts["mode"] = mode
        if self._seen is None:
            self._seen = self._cancelled()
        if contexts == self._seen or mode == "off" or self.service.jobs.has(BACKFILL):
            return
        planner = self.service.pipeline.planner()
        # What failed as it is now is no reason for a job: it would be left alone.
        if any(not failed for name in found for _, failed in self._lacking(planner, name, mode)):
            asked = {"mode": mode, "contexts": contexts}
            self.service.jobs.submit(BACKFILL, asked, owner="backfill")
        self._seen = contexts  # only now: a look that went wrong is taken again

    def _cancelled(self) -> dict[str, str]:
        """Return the contexts for which a server before began a job that somebody cancelled, and nobody one since."""
        row = jobs.last(self.service.project.con, BACKFILL)
        if row is None or row.state != "cancelled":
            return {}
        return dict(row.request.get("contexts", {}))

    def _lacking(self, planner: Planner, name: str, mode: str) -> list[tuple[int, bool]]:
        """Return (entry, whether it failed as it is now) of the pairs to make, newest models first."""
        every = mode == "stale"
        lacking: list[int] = []
        failed: set[int] = set()
        for judged in planner.plan(Selection(adapters=(name,))):  # what the adapter needs is among it
            if self._failed(judged):
                failed.add(judged.entry.eid)
            if judged.adapter.name == name and (
                every or judged.outcome is None or judged.outcome.lost is not None
            ):
                lacking.append(judged.entry.eid)
        return [(eid, eid in failed) for eid in lacking]

    def _failed(self, judged: Judged) -> bool:
        """Whether the pair failed already on what it would be made from now: again it would fail again."""
        con = self.service.project.con
        aid = feed.adapter_id(con, judged.adapter.name)
        tried = history.attempts(con, judged.entry.eid, aid) if aid is not None and judged.key else []
        same = [attempt.status for attempt in tried if attempt.key == judged.key]
        return same[-1:] == ["failed"]

    # -- doing ----------------------------------------------------------------------------------------------------

    def work(self, active: Active) -> Ending:
        """Do the job: adapter by adapter, needed ones first."""
        planner = self.service.pipeline.planner()
        slots: SimpleQueue[None] = SimpleQueue()  # no place of those who wait is taken
        for _ in range(self.service.workers):
            slots.put(None)
        halted: list[str] = []
        total: Summary | None = None
        for name in planner.judge.adapters:
            if name == TEST_ADAPTER:
                continue
            active.check()
            waits_for = [needed for needed in planner.judge.closure([name]) if needed in halted]
            if waits_for:
                active.say(status(f"{name} is left alone: it needs {', '.join(waits_for)}"))
                halted.append(name)
                continue
            passed, summary = self._adapter(active, planner, name, slots)
            total = together(total, summary)
            if not passed:
                halted.append(name)
        return Ending(1 if halted else 0, total)

    def _adapter(
        self, active: Active, planner: Planner, name: str, slots: SimpleQueue[None]
    ) -> tuple[bool, Summary | None]:
        """Bring one adapter over the models; False where too much of the sample failed."""
        lacking = self._lacking(planner, name, self.mode)
        settings = self.service.project.settings.server
        chosen = sample(lacking, settings.backfill_sample)
        todo = [eid for eid, failed in chosen if not failed]
        rest = [eid for eid, failed in lacking if not failed and eid not in todo]
        if not todo and not rest:
            return True, None
        known = len(chosen) - len(todo)
        active.say(status(f"{name}: {len(todo) + len(rest)} to make, {len(todo)} of them first"))
        first = self._run(active, planner, name, todo, slots)
        ended = first.summary.failures if first.summary else ()
        failed = known + len({result.pair for result in ended if result.pair.endswith(f":{name}")})
        if failed > settings.backfill_failures * len(chosen):
            share = f"{failed} of {len(chosen)} failed, more than {settings.backfill_failures:.0%}"
            active.say(status(f"{name}: {share}; the other {len(rest)} are left as they are"))
            return False, first.summary
        if rest:
            active.say(status(f"{name}: {failed} of {len(chosen)} failed; going on with {len(rest)}"))
        second = self._run(active, planner, name, rest, slots)
        return True, together(first.summary, second.summary)

    def _run(
        self, active: Active, planner: Planner, name: str, eids: Sequence[int], slots: SimpleQueue[None]
    ) -> Ending:
        """Make the pairs, as many at once as there are workers, each time only while nobody waits for anything else.

        Between two batches and not within one: a pair that waited while it holds its lock would be waited for in turn by
        an upload that wants the same pair.
        """
        total = Ending(0)
        names = planner.judge.closure([name])
        step = self.service.workers
        for start in range(0, len(eids), step):
            while self.service.jobs.busy() and not active.stopped.wait(0.1):
                pass
            active.check()
            batch = list(eids[start : start + step])
            plan = Plan(planner.judge, batch, dict.fromkeys(names), len(batch) * len(names), record=True)
            ended = self.service.pipeline.run(active, plan, slots=slots)
            total = Ending(max(total.exit_code, ended.exit_code), together(total.summary, ended.summary))
        return total


def sample(found: Sequence[tuple[int, bool]], size: int) -> list[tuple[int, bool]]:
    """Return so many of *found*, the first one and others at equal steps, so that old models are tried too."""
    if len(found) <= size:
        return list(found)
    return [found[number * len(found) // size] for number in range(size)]
