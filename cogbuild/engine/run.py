"""The engine: takes a pair, asks the verdict once more under the key's lock, and does what it says."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import replace
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol

from cogbuild import damage
from cogbuild.database import models
from cogbuild.engine.attempt import Runner
from cogbuild.engine.events import Note, Result, Status
from cogbuild.engine.flight import Flights
from cogbuild.engine.leftovers import recover_if_possible
from cogbuild.engine.recording import Made, Recorder
from cogbuild.errors import CogbuildError
from cogbuild.using import using
from cogbuild.verdict import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cogbuild.database.pairs import Artifact, Outcome
    from cogbuild.engine.events import Event, Listener
    from cogbuild.engine.underway import Attempted
    from cogbuild.planner import Judge, Judged
    from cogbuild.project import Project

__all__ = ["Engine", "Slots"]

_BACKOFF = 1.0  # seconds before the first retry, doubled for each further one
_LONGEST_BACKOFF = 60.0


class _Gone(Exception):
    """The model is not there any more."""


class Slots(Protocol):
    """What a run waits for before an adapter starts, and gives back."""

    def get(self) -> None:
        """Wait for one."""

    def put(self, item: None, /) -> None:
        """Give one back."""


class Engine:
    """Runs pairs, from any number of threads; workers start when the first adapter does."""

    def __init__(
        self,
        project: Project,
        judge: Judge,
        *,
        jobs: int,
        listener: Listener,
        slots: Slots | None = None,
    ) -> None:
        self.project = project
        self.judge = judge
        self.jobs = jobs
        self._listener = listener
        self._listening = threading.Lock()
        self._under_way: set[int] = set()  # threads that bring a pair up to date
        self._recorder = Recorder(project, lambda: len(self._under_way))
        self.runner = Runner(project, jobs, self._tell)
        self.flights = Flights(project.data / "work" / "flights.lock")
        #: So many adapters run at once; threads may be more, because what has ended has to become durable too.
        #: Several engines of one process may share them.
        self.own_slots: SimpleQueue[None] | None = None
        if slots is None:
            slots = self.own_slots = SimpleQueue()
            for _ in range(jobs):
                slots.put(None)
        self.slots = slots
        self.stop = threading.Event()
        self._using = contextlib.ExitStack()
        self._used = False
        self._waited = False  # for what another run did

    # -- life -----------------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """End every adapter that runs; pairs that have not begun are not begun."""
        self.stop.set()
        self.runner.cancel()

    def close(self) -> None:
        """End the workers."""
        self.runner.close()
        self.flights.close()
        if self._waited:  # for one that was killed, perhaps
            recover_if_possible(self.project)
        self.project.keep_hashed()
        self._using.close()

    def use(self) -> None:
        """Keep ``gc`` from collecting from the first pair until this is closed."""
        with self._listening:
            if not self._used:
                self._using.enter_context(using(self.project.data, self.project.tidy))
                self._used = True

    def _tell(self, event: Event) -> None:
        with self._listening:
            self._listener(event)

    def seal(self, pairs: Iterable[Judged]) -> None:
        """Make the sealed trees that the pairs are going to run on.

        Before any of them runs: a further link to a file that versions share moves its ctime, and tools such as tar take
        a file whose ctime moves while they read it for one that changed.
        """
        self.use()
        for judged in pairs:
            if judged.entry.sealed and judged.verdict.kind in (Kind.STALE, Kind.PENDING):
                with contextlib.suppress(CogbuildError, OSError):  # told when the pair's turn comes
                    self.runner.seal(judged)
        self.project.keep_hashed()

    # -- one pair -------------------------------------------------------------------------------------------------

    def run(self, eid: int, name: str, planned: Judged | None = None) -> Result | None:
        """Bring one pair up to date and return how it ended; that is durable, and the listener knows.

        *planned* is what the plan found of it. None: the model is not there any more. What goes wrong with the pair is
        in the result. Raises errors that concern all pairs.
        """
        self.use()
        self._under_way.add(threading.get_ident())
        try:
            return self._run(eid, name, planned)
        finally:
            self._under_way.discard(threading.get_ident())

    def _run(self, eid: int, name: str, planned: Judged | None) -> Result | None:
        started = time.monotonic()
        try:
            if planned is not None and not planned.adapter.needs:
                judged = self.judge.explained(planned)
            else:  # what it needs may have ended only now
                judged = self._looked(eid, name)
        except _Gone:
            return None
        try:
            result = self._bring(judged)
        except _Gone:
            return None
        except CogbuildError as error:
            if error.fatal:
                raise
            result = self._failed(judged, [self.runner.never_started(judged, error)], error, ran=False)
        return self.told(judged, result, started)

    def told(self, judged: Judged, result: Result, started: float) -> Result:
        """Tell how a pair ended, which is durable, and remember it for those that need it."""
        if not result.seconds:
            result = replace(result, seconds=time.monotonic() - started)
        if result.status in (Status.FAILED, Status.BLOCKED, Status.CANCELLED):
            reason = result.error.title if result.error else result.reason or str(result.status)
            self.judge.failed[judged.entry.eid, judged.adapter.name] = reason
        self._tell(result)
        return result

    def _bring(self, judged: Judged) -> Result:
        if self.stop.is_set():
            return Result(judged.name, Status.CANCELLED)
        if judged.error is not None:
            raise judged.error
        kind = judged.verdict.kind
        if kind in (Kind.BLOCKED, Kind.PENDING):
            self._recorder.blocked(judged)
            return Result(
                judged.name, Status.BLOCKED, reason="; ".join(item.text for item in judged.verdict.reasons)
            )
        if judged.verdict.settled:
            self._recorder.settled(judged)
            return self._fresh(judged)
        gone = [item.adapter for item in judged.needs if self.judge.note_if_gone(judged.entry, item.adapter)]
        if gone:
            self._recorder.blocked(judged)
            return Result(
                judged.name, Status.BLOCKED, reason=f"needs {', '.join(gone)}, whose artifact is gone"
            )
        if kind is Kind.NOT_APPLICABLE:
            reason = "; ".join(item.text for item in judged.verdict.reasons)
            self._recorder.made(Made(judged, (), (), reason, b""))
            return Result(judged.name, Status.NOT_APPLICABLE, reason=reason)
        if judged.python is not None and judged.python.lock is None:
            self.runner.resolve(judged)
            judged = self._looked_again(judged)
        return self._under_lock(judged)

    def _lost(self, artifacts: Iterable[Artifact]) -> bool:
        """Whether any of what is about to be handed on is not whole; then it is lost, and everybody knows."""
        return bool([item for item in artifacts if damage.lost(self.project, item)])  # each is looked at

    def _looked(self, eid: int, name: str) -> Judged:
        entry = models.find(self.project.con, eid)
        if entry is None or not models.kept_ones(self.project.con, [eid]):
            # Removed, or its directory moved on, since it was planned.
            raise _Gone
        return self.judge.explained(self.judge.look(entry, name))

    def _looked_again(self, judged: Judged) -> Judged:
        return self._looked(judged.entry.eid, judged.adapter.name)

    def _under_lock(self, judged: Judged) -> Result:
        assert judged.key is not None
        waited = []

        def waiting() -> None:
            waited.append(True)
            self._waited = True
            self._tell(Note(judged.name, "another run does the same work; waiting for it"))

        with self.flights.held(judged.key, waiting=waiting, cancelled=self.stop.is_set) as mine:
            if not mine:
                return Result(judged.name, Status.CANCELLED)
            if waited:
                # Whoever was first may have done it, also for a pair that this run was told to force.
                self.judge.forced.discard((judged.entry.eid, judged.adapter.name))
            again = judged if not waited and self.judge.still(judged) else self._looked_again(judged)
            if again.key != judged.key and again.key is not None:
                return self._bring(
                    again
                )  # what it is made from moved while we waited: another key, another lock
            return self._do(again)

    def _do(self, judged: Judged) -> Result:
        if judged.verdict.settled:
            self._recorder.settled(judged)
            return self._fresh(judged)
        kind = judged.verdict.kind
        if kind is Kind.RESTORABLE:
            return self._restore(judged)
        if kind is Kind.UNTESTED:
            assert judged.outcome is not None
            if self._lost(judged.outcome.artifacts):
                return self._do(self._looked_again(judged))
            return self._test(judged, judged.outcome, Status.TESTED)
        if kind is not Kind.STALE:
            return self._bring(judged)
        return self._build(judged)

    def _fresh(self, judged: Judged) -> Result:
        outcome = judged.outcome
        if outcome is not None and outcome.reason is not None:
            return Result(judged.name, Status.NOT_APPLICABLE, reason=outcome.reason)
        artifacts = outcome.artifacts if outcome else ()
        return Result(
            judged.name, Status.FRESH, artifacts=artifacts, uris=tuple(map(self.project.uri, artifacts))
        )

    # -- restore --------------------------------------------------------------------------------------------------

    def _restore(self, judged: Judged) -> Result:
        record = judged.record
        assert record is not None
        if self._lost(record.artifacts):
            return self._do(self._looked_again(judged))
        untested = judged.adapter.test is not None and bool(record.artifacts)
        outcome = self._recorder.restored(judged, record, untested=untested)
        if outcome is None:
            return self._do(self._looked_again(judged))
        if untested:
            # Which test passed it, the record does not say; an artifact is current only once today's test did.
            again = self._looked_again(judged)
            if again.outcome is not None and again.verdict.kind is Kind.UNTESTED:
                result = self._test(again, again.outcome, Status.RESTORED)
                return replace(result, saved=record.seconds, reasons=judged.verdict.reasons)
        return Result(
            judged.name,
            Status.NOT_APPLICABLE if record.reason is not None else Status.RESTORED,
            artifacts=outcome.artifacts,
            uris=tuple(map(self.project.uri, outcome.artifacts)),
            reason=record.reason,
            reasons=judged.verdict.reasons,
            saved=record.seconds,
        )

    # -- test -----------------------------------------------------------------------------------------------------

    def _test(self, judged: Judged, outcome: Outcome, status: Status) -> Result:
        """Run the test alone on what is there."""
        with self._slot():
            if self.stop.is_set():
                return Result(judged.name, Status.CANCELLED)
            ended = self.runner.test(judged, outcome.artifacts)
        if ended.status == "interrupted":
            self._recorder.interrupted(judged, [ended.attempt])
            self.runner.recorded([ended])
            return Result(judged.name, Status.CANCELLED)
        failed = ended.error
        self._recorder.tested(judged, ended.attempt, ended.artifacts, failed=failed.title if failed else None)
        self.runner.recorded([ended])
        log = self._log(ended)
        if failed is not None:
            return Result(judged.name, Status.FAILED, error=failed, log=log, reasons=judged.verdict.reasons)
        return Result(
            judged.name,
            status,
            ended.attempt.seconds,
            ended.artifacts,
            tuple(map(self.project.uri, ended.artifacts)),
            log=log,
            reasons=judged.verdict.reasons,
        )

    # -- build ----------------------------------------------------------------------------------------------------

    def _build(self, judged: Judged) -> Result:
        with self._slot():
            if self.stop.is_set():
                return Result(judged.name, Status.CANCELLED)
            ended = self.runner.run(judged)
        return self.ended(judged, ended)

    def again(self, judged: Judged, attempts: Sequence[Attempted]) -> bool:
        """Whether a pair is to be tried once more after these attempts."""
        last = attempts[-1]
        return last.status == "failed" and last.temporary and len(attempts) <= judged.adapter.spec.retries

    def ended(self, judged: Judged, ended: Attempted) -> Result:
        """Record what a first attempt came to, after more of them where that is a temporary failure."""
        attempts = [ended]
        while self.again(judged, attempts) and self._pause(judged, len(attempts)):
            with self._slot():
                ended = self.runner.run(judged)
            attempts.append(ended)
        rows = [item.attempt for item in attempts]
        log = self._log(ended)
        if ended.status == "interrupted":
            self._recorder.interrupted(judged, rows)
            self.runner.recorded(attempts)
            return Result(judged.name, Status.CANCELLED, log=log)
        if ended.error is not None:
            return self._failed(judged, attempts, ended.error)
        self._recorder.made(Made(judged, rows, ended.artifacts, ended.reason, ended.log_tail))
        self.runner.recorded(attempts)
        self.judge.forced.discard((judged.entry.eid, judged.adapter.name))
        return self._built(judged, ended)

    def built(self, several: Sequence[tuple[Judged, Attempted]]) -> list[Result]:
        """Record together what first attempts made, each of a pair of its own."""
        made = [
            Made(judged, (ended.attempt,), ended.artifacts, ended.reason, ended.log_tail)
            for judged, ended in several
        ]
        self._recorder.made(*made, alone=True)
        self.runner.recorded(ended for _, ended in several)
        return [self._built(judged, ended) for judged, ended in several]

    def _built(self, judged: Judged, ended: Attempted) -> Result:
        return Result(
            judged.name,
            Status.NOT_APPLICABLE if ended.reason is not None else Status.BUILT,
            ended.attempt.seconds,
            ended.artifacts,
            tuple(map(self.project.uri, ended.artifacts)),
            reason=ended.reason,
            log=self._log(ended),
            reasons=judged.verdict.reasons,
        )

    @contextlib.contextmanager
    def _slot(self) -> Iterator[None]:
        self.slots.get()
        try:
            yield
        finally:
            self.slots.put(None)

    def _failed(
        self, judged: Judged, attempts: list[Attempted], error: CogbuildError, *, ran: bool = True
    ) -> Result:
        self._recorder.failed(judged, [item.attempt for item in attempts], error.title, ran=ran)
        self.runner.recorded(attempts)
        return Result(
            judged.name,
            Status.FAILED,
            attempts[-1].attempt.seconds if attempts else 0.0,
            error=error,
            log=self._log(attempts[-1]) if attempts else None,
            reasons=judged.verdict.reasons,
        )

    def _pause(self, judged: Judged, tried: int) -> bool:
        """Wait before the next try; False where the run is cancelled meanwhile."""
        seconds = min(_BACKOFF * 2 ** (tried - 1), _LONGEST_BACKOFF)
        self._tell(Note(judged.name, f"temporary failure (exit 75); trying again in {seconds:g} s"))
        return not self.stop.wait(seconds)

    def _log(self, ended: Attempted) -> str | None:
        path = self.project.log(ended.attempt.id)
        return os.path.relpath(path) if ended.log_tail else None
