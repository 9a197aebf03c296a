"""Many pairs at once from one thread: the way of those that are simple, beside threads for those that are not.

Simple is what depends on nothing that may end meanwhile and is quickly ready: a stale pair over a sealed model, without
needs, environment or state. Their keys are locked, they are looked at once more, sent to the workers and recorded several
at a time; each step is the one that ``Engine.run`` takes for a single pair. All others run in threads.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from cogbuild.engine.events import Result, Status
from cogbuild.engine.seats import Seat, Seats
from cogbuild.errors import CogbuildError
from cogbuild.process.client import order_for
from cogbuild.process.values import NOT_STARTED, Ended, Reason
from cogbuild.verdict import Kind

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor, Future

    from cogbuild.engine.places import Places
    from cogbuild.engine.run import Engine
    from cogbuild.engine.underway import Attempted, Running
    from cogbuild.planner import Judged

__all__ = ["Lane"]

#: What came of a pair: its result; None: it is not there any more; an error that concerns all pairs.
Came = Result | None | Exception

# Pairs that are recorded together, and seconds that the first of them waits for the others.
_TOGETHER = 24
_LINGER = 0.006
# Pairs that are under way beyond those that workers have.
_BEYOND = 24


def _itself(attempted: Attempted) -> Attempted:
    return attempted


class _Pair:
    """A pair on its way."""

    def __init__(self, token: Any, judged: Judged) -> None:
        self.token = token
        self.planned = self.judged = judged
        self.began = time.monotonic()
        self.lock = -1
        self.running: Running
        self.places: Places


class Lane:
    """Takes pairs and tells what came of them; used by one thread. *careful*: none is begun before what came of another is known."""

    def __init__(self, engine: Engine, threads: Executor, *, careful: bool = False) -> None:
        self._engine = engine
        self._threads = threads
        self._careful = careful
        self._queue: deque[_Pair] = deque()
        self._ready: deque[_Pair] = deque()  # begun, and sent to no worker
        self._keys: dict[str, list[_Pair]] = {}  # locked by us, with the pairs that wait for them
        self._locked: set[_Pair] = set()  # those that hold the locks
        self._made: list[tuple[_Pair, Attempted]] = []  # ended, and not recorded
        self._since = 0.0  # when the first of those had ended
        self._slow = 0  # pairs in threads
        self._ended_ones: deque[tuple[Any, Future[Result | None], str | None, bool]] = deque()
        self._came: deque[tuple[Any, Came]] = deque()
        self._poll = select.poll()
        self._seats: Seats[_Pair] = Seats(engine, self._poll, careful=careful)
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._ringing = threading.Lock()
        self._poll.register(self._bell, select.POLLIN)

    # -- from outside ---------------------------------------------------------------------------------------------

    @property
    def open(self) -> int:
        """How many pairs were added of which nothing is told yet."""
        waiting = sum(map(len, self._keys.values()))
        return len(self._queue) + len(self._ready) + self._seats.sent + waiting + len(self._made) + self._slow

    @property
    def full(self) -> bool:
        """Whether it is better to wait before more is added."""
        jobs = self._engine.jobs
        return self.open >= (jobs if self._careful else jobs * self._seats.most_ahead + _BEYOND)

    def add(self, token: Any, eid: int, name: str, planned: Judged | None) -> None:
        """Bring a pair up to date; ``wait`` tells *token* with what came of it."""
        self._engine.use()
        if planned is not None and self._simple(planned):
            self._queue.append(_Pair(token, planned))
        else:
            self._in_thread(token, lambda: self._engine.run(eid, name, planned))

    def wait(self) -> list[tuple[Any, Came]]:
        """Return what came of some pairs, once something has; empty where none is open."""
        while not self._came and self.open:
            self._turn()
        came = list(self._came)
        self._came.clear()
        return came

    def drop(self) -> int:
        """Forget the pairs that have not begun; return how many."""
        count = len(self._queue)
        self._queue.clear()
        return count

    def close(self) -> None:
        """Give everything back. What has ended is recorded, where that can be; what still runs is ended."""
        with suppress(CogbuildError):
            self._record()
        begun = list(self._ready)
        for seat in self._seats:
            begun += seat.pairs
            self._seats.leave(seat, usable=not seat.pairs)
        for pair in begun:
            with suppress(CogbuildError):
                given_up = Ended(Reason.CANCELLED, detail=NOT_STARTED)
                attempted = self._engine.runner.finish(pair.running, pair.places, given_up)
                self._engine.ended(pair.judged, attempted)
        while self._slow:
            self._threads_ended()
        for pair in list(self._locked):
            self._unlock(pair)
        with self._ringing:
            os.close(self._bell)

    # -- a turn ---------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        """Send what can be sent, hear what has ended, record what is due."""
        self._send()
        self._seats.make_way()
        now = time.monotonic()
        flying = self._seats.sent > 0
        due = self._made and (
            len(self._made) >= _TOGETHER or not flying or self._careful or now - self._since >= _LINGER
        )
        if due:
            self._record()
            return
        if not flying and not self._slow:
            return
        for fd, _ in self._poll.poll(self._pause(now)):
            if fd == self._bell:
                self._threads_ended()
            else:
                self._hear(self._seats[fd])

    def _pause(self, now: float) -> float | None:
        """Return for how many milliseconds there is nothing to do but to listen; None: for as long as it takes."""
        until = [self._since + _LINGER] if self._made else []
        until += [now] if self._came else []
        if (due := self._seats.call_back(now)) is not None:
            until.append(due)
        return max(0.0, (min(until) - now) * 1000) if until else None

    def _hear(self, seat: Seat[_Pair]) -> None:
        for _, ended in seat.worker.heard():
            if ended is None:
                self._ready.appendleft(seat.came_back())
                continue
            pair, began = seat.ended()
            pair.running.clock = max(pair.running.clock, began)
            self._seats.took(ended.seconds)
            if ended.reason is Reason.LOST:
                for other in reversed(seat.pairs):
                    self._ready.appendleft(other)
                seat.pairs.clear()
                self._seats.leave(seat, usable=False)
                self._ended(pair, ended)
                return
            if self._queue or self._ready:
                self._fill(seat)
            self._ended(pair, ended)
        if seat.called_back and len(seat.pairs) <= 1:
            seat.called_back = False

    # -- before ---------------------------------------------------------------------------------------------------

    def _simple(self, judged: Judged) -> bool:
        spec = judged.adapter.spec
        return (
            judged.verdict.kind is Kind.STALE
            and judged.error is None
            and judged.entry.sealed
            and not judged.adapter.needs
            and judged.python is None
            and not spec.state
            and not spec.large_writes
            and self._engine.own_slots is not None
            and not self._engine.runner.wrapper
            and self._engine.runner.overlay
        )

    def _send(self) -> None:
        """Have every worker that there may be as much to do as is good."""
        while (self._queue or self._ready) and (seat := self._emptiest()) is not None:
            if not self._fill(seat):
                return

    def _emptiest(self) -> Seat[_Pair] | None:
        """Return the worker with the least to do, if it may have more."""
        seat = self._seats.emptiest()
        if seat is None:
            if not self._seats.wanting:  # nobody else has them, so there are none
                self._refuse()
            return None
        return seat if self._seats.room(seat) > 0 else None

    def _refuse(self) -> None:
        """Give up on workers: threads say what is wrong with them."""
        while self._queue:
            self._by_thread(self._queue.popleft())
        while self._ready:
            pair = self._ready.popleft()
            self._ended(pair, Ended(Reason.CANCELLED, detail=NOT_STARTED))

    def _fill(self, seat: Seat[_Pair]) -> bool:
        """Send a worker what it may have; False where there was nothing."""
        room = self._seats.room(seat)
        if len(self._ready) < room and self._queue:
            self._begin(room - len(self._ready))
        sent = False
        while self._ready and len(seat.pairs) < self._seats.depth and room > 0:
            room -= 1
            sent = self._send_to(seat, self._ready.popleft()) or sent
        return sent

    def _begin(self, count: int) -> None:
        """Lock the keys of the next pairs, see whether they are what they were, and begin them."""
        locked: list[_Pair] = []
        while self._queue and len(locked) < count:
            pair = self._queue.popleft()
            key = pair.judged.key or ""
            if key in self._keys:
                self._keys[key].append(pair)
            elif self._engine.stop.is_set():
                self._tell(pair, Result(pair.judged.name, Status.CANCELLED))
            elif (lock := self._engine.flights.take(key)) is None:
                self._by_thread(pair)
            else:
                pair.lock = lock
                self._locked.add(pair)
                self._keys[key] = []
                locked.append(pair)
        judge = self._engine.judge
        for pair, judged in zip(locked, judge.still_all([pair.judged for pair in locked]), strict=True):
            if judged is None:
                self._let_go(pair)
                self._by_thread(pair)
                continue
            pair.judged = judged
            pair.running, pair.places = self._engine.runner.begin(judged, "run")
            try:
                self._engine.runner.prepare(pair.running, pair.places)
            except CogbuildError as error:
                self._took(
                    pair,
                    partial(self._engine.runner.refused, pair.running, pair.places, error),
                )
            else:
                self._ready.append(pair)

    def _send_to(self, seat: Seat[_Pair], pair: _Pair) -> bool:
        engine, running = self._engine, pair.running
        runner, pool = engine.runner, engine.runner.means().pool
        assert seat.space.view is not None
        view = replace(seat.space.view, layers=(running.prepared.model,), masked=running.prepared.masked)
        try:
            command = runner.script(running, seat.space.root, view)
        except CogbuildError as error:
            self._took(pair, partial(runner.refused, running, pair.places, error))
            return False
        hearing = runner.hearing(running, command)
        if not seat.worker.send(order_for(command, mounts=True), hearing, lambda: pool.cancelled):
            self._ended(pair, Ended(Reason.CANCELLED, detail=NOT_STARTED))
            return False
        seat.sent(pair)
        return True

    # -- after ----------------------------------------------------------------------------------------------------

    def _ended(self, pair: _Pair, ended: Ended) -> None:
        """Take up how a command ended: here where that is quickly done, else in a thread."""
        engine, running = self._engine, pair.running
        if ended.view_failed:  # a copy may do
            engine.runner.given_up(running, pair.places)
            self._let_go(pair)
            self._by_thread(pair)
        elif running.judged.adapter.spec.test is None and (pair.places.untouched() or ended.code != 0):
            self._took(pair, partial(engine.runner.finish, running, pair.places, ended))
        else:
            self._finish_in_thread(pair, partial(engine.runner.finish, running, pair.places, ended))

    def _took(self, pair: _Pair, conclude: Callable[[], Attempted]) -> None:
        try:
            attempted = conclude()
        except Exception as error:  # noqa: BLE001 - told to whoever waits
            self._let_go(pair)
            self._came.append((pair.token, error))
            return
        if attempted.status in ("built", "not applicable"):
            if not self._made:
                self._since = time.monotonic()
            self._made.append((pair, attempted))
        else:
            self._finish_in_thread(pair, partial(_itself, attempted))

    def _finish_in_thread(self, pair: _Pair, conclude: Callable[[], Attempted]) -> None:
        engine = self._engine
        lock, pair.lock = pair.lock, -1
        self._locked.discard(pair)

        def work() -> Result:
            try:
                return engine.told(pair.judged, engine.ended(pair.judged, conclude()), pair.began)
            finally:
                engine.flights.let_go(pair.judged.key or "", lock)

        self._in_thread(
            pair.token, work, key=pair.judged.key, worker=pair.judged.adapter.spec.test is not None
        )

    def _record(self) -> None:
        made, self._made = self._made, []
        if not made:
            return
        try:
            results = self._engine.built([(pair.judged, attempted) for pair, attempted in made])
        except Exception as error:  # noqa: BLE001 - told to whoever waits
            for pair, attempted in made:
                if len(made) > 1:  # one of them may be at fault
                    self._finish_in_thread(pair, partial(_itself, attempted))
                else:
                    self._let_go(pair)
                    self._came.append((pair.token, error))
            return
        for (pair, _), result in zip(made, results, strict=True):
            self._let_go(pair)
            self._tell(pair, result)

    def _tell(self, pair: _Pair, result: Result) -> None:
        self._came.append((pair.token, self._engine.told(pair.judged, result, pair.began)))

    def _let_go(self, pair: _Pair) -> None:
        """Release a pair's lock, and let those go on that wait for what it made."""
        if pair.lock >= 0:
            self._unlock(pair)
            self._unlocked(pair.judged.key)

    def _unlock(self, pair: _Pair) -> None:
        self._locked.discard(pair)
        self._engine.flights.let_go(pair.judged.key or "", pair.lock)
        pair.lock = -1

    def _unlocked(self, key: str | None) -> None:
        for waiting in self._keys.pop(key or "", ()):
            self._by_thread(waiting)

    # -- threads --------------------------------------------------------------------------------------------------

    def _by_thread(self, pair: _Pair) -> None:
        """Have a pair take the way of those that are not simple."""
        planned = pair.planned
        self._in_thread(
            pair.token, lambda: self._engine.run(planned.entry.eid, planned.adapter.name, planned)
        )

    def _in_thread(
        self, token: Any, work: Callable[[], Result | None], *, key: str | None = None, worker: bool = True
    ) -> None:
        self._slow += 1
        self._seats.wanting += worker

        def ended(future: Future[Result | None]) -> None:
            # In one piece: once the last of them was taken up the bell goes, and its number may be another file's.
            with self._ringing:
                self._ended_ones.append((token, future, key, worker))
                os.eventfd_write(self._bell, 1)

        self._threads.submit(work).add_done_callback(ended)

    def _threads_ended(self) -> None:
        """Take up what threads have done, at least one of them."""
        select.select([self._bell], (), ())
        os.eventfd_read(self._bell)
        while self._ended_ones:
            token, future, key, worker = self._ended_ones.popleft()
            self._slow -= 1
            self._seats.wanting -= worker
            error = future.exception()
            if error is not None and not isinstance(error, Exception):
                raise error
            self._came.append((token, error or future.result()))
            self._unlocked(key)
