"""Workers that a lane has borrowed, the workspaces that their commands see, and what each was sent.

A worker is sent the next commands ahead where those before were quick, so that it need not wait for an answer to be read;
what has to wait behind one that turns out to take its time is called back.
"""

from __future__ import annotations

import select
import time
from collections import deque
from queue import Empty
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cogbuild.engine.run import Engine
    from cogbuild.process.client import Worker
    from cogbuild.workspace import Workspace

__all__ = ["Seat", "Seats"]

#: A pair on its way.
P = TypeVar("P")

# A worker is sent the next commands ahead where those before were this quick, as many as it runs in that time.
_QUICK = 0.01
_AHEAD = 8
# ... and as many as this for all of them: each pair that has begun has two files open.
_ALL_AHEAD = 64
# What has to wait behind a command for longer than this is called back, for others to run.
_PATIENCE = 0.05


class Seat(Generic[P]):
    """A worker that was lent, the workspace that its commands see, and the pairs that it was sent."""

    def __init__(self, worker: Worker, space: Workspace) -> None:
        self.worker = worker
        self.space = space
        self.pairs: deque[P] = deque()
        self.since = 0.0  # when the first of them began
        self.called_back = False

    def sent(self, pair: P) -> None:
        """Hear that the worker was sent a pair."""
        if not self.pairs:
            self.since = time.monotonic()
        self.pairs.append(pair)

    def came_back(self) -> P:
        """Return the last pair, which has not begun and is not to."""
        self.called_back = False
        return self.pairs.pop()

    def ended(self) -> tuple[P, float]:
        """Return the first pair, which has ended, and when it can have begun at the earliest."""
        began, self.since = self.since, time.monotonic()
        return self.pairs.popleft(), began


class Seats(Generic[P]):
    """The seats of one lane, used by one thread; *poll* watches their workers.

    *careful*: nothing is sent ahead. ``wanting`` is how many others may want a worker, for whom seats are left.
    """

    def __init__(self, engine: Engine, poll: select.poll, *, careful: bool) -> None:
        self._engine = engine
        self._poll = poll
        self._careful = careful
        self._by_fd: dict[int, Seat[P]] = {}
        self._seconds = _QUICK  # that a command took lately
        self.wanting = 0

    def __len__(self) -> int:
        return len(self._by_fd)

    def __iter__(self) -> Iterator[Seat[P]]:
        return iter(list(self._by_fd.values()))

    def __getitem__(self, fd: int) -> Seat[P]:
        return self._by_fd[fd]

    @property
    def most_ahead(self) -> int:
        """How many commands a worker is sent at most."""
        return max(1, min(_AHEAD, _ALL_AHEAD // self._engine.jobs))

    @property
    def depth(self) -> int:
        """How many commands it is good that a worker has, as quick as they are."""
        if self._careful or self._seconds >= _QUICK:
            return 1
        return min(self.most_ahead, int(_QUICK / max(self._seconds, 1e-4)))

    @property
    def sent(self) -> int:
        """How many pairs all of them have."""
        return sum(len(seat.pairs) for seat in self._by_fd.values())

    def took(self, seconds: float) -> None:
        """Hear how long a command took."""
        self._seconds += (seconds - self._seconds) / 4

    def room(self, seat: Seat[P]) -> int:
        """Return how many more commands a worker may be sent."""
        if not seat.pairs:
            return self.depth
        late = time.monotonic() - seat.since >= _PATIENCE
        if late or seat.called_back or len(self) > self._allowed():
            return 0
        return self.depth - len(seat.pairs)

    def emptiest(self) -> Seat[P] | None:
        """Return the seat with the least to do, a new one where all have something to do and there may be one more."""
        if all(seat.pairs for seat in self._by_fd.values()):
            self._borrow()
        return min(self._by_fd.values(), key=lambda seat: len(seat.pairs), default=None)

    def make_way(self) -> None:
        """Give workers back that others want and that have nothing to do."""
        for seat in self:
            if not seat.pairs and len(self) > self._allowed():
                self.leave(seat, usable=True)

    def call_back(self, now: float) -> float | None:
        """Call back what has to wait for too long; return when that is next to be looked at."""
        until: float | None = None
        for seat in self._by_fd.values():
            if len(seat.pairs) > 1 and not seat.called_back:
                due = seat.since + _PATIENCE
                if now >= due:
                    seat.called_back = True
                    seat.worker.call_back()
                else:
                    until = due if until is None else min(until, due)
        return until

    def leave(self, seat: Seat[P], *, usable: bool) -> None:
        """Give a worker back."""
        fd = next(fd for fd, known in self._by_fd.items() if known is seat)
        self._poll.unregister(fd)
        del self._by_fd[fd]
        seat.space.close()
        self._engine.runner.means().pool.take_back(seat.worker, usable=usable)
        self._engine.slots.put(None)

    def _allowed(self) -> int:
        """Return how many workers are ours, when others want some too."""
        jobs = self._engine.jobs
        return max(int(jobs > 1), jobs - self.wanting)

    def _borrow(self) -> None:
        """Take another worker, where there may be one and one is to be had."""
        engine = self._engine
        if len(self) >= self._allowed():
            return
        assert engine.own_slots is not None
        try:
            engine.own_slots.get_nowait()
        except Empty:
            return
        seat = None
        try:
            seat = self._seat()
        finally:
            if seat is None:
                engine.slots.put(None)

    def _seat(self) -> Seat[P] | None:
        """Borrow a worker and make the workspace that its commands see."""
        engine = self._engine
        means = engine.runner.means()
        worker = means.pool.lend()
        if worker is None:
            return None
        try:
            space = means.spaces.open(
                engine.project.objects.models,
                memory_limit=engine.project.settings.workspace_memory,
                sealed=True,
            )
        except BaseException:
            means.pool.take_back(worker, usable=True)
            raise
        worker.last_root = space.root
        seat: Seat[P] = Seat(worker, space)
        self._by_fd[worker.fileno()] = seat
        self._poll.register(worker.fileno(), select.POLLIN)
        return seat
