"""The long-lived thing behind the requests: the project, the adapters that are active now, the jobs."""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
from dataclasses import replace
from queue import SimpleQueue
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from cogbuild.active import active
from cogbuild.engine.leftovers import recover
from cogbuild.errors import CogbuildError
from cogbuild.errors.server import AnotherServer
from cogbuild.server.backfill import Backfill
from cogbuild.server.intake import Intake
from cogbuild.server.jobs import Jobs
from cogbuild.server.observing import LOGGER, Numbers
from cogbuild.server.pipeline import Pipeline
from cogbuild.server.testing import TEST_ADAPTER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cogbuild.adapters import Adapter
    from cogbuild.project import Project

__all__ = ["Here", "Service"]

#: Jobs beyond those whose adapters run: what has nothing to do is answered while others build.
SPARE = 8


class Service:
    """One data directory, served."""

    def __init__(
        self,
        project: Project,
        *,
        directories: Sequence[str] = (),
        jobs: int | None = None,
        backfill: str | None = None,
    ) -> None:
        project.make()
        self.project = project
        self.directories = list(directories)
        self.workers = jobs or project.settings.jobs or os.cpu_count() or 1
        #: So many adapters run at once, whichever jobs they are of.
        self.slots: SimpleQueue[None] = SimpleQueue()
        for _ in range(self.workers):
            self.slots.put(None)
        self.backfill = Backfill(self, backfill)
        self.numbers = Numbers()
        self.pipeline = Pipeline(self)
        self.jobs = Jobs(
            project,
            self.pipeline.work,
            self.pipeline.ended,
            threads=self.workers + SPARE,
            tell=self.numbers.job,
        )
        self.intake = Intake(project)
        #: Held by whoever makes sense of the list of a model's files.
        self.one_list = asyncio.Lock()
        self._reading = threading.Lock()
        self._adapters: dict[str, Adapter] | None = None  # that were usable last
        self._trouble = ""  # why they are not read anew, when the log was told last
        self._lock: int | None = None

    def take(self) -> None:
        """Take the data directory for this server. Raises ``AnotherServer``."""
        if self._lock is not None:
            return
        fd = os.open(self.project.data / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise AnotherServer(data=self.project.data) from None
        self._lock = fd

    def begin(self) -> None:
        """Begin to work: first with what a server before left. Raises ``AnotherServer``."""
        self.take()
        recover(self.project)
        self.intake.begin()
        self.jobs.begin()
        self.backfill.looking.begin()

    def stop(self) -> None:
        """End what runs and let go of the data directory."""
        self.backfill.looking.stop()
        self.jobs.stop()
        self.intake.looking.stop()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        self.project.close()

    def adapters(self) -> dict[str, Adapter]:
        """Return the adapters that are active now: settings and directories are looked at again.

        While somebody edits them, and where they can't be used, it is those of before: the log says why.
        """
        with self._reading:
            try:
                self._adapters, self._trouble = self._read(), ""
            except CogbuildError as error:
                if self._adapters is None:
                    raise
                if str(error) != self._trouble:
                    self._trouble = str(error)
                    LOGGER.error(
                        "settings or adapters can't be used; those of before are",
                        extra={"facts": {"error": str(error)}},
                    )
            return self._adapters

    def targets(self) -> dict[str, Adapter]:
        """Return those of them that make something; the others are tests, of a model that comes and not of one that is there."""
        return {name: adapter for name, adapter in self.adapters().items() if name != TEST_ADAPTER}

    def _read(self) -> dict[str, Adapter]:
        self.project.reread()
        found = active(self.project, self.directories)
        if TEST_ADAPTER not in found:  # else it is the site's own
            found = active(self.project, [*self.directories, f"builtin:{TEST_ADAPTER}"])
        # Each model was tested when it came, also one that names its adapters.
        found[TEST_ADAPTER] = replace(found[TEST_ADAPTER], always=True)
        return found


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


#: Annotates the parameter of an endpoint that wants the service.
Here = Annotated[Service, Depends(_service)]
