"""What becomes of a job: an upload is stored, tested, let in and built; pairs that were asked for are built."""

from __future__ import annotations

import contextlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cogbuild.adapters import IMAGE_ADAPTER
from cogbuild.database import jobs, models
from cogbuild.errors.adapters import UnknownAdapter
from cogbuild.errors.server import ModelLetGo, ModelTestFailed
from cogbuild.library import tree_of
from cogbuild.planner import Plan, Planner, Selection
from cogbuild.report.models import unheard_note, wants_note
from cogbuild.report.summary import together
from cogbuild.server.jobs import ADAPT, BACKFILL, UPLOAD, Active, Ending
from cogbuild.server.messages import Telling, status
from cogbuild.server.shown import model_2021
from cogbuild.server.testing import TEST_ADAPTER
from cogbuild.tasks.running import Run, run_plan

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from cogbuild.database.jobs import JobRow
    from cogbuild.database.models import EntryRow
    from cogbuild.engine.run import Slots
    from cogbuild.library import Added
    from cogbuild.server.service import Service

__all__ = ["Pipeline"]

#: Models that are judged by the way.
_FEW = 500


class Pipeline:
    """Does jobs, each in the thread that calls."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.project = service.project

    def work(self, active: Active) -> Ending:
        """Do one job. What it did before it was ended by a kill or a stop is done, and found to be fresh."""
        does = {UPLOAD: self._upload, ADAPT: self._adapt, BACKFILL: self.service.backfill.work}
        return does[active.row.kind](active)

    def ended(self, row: JobRow) -> None:
        """Clear up after a job that has ended."""
        if row.kind == UPLOAD:
            self.service.intake.drop(row)

    def planner(self) -> Planner:
        """Return a planner over the adapters that are active now."""
        return Planner(self.project, self.service.adapters())

    def notice(self) -> None:
        """Judge what moved otherwise than by a job, so that it counts as what it is: nothing waits that is fresh."""
        planner = self.planner()
        names = _targets(planner)
        if planner.behind(self.project.con, names):
            moved = self.project.database.write(lambda con: planner.notice(con, names))
            if len(moved) > _FEW:  # models that were brought by the thousand: a run is what they wait for
                return
            for _ in Plan(planner.judge, moved, dict.fromkeys(names), 0, record=True).chunks():
                pass

    # -- an upload ------------------------------------------------------------------------------------------------

    def _upload(self, active: Active) -> Ending:
        chosen: list[str] | None = active.row.request.get("adapters")
        self._check_names(self.planner(), chosen)
        active.say(status("Storing the model"))
        added = self.service.intake.stored(active.row)
        active.about(added.model)
        entry, changed = self._wanting(added, chosen, active.row.id)
        for note in (unheard_note(added), wants_note(entry) if changed else None):
            if note is not None:
                active.say(status(note))
        planner = self.planner()  # settings may have moved while the model was stored
        force = bool(active.row.request.get("force"))
        tested = self._test(active, planner, entry, force=force)
        if not self.project.database.write(lambda con: self._let_in(con, planner, entry)):
            raise ModelLetGo(repo=entry.repo, model=entry.model[:12])
        entry = self._entry(entry.eid)
        self.service.intake.settle(active.row.owner, tree_of(self.project, entry.tree))
        rest = [name for name in chosen or planner.judge.wanted(entry) if name != TEST_ADAPTER]
        built = self._build(active, planner, entry, rest, force=force)
        if not models.is_live(self.project.con, entry.eid):
            raise ModelLetGo(repo=entry.repo, model=entry.model[:12])
        active.say({"type": "model", "data": "", "model": model_2021(self.project, entry)})
        return Ending(built.exit_code, together(tested.summary, built.summary))

    @staticmethod
    def _let_in(con: sqlite3.Connection, planner: Planner, entry: EntryRow) -> bool:
        there = models.let_in(con, entry.eid)
        planner.notice(con, _targets(planner))
        return there

    def _check_names(self, planner: Planner, names: list[str] | None) -> None:
        known = list(planner.judge.adapters)
        for name in names or ():
            if name not in known:
                raise UnknownAdapter(name=name, active=known)

    def _wanting(self, added: Added, chosen: list[str] | None, job: str) -> tuple[EntryRow, bool]:
        """Return the entry, with the adapters that the upload chose among those that the model wants; and whether
        these are others now.
        """

        def choose(con: sqlite3.Connection) -> bool:
            entry = models.find(con, added.eid)
            assert entry is not None
            wishes = entry.settings.get("adapters")
            # Two uploads may bring one model at the same time: what the first of them chose holds too.
            new = added.new and not jobs.brought_by_another(con, added.eid, job)
            if chosen is None or (wishes is None and not new):
                return False
            before = [] if new or wishes is None else wishes
            wanted = list(dict.fromkeys([*before, *chosen]))
            if wanted == wishes:
                return False
            settings = {**entry.settings, "adapters": wanted}
            models.change_entry(con, entry.eid, settings=settings, cpu_image=entry.cpu_image)
            return True

        changed = self.project.database.write(choose)
        return self._entry(added.eid), changed

    def _entry(self, eid: int) -> EntryRow:
        entry = models.find(self.project.con, eid)
        assert entry is not None
        return entry

    def _test(self, active: Active, planner: Planner, entry: EntryRow, *, force: bool) -> Ending:
        """Bring the model's test up to date, and the image that it runs in. Raises ``ModelTestFailed``."""
        plan = planner.plan_of(entry, [TEST_ADAPTER], force=force)
        with self._running(active, plan) as run:
            if not plan.done():
                active.say(status("Testing the model"))
            run_plan(run, fail_fast=True)
        active.check()
        if run.fatal is not None:
            raise run.fatal
        if run.failures:
            first = run.failures[0]
            failed = first.pair.rpartition(":")[2]
            raise ModelTestFailed(
                step={TEST_ADAPTER: "test", IMAGE_ADAPTER: "image"}.get(failed, failed),
                adapter=failed,
                model=entry.model[:12],
                repo=entry.repo,
                because=first.error.title if first.error else first.reason,
                it_said=first.error.facts.get("it_said") if first.error else None,
                attempt=Path(first.log).stem if first.log else None,
            )
        return Ending(0, run.summary())

    def _build(
        self, active: Active, planner: Planner, entry: EntryRow, names: list[str], *, force: bool
    ) -> Ending:
        """Build what is wanted of a model that is in; what fails is missing, and the model is there."""
        if not names:
            return Ending(0)
        return self.run(active, planner.plan_of(entry, names, force=force))

    # -- pairs that were asked for --------------------------------------------------------------------------------

    def _adapt(self, active: Active) -> Ending:
        asked = active.row.request
        planner = self.planner()
        names = asked["adapters"] or _targets(planner)
        self.project.database.write(lambda con: planner.notice(con, _targets(planner)))
        selection = Selection(
            tuple(asked["models"]), tuple(asked["repos"]), tuple(names), bool(asked["force"])
        )
        return self.run(
            active, planner.plan(selection), fail_fast=bool(asked["fail_fast"]), jobs=asked["jobs"]
        )

    # -- a run ----------------------------------------------------------------------------------------------------

    def run(
        self,
        active: Active,
        plan: Plan,
        *,
        fail_fast: bool = False,
        jobs: int | None = None,
        slots: Slots | None = None,
    ) -> Ending:
        """Run a plan for a job. Raises what concerns all pairs, and ``Cancelled``."""
        with self._running(active, plan, jobs=jobs, slots=slots) as run:
            run_plan(run, fail_fast=fail_fast)
        active.check()
        if run.fatal is not None:
            raise run.fatal
        return Ending(run.exit_code, run.summary())

    @contextmanager
    def _running(
        self, active: Active, plan: Plan, *, jobs: int | None = None, slots: Slots | None = None
    ) -> Iterator[Run]:
        service = self.service
        workers = min(jobs or service.workers, service.workers)
        telling = Telling(self.project, active.say, service.numbers.heard, active.model)
        with contextlib.ExitStack() as stack:
            run = Run(self.project, plan, jobs=workers, watcher=telling, slots=slots or service.slots)
            active.runs(run)
            stack.callback(active.runs, None)
            yield stack.enter_context(run)


def _targets(planner: Planner) -> list[str]:
    """Return the adapters that are built; the test is one of a model that comes, and not of one that is there."""
    return [name for name in planner.judge.adapters if name != TEST_ADAPTER]
