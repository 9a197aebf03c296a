"""A run: the engine, who watches it, interruption, and the tasks of a plan handed to doit in batches."""

from __future__ import annotations

import gc
import signal
import threading
from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from cogbuild.engine import Result, Status
from cogbuild.errors import CogbuildError
from cogbuild.place import anybody_at_work
from cogbuild.report.summary import Summary
from cogbuild.report.watching import Watcher

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path
    from types import FrameType

    from cogbuild.engine import Engine, Event, Listener
    from cogbuild.engine.lane import Lane
    from cogbuild.engine.run import Slots
    from cogbuild.planner import Judged, Plan
    from cogbuild.project import Project

__all__ = ["ENDING", "Run", "run_plan"]


#: Threads beyond those whose adapter runs: what has ended waits for others to become durable together.
ENDING = 8


class Run:
    """One run over a plan: results are counted, signals end it, the worst that happened is its exit code."""

    def __init__(
        self,
        project: Project,
        plan: Plan,
        *,
        jobs: int,
        watcher: Listener,
        slots: Slots | None = None,
    ) -> None:
        self.project = project
        self.plan = plan
        self.results: Counter[Status] = Counter()
        self.failures: list[Result] = []
        #: An error of state: no pair can go on.
        self.fatal: CogbuildError | None = None
        self.signal: int | None = None
        #: Pairs that were handed to doit, and pairs of batches that were never looked at because the run broke off.
        self.expected = 0
        self.unseen = 0
        #: Pairs that doit came to and passed over, and those of them that the user has ignored.
        self.passed = 0
        self.ignored = 0
        #: Pairs that doit knows and that nothing has asked for yet, by the names of their tasks: would it have to run?
        self.unasked: dict[str, bool] = {}
        self._watcher = watcher
        #: Shared with the other runs of this process, which is then one that goes on after this run.
        self.slots = slots
        self.cancelled = False
        # A worker takes longer to start than a short script to run, so no more of them than there are pairs.
        self.jobs = max(1, min(jobs, plan.most))
        self._old: dict[int, Any] = {}
        self._lane: Lane | None = None
        self._broken = False  # it can't go on
        self._threads: ThreadPoolExecutor | None = None

    @cached_property
    def engine(self) -> Engine:
        """The engine, made for the first pair that has to run."""
        from cogbuild.engine.run import Engine

        return Engine(self.project, self.plan.judge, jobs=self.jobs, listener=self._hear, slots=self.slots)

    @property
    def place(self) -> Path | None:
        """The directory below ``work`` that its adapters run in, None before the first of them."""
        return self.engine.runner.place if "engine" in self.__dict__ else None

    def lane(self, *, careful: bool) -> Lane:
        """Return the way of many pairs through the engine. *careful*: none begins before what came of another is known.

        So it is with one job too: each pair is durable before the next one begins.
        """
        if self._lane is None:
            from concurrent.futures import ThreadPoolExecutor

            from cogbuild.engine.lane import Lane

            self._threads = ThreadPoolExecutor(self.jobs + ENDING, thread_name_prefix="pair")
            self._lane = Lane(self.engine, self._threads, careful=careful or self.jobs == 1)
        return self._lane

    def _hear(self, event: Event) -> None:
        if isinstance(event, Result):
            self.results[event.status] += 1
            if event.status in (Status.FAILED, Status.BLOCKED):
                self.failures.append(event)
        self._watcher(event)

    def expect(self, pairs: int) -> None:
        """Hear that so many pairs, none of them fresh when it was judged, are about to run."""
        self.expected += pairs
        _ = self.engine  # made here, before there are threads that want it
        if isinstance(self._watcher, Watcher):
            self._watcher.expect(pairs)

    def passed_over(self, *, fresh: bool) -> None:
        """Hear that doit passed a pair over: it is fresh, or the user has it ignored."""
        self.expected -= 1
        self.passed += 1
        if not fresh:
            self.ignored += 1

    def pair(self, eid: int, adapter: str, planned: Judged | None = None) -> Result | None:
        """Bring one pair up to date; None where the run can't go on."""
        if self.fatal is not None:
            return None
        try:
            came: Result | Exception | None = self.engine.run(eid, adapter, planned)
        except Exception as trouble:  # noqa: BLE001 - doit's threads would lose the traceback
            came = trouble
        return self.settled(came)

    def settled(self, came: Result | Exception | None) -> Result | None:
        """Take what came of a pair; None where the run can't go on."""
        if isinstance(came, Result):
            return came
        if came is None:  # removed, or its directory moved on, since it was planned
            self.passed_over(fresh=True)
            return Result("", Status.FRESH)
        if isinstance(came, CogbuildError):
            self.fatal = came
        else:
            from cogbuild.errors.bugs import error_of

            self.fatal = error_of(came, self.project.data)
        self.engine.cancel()
        return None

    def drain(self) -> None:
        """Wait for what is still under way, and hear what comes of it."""
        while came := self.came():
            for hear, result in came:
                hear(result)

    def came(self) -> list[tuple[Any, Result | Exception | None]]:
        """Return what the lane tells next; empty where nothing is under way, or the lane itself can't go on."""
        if self._lane is None or self._broken:
            return []
        try:
            return self._lane.wait()
        except Exception as trouble:  # noqa: BLE001 - the run is given up, in words
            self._broken = True
            self.settled(trouble)
            return []

    def summary(self) -> Summary:
        """Return the totals: what was not planned was fresh, what the run did not come to counts as cancelled."""
        counts = Counter(self.results)
        fresh = self.plan.pairs - max(self.expected, counts.total()) - self.unseen - self.ignored
        fresh -= sum(self.unasked.values())  # neither fresh nor cancelled: they are not told of
        counts[Status.CANCELLED] += max(0, self.expected - counts.total()) + self.unseen
        counts[Status.FRESH] += max(0, fresh)
        notes = tuple(self.project.cache.troubles)
        return Summary(dict(counts), tuple(self.failures), tuple(self.plan.problems), self.ignored, notes)

    @property
    def asked(self) -> bool:
        """Whether doit came to any pair, or there was none that it could pass by."""
        return bool(self.expected or self.results or self.passed or not any(self.unasked.values()))

    @property
    def exit_code(self) -> int:
        """0 all is done · 1 an adapter failed · 2 a model can't be used · 3 state · 130, 143 interrupted."""
        if self.signal is not None:
            return 128 + self.signal
        if self.fatal is not None:
            return self.fatal.exit_code
        if self.failures or self.results[Status.CANCELLED]:
            return 1
        return 2 if self.plan.problems else 0

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(self, *_error: object) -> None:
        self.end()

    def begin(self) -> None:
        """Clear up after runs that were killed; take over SIGINT and SIGTERM, where this is the main thread."""
        if anybody_at_work(self.project.data):
            from cogbuild.engine.leftovers import recover_if_possible

            recover_if_possible(self.project)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._interrupted)

    def end(self) -> None:
        """End the workers, let go of the terminal, give the signals back."""
        if self._lane is not None:
            self._lane.close()
        if "engine" in self.__dict__:
            self.engine.close()
        if self._threads is not None:
            self._threads.shutdown()
        if isinstance(self._watcher, Watcher):
            self._watcher.close()
        for number, handler in self._old.items():
            signal.signal(number, handler)
        self._old.clear()

    def cancel(self) -> None:
        """End every adapter that runs and begin no pair any more; may be called from any thread."""
        self.cancelled = True
        if "engine" in self.__dict__:
            self.engine.cancel()

    def _interrupted(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:  # asked twice: now
            raise KeyboardInterrupt
        self.signal = number
        if "engine" not in self.__dict__:  # nothing runs yet
            raise SystemExit(128 + number)
        # A thread of its own: a signal handler may come while this thread holds a lock that cancelling takes.
        threading.Thread(target=self.engine.cancel, daemon=True).start()


def run_plan(run: Run, *, fail_fast: bool) -> None:
    """Have doit run the plan's pairs, batch by batch; the next one is judged while workers are busy with the last."""
    if run.plan.many:
        run.engine.runner.warm()
    for chunk in run.plan.chunks():
        from cogbuild.tasks.pairs import run_batch

        if not run.expected and run.slots is None:
            # What is there by now stays to the end: looking through it again and again finds nothing to collect.
            gc.freeze()
        run.expect(len(chunk))
        if run.cancelled:  # before there was an engine to tell
            run.engine.cancel()
        run_batch(run, chunk, fail_fast=fail_fast)
        if run.signal is not None or run.cancelled or run.fatal is not None or (fail_fast and run.failures):
            run.unseen = _after(run.plan, chunk[-1].entry.eid)
            break
    run.drain()


def _after(plan: Plan, eid: int) -> int:
    """Return how many pairs there may be in the batches after the one that holds *eid*; judging them would take time."""
    from cogbuild.planner.plan import CHUNK

    rest = plan.eids[(plan.eids.index(eid) // CHUNK + 1) * CHUNK :]
    return sum(
        len(rest) if chosen is None else sum(item in chosen for item in rest)
        for chosen in plan.candidates.values()
    )
