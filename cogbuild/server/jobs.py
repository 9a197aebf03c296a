"""Jobs: what the server was asked to do, as rows that outlive it, worked off by threads."""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from cogbuild.database import jobs, models
from cogbuild.digest import hexdigest
from cogbuild.errors import CogbuildError
from cogbuild.errors.server import JobHasEnded, OtherRequest, UnknownJob
from cogbuild.report.wire import end_message
from cogbuild.server.feeds import Feeds
from cogbuild.server.looking import TROUBLE
from cogbuild.server.messages import status

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cogbuild.database.jobs import JobRow
    from cogbuild.project import Project
    from cogbuild.report.summary import Summary
    from cogbuild.tasks.running import Run

__all__ = ["ADAPT", "BACKFILL", "UPLOAD", "Active", "Cancelled", "Ending", "Jobs", "Once"]

UPLOAD, ADAPT, BACKFILL = "upload", "adapt", "backfill"
#: Who goes first.
PRIORITY = {UPLOAD: 20, ADAPT: 10, BACKFILL: 0}
#: Seconds until what such a trouble kept from being done is tried again.
_PAUSE = 1.0
#: Seconds before the last end of a job within which others may have ended and not said so.
_LATELY = 3600.0
_LOGGER = logging.getLogger(__name__)


class Ending(NamedTuple):
    """How a job ended that was worked at to its end."""

    exit_code: int
    summary: Summary | None = None


class Once(NamedTuple):
    """The name that a request goes by, however often it is sent, and what it says."""

    key: str
    said: str

    @classmethod
    def of(cls, key: str | None, *said: str | dict[str, Any] | None) -> Once | None:
        """Return the name of the request that says this, None where it has none."""
        return None if key is None else cls(key, hexdigest(json.dumps(said, sort_keys=True).encode()))

    def check(self, row: JobRow) -> None:
        """Raise ``OtherRequest`` where the job is that of another request."""
        if row.request.get("said", self.said) != self.said:
            raise OtherRequest(key=self.key, job=row.id)


class Cancelled(Exception):
    """The job was cancelled, or the server stops."""


class Active:
    """A job that a thread works at."""

    def __init__(
        self, row: JobRow, say: Callable[[dict[str, Any]], None], note: Callable[[str], None]
    ) -> None:
        self.row = row
        self._note = note
        self.say = say
        self.model = row.model  # that all its pairs are of
        self._lock = threading.Lock()
        self._run: Run | None = None
        self.stopped = threading.Event()
        self.unwanted = False  # somebody cancelled it

    def about(self, model: str) -> None:
        """Say which model the job turned out to be about."""
        self.model = model
        self._note(model)

    def runs(self, run: Run | None) -> None:
        """Say which run is the job's now, so that cancelling ends its adapters. Raises ``Cancelled``."""
        with self._lock:
            self._run = run
            if run is not None and self.stopped.is_set():
                raise Cancelled

    def runs_in(self, place: Path) -> bool:
        """Whether what runs in this directory below ``work`` is the job's."""
        with self._lock:
            return self._run is not None and self._run.place == place

    def check(self) -> None:
        """Raise ``Cancelled`` where the job is not to go on."""
        if self.stopped.is_set():
            raise Cancelled

    def cancel(self) -> None:
        """End what the job runs; what it has finished stays."""
        self.stopped.set()
        with self._lock:
            if self._run is not None:
                self._run.cancel()


class Jobs:
    """The queue, its threads and its feeds.

    *work* does one job; *ended* clears up after one that is not taken up again, however it ended; *tell* hears of each
    that begins or ends.
    """

    def __init__(
        self,
        project: Project,
        work: Callable[[Active], Ending],
        ended: Callable[[JobRow], None],
        *,
        threads: int,
        tell: Callable[..., None],
    ) -> None:
        self.project = project
        self.feeds = Feeds(project.data / "logs" / "jobs")
        self._work = work
        self._ended = ended
        self._tell = tell
        self._size = threads
        self._turn = threading.Condition()
        self._active: dict[str, Active] = {}
        self._threads: list[threading.Thread] = []
        self.stopping = False

    # -- life -----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Take up what a server before left under way, and begin to work."""
        left = jobs.under_way(self.project.con)
        for row in left:
            if row.unwanted:
                self._cancelled(row)
        left = [row for row in left if not row.unwanted]
        again = [row.id for row in left if row.state == "running"]
        if again:
            self.project.database.write(lambda con: jobs.requeue(con, again))
        for row in left:
            feed = self.feeds.open(row.id)
            if row.state == "running":
                feed.say(status("The server was ended while it was at this; it begins again where it was"))
        self._say_ends()
        # One thread is for what may wait: an upload never waits for it.
        for kinds in [(UPLOAD, ADAPT)] * self._size + [(BACKFILL,)]:
            thread = threading.Thread(target=self._serve, args=(kinds,), name=f"jobs-{kinds[0]}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _say_ends(self) -> None:
        """Say how jobs ended of which a server before had no time to say it: whoever follows one waits for that."""
        for row in jobs.lately(self.project.con, _LATELY):
            if not self.feeds.has_end(row.id):
                with contextlib.suppress(OSError):  # its row says it
                    self.feeds.end(row.id, end_message(row.state, row.exit_code or 0))
                self.feeds.close(row.id)

    def announce_stop(self) -> None:
        """Take nothing up any more, and let go of those who follow: they would hold the server up."""
        with self._turn:
            self.stopping = True
            self._turn.notify_all()
        self.feeds.let_go(status("The server stops; this goes on when it is started again"))

    def stop(self, seconds: float = 20.0) -> None:
        """End what runs: it is taken up when a server begins again."""
        self.announce_stop()
        with self._turn:
            active = list(self._active.values())
        for item in active:
            item.cancel()
        for thread in self._threads:
            thread.join(seconds)
        self.feeds.close_all()

    # -- asking ---------------------------------------------------------------------------------------------------

    def submit(
        self,
        kind: str,
        request: dict[str, Any],
        *,
        repo: str | None = None,
        model: str | None = None,
        owner: str = "",
        once: Once | None = None,
        job: str | None = None,
    ) -> JobRow:
        """Queue a job and return it. The same *owner* and *once* give the job that they gave before.

        Raises ``OtherRequest``.
        """
        job = job or self.new_id()
        self.feeds.open(job)
        row: JobRow | None = None
        try:
            row = self.project.database.write(
                lambda con: jobs.add(
                    con,
                    job=job,
                    kind=kind,
                    priority=PRIORITY[kind],
                    repo=repo,
                    model=model,
                    request=request if once is None else {**request, "said": once.said},
                    owner=owner,
                    once=once.key if once is not None else None,
                )
            )
        finally:
            if row is None or row.id != job:
                self.feeds.close(job)
        if once is not None:
            once.check(row)
        with self._turn:
            self._turn.notify_all()
        return row

    def known(self, owner: str, once: Once | None) -> JobRow | None:
        """Return the job that *owner* asked for before under *once*. Raises ``OtherRequest``."""
        row = jobs.known_once(self.project.con, owner, once.key) if once is not None else None
        if row is not None and once is not None:
            once.check(row)
        return row

    @staticmethod
    def new_id() -> str:
        """Return an ID for a job."""
        return secrets.token_hex(8)

    def find(self, job: str) -> JobRow:
        """Return a job. Raises ``UnknownJob``."""
        row = jobs.find(self.project.con, job)
        if row is None:
            raise UnknownJob(job=job)
        return row

    def that_runs_in(self, place: Path) -> JobRow | None:
        """Return the job whose adapters run in this directory below ``work``; None where it is another process's."""
        with self._turn:
            active = list(self._active.values())
        found = next((item.row.id for item in active if item.runs_in(place)), None)
        return jobs.find(self.project.con, found) if found is not None else None

    def cancel(self, job: str) -> JobRow:
        """Cancel a job. Raises ``UnknownJob`` and ``JobHasEnded``."""
        with self._turn:
            row = self.find(job)
            if row.state in jobs.ENDED:
                raise JobHasEnded(job=job, state=row.state)
            active = self._active.get(job)
            if active is None:
                self._cancelled(row)
        if active is not None:
            active.unwanted = True
            try:
                # Before the answer: a server that is ended meanwhile leaves it to the next one.
                self.project.database.write(lambda con: jobs.unwant(con, job))
            finally:
                active.cancel()
        return self.find(job)

    def _cancelled(self, row: JobRow) -> None:
        """End a job that nobody works at."""
        self._record(row, "cancelled", 130)
        with contextlib.suppress(OSError):  # no room for a line: its row says it
            self.feeds.end(row.id, end_message("cancelled", 130))
        self._clear(row)

    def busy(self) -> bool:
        """Whether somebody waits for a job: uploads and what was asked for, not what may wait."""
        return any(row.kind != BACKFILL for row in jobs.under_way(self.project.con))

    def has(self, kind: str) -> bool:
        """Whether a job of the kind is under way."""
        return any(row.kind == kind for row in jobs.under_way(self.project.con))

    # -- working --------------------------------------------------------------------------------------------------

    def _serve(self, kinds: tuple[str, ...]) -> None:
        while not self.stopping:
            try:
                active = self._next(kinds)
            except TROUBLE as trouble:
                _LOGGER.warning("no job can be begun for now: %s", trouble)
                self._pause()
                continue
            if active is not None:
                self._do(active)
            del active  # nothing of it is held while the next one is waited for

    def _pause(self) -> bool:
        """Wait a little; False where the server stops."""
        with self._turn:
            return not self._turn.wait_for(lambda: self.stopping, _PAUSE)

    def _insist(self, what: Callable[[], object]) -> bool:
        """Do *what* as soon as disk and database let it be done; False where the server stops before that."""
        told = False
        while True:
            try:
                what()
            except TROUBLE as trouble:
                if not told:
                    _LOGGER.warning("a job's end can't be kept for now: %s", trouble)
                told = True
                if not self._pause():
                    return False
            else:
                return True

    def _next(self, kinds: tuple[str, ...]) -> Active | None:
        with self._turn:
            while not self.stopping:
                row = jobs.next_queued(self.project.con, kinds)
                if row is not None:
                    return self._begun(row)
                self._turn.wait()
            return None

    def _begun(self, row: JobRow) -> Active:
        self.project.database.write(lambda con: jobs.start(con, row.id))
        self._tell(row, "running")
        active = self._active[row.id] = Active(
            row, self.feeds.open(row.id).say, lambda model: self._about(row.id, model)
        )
        return active

    def _about(self, job: str, model: str) -> None:
        self.project.database.write(lambda con: jobs.set_model(con, job, model))

    def _do(self, active: Active) -> None:
        try:
            ending = self._work(active)
            state = "failed" if ending.exit_code else "done"
            last = end_message(state, ending.exit_code, summary=ending.summary)
        except Cancelled:
            state, last = "cancelled", end_message("cancelled", 130)
        except CogbuildError as error:
            state, last = "failed", end_message("failed", error.exit_code, error=error)
        except Exception as trouble:  # noqa: BLE001 - the job's client is told, and the thread goes on
            from cogbuild.errors.bugs import error_of

            told = error_of(trouble, self.project.data)
            state, last = "failed", end_message("failed", told.exit_code, error=told)
        try:
            self._over(active, state, last)
        finally:
            with self._turn:  # only now: until its end is kept it is no job that nobody works at
                self._active.pop(active.row.id, None)

    def _over(self, active: Active, state: str, last: dict[str, Any]) -> None:
        """Keep and say how a job ended that was worked at. What a server that stops can't keep is left to the next one."""
        row = active.row
        if state == "cancelled" and self.stopping and not active.unwanted:
            self._insist(lambda: self.project.database.write(lambda con: jobs.requeue(con, [row.id])))
        elif self._insist(lambda: self._record(row, state, last["event"]["exit_code"])):
            self._insist(lambda: self.feeds.end(row.id, last))
            self._clear(row)

    def _record(self, row: JobRow, state: str, code: int) -> None:
        def over(con: Any) -> None:
            jobs.end(con, row.id, state, code)
            for eid in jobs.drop_candidates(con, row.id):
                models.retire(con, eid)

        self.project.database.write(over)
        self._tell(row, state, code)

    def _clear(self, row: JobRow) -> None:
        """Let go of those who follow a job that has ended, and of what was sent for it."""
        self.feeds.close(row.id)
        with contextlib.suppress(OSError):  # the next server removes what is left
            self._ended(row)
