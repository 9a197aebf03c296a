"""What becomes of a job: an upload is stored and built, pairs that were asked for are built."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from cogbuild import library
from cogbuild.database import jobs, models
from cogbuild.errors.server import UploadGone
from cogbuild.planner import Planner
from cogbuild.server.jobs import ADAPT, UPLOAD, Active, Ending
from cogbuild.server.messages import Telling, status
from cogbuild.server.shown import model_2021
from cogbuild.tasks.running import Run, run_plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cogbuild.database.jobs import JobRow
    from cogbuild.planner import Plan
    from cogbuild.server.service import Service

__all__ = ["Pipeline"]


class Pipeline:
    """Does jobs, each in the thread that calls."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.project = service.project

    def work(self, active: Active) -> Ending:
        """Do one job."""
        does = {UPLOAD: self._upload, ADAPT: self._adapt}
        return does[active.row.kind](active)

    def ended(self, row: JobRow) -> None:
        """Clear up after a job that has ended."""
        if file := row.request.get("file"):
            (self.service.uploads / file).unlink(missing_ok=True)

    # -- an upload ------------------------------------------------------------------------------------------------

    def _upload(self, active: Active) -> Ending:
        row = active.row
        file = self.service.uploads / row.request["file"]
        if not file.exists():
            raise UploadGone(job=row.id)
        active.say(status("Storing the model"))
        added = library.add(self.project, file, repo=row.repo)
        self.project.database.write(lambda con: jobs.set_model(con, row.id, added.model))
        active.model = added.model
        entry = models.find(self.project.con, added.eid)
        assert entry is not None
        planner = Planner(self.project, self.service.adapters())
        ending = self._run(active, planner.plan_of(entry, row.request.get("adapters")))
        active.say({"type": "model", "data": "", "model": model_2021(self.project, entry)})
        return ending

    # -- pairs that were asked for --------------------------------------------------------------------------------

    def _adapt(self, active: Active) -> Ending:
        raise NotImplementedError

    # -- a run ----------------------------------------------------------------------------------------------------

    def _run(self, active: Active, plan: Plan, *, fail_fast: bool = False) -> Ending:
        with self._running(active, plan) as run:
            run_plan(run, fail_fast=fail_fast)
        active.check()
        if run.fatal is not None:
            raise run.fatal
        return Ending(run.exit_code, run.summary())

    @contextmanager
    def _running(self, active: Active, plan: Plan) -> Iterator[Run]:
        service = self.service
        with Run(
            self.project,
            plan,
            jobs=service.workers,
            watcher=Telling(self.project, active.say, active.model),
            slots=service.slots,
        ) as run:
            active.runs(run)
            try:
                yield run
            finally:
                active.runs(None)
