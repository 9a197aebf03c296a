"""A pool of workers: commands in, endings out, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

from cogbuild.errors.adapters_process import ProtectionRefused, ProtectionUnknown
from cogbuild.process import bubblewrap
from cogbuild.process.client import Refused, Worker, order_for
from cogbuild.process.hearing import Hearing
from cogbuild.process.values import NOT_STARTED, Command, Ended, Level, Protection, Reason

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from cogbuild.process.masking import Mask
    from cogbuild.process.values import Sink

__all__ = ["Pool", "protection"]

#: Forces one level instead of the strongest that works.
VARIABLE = "COGBUILD_PROTECTION"


class Pool:
    """Runs commands, at most *size* at once, each held by a worker of its own; workers start when first needed.

    May be used from any number of threads. *level* forces one level of protection (``ProtectionRefused`` where the
    machine does not give it); otherwise COGBUILD_PROTECTION does, else it is the strongest that works.
    """

    def __init__(self, size: int, *, level: Level | None = None) -> None:
        self._free = threading.Semaphore(size)
        self._size = size
        self._asked = level
        self._protection: Protection | None = None
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._starting: list[Worker] = []
        self._cancelled = False

    @property
    def protection(self) -> Protection:
        """What this machine gives; the first use starts a worker to find out."""
        with self._lock:
            if self._protection is None:
                worker, notes = self._first()
                found = worker.protection
                self._protection = Protection(found.level, found.overlay, {**notes, **found.notes})
                if found.level is Level.BUBBLEWRAP:
                    worker.end()  # there, each command has its own
                else:
                    self._idle.append(worker)
            return self._protection

    def warm(self) -> None:
        """Start all workers that there may be, beside whatever else is done meanwhile."""
        try:
            level = self._asked or _forced() or next(iter(Level))
        except ProtectionUnknown:  # told by who needs one
            return
        with self._lock:
            if self._protection is not None or self._starting or level is Level.BUBBLEWRAP:
                return
            with contextlib.suppress(OSError):
                for _ in range(self._size):
                    self._starting.append(Worker(level))

    def _first(self) -> tuple[Worker, dict[str, str]]:
        """Return a worker of the strongest level that works, and why the stronger ones do not."""
        starting, self._starting = self._starting, []
        try:
            for worker in starting[:1]:
                _ = worker.protection
                self._starting = starting[1:]
                return worker, {}
        except Refused:
            for worker in starting[1:]:
                worker.end()
        return _strongest(self._asked)

    def run(
        self,
        command: Command,
        *,
        log: Sink | None = None,
        on_line: Callable[[bytes], None] | None = None,
        mask: Mask | None = None,
    ) -> Ended:
        """Run *command* to its end and return how it ended; nothing that it started is left.

        *log* gets stderr as it comes, *on_line* its lines, both up to the command's limit. Whatever either raises ends the command and is raised here.
        What *mask* knows is in nothing that is given to them or returned.
        """
        with self._free:
            if self._cancelled:
                return Ended(Reason.CANCELLED, detail=NOT_STARTED)
            level = self.protection.level
            if command.view is not None and not self.protection.overlay:
                why = self.protection.notes.get("overlay", f"there are no views at the level {level}")
                return Ended(Reason.NOT_STARTED, detail=why, view_failed=True)
            order = order_for(command, mounts=level is Level.NAMESPACES)
            try:
                worker = self._taken(level, command)
            except (Refused, OSError) as error:
                return Ended(Reason.LOST, detail=f"no worker could be started: {error}")
            usable = False
            try:
                hearing = Hearing(log, command.log_limit, on_line, mask)
                ended = worker.run(order, hearing, lambda: self._cancelled)
                usable = ended.reason is not Reason.LOST and level is not Level.BUBBLEWRAP
                return ended
            finally:
                self._give_back(worker, usable=usable)

    def lend(self) -> Worker | None:
        """Return a worker to send commands to, for as long as nobody else needs it; None where none is to be had.

        Only where views are, and a worker serves more than one command.
        """
        if self._cancelled or not self.protection.overlay or not self._free.acquire(blocking=False):
            return None
        try:
            return self._taken(self.protection.level, None)
        except (Refused, OSError):
            self._free.release()
            return None

    def take_back(self, worker: Worker, *, usable: bool) -> None:
        """Take a worker that was lent and has nothing left to do, or is not *usable* any more."""
        self._give_back(worker, usable=usable)
        self._free.release()

    @property
    def cancelled(self) -> bool:
        """Whether nothing is started any more."""
        return self._cancelled

    def _taken(self, level: Level, command: Command | None) -> Worker:
        root = command.view.root if command is not None and command.view else None
        with self._lock:
            # The one that had its last view at the same place need not unmount that first.
            known = next((item for item in self._idle if item.last_root == root), None)
            worker = known or (self._idle[-1] if self._idle else None)
            if worker is not None:
                self._idle.remove(worker)
                self._busy.add(worker)
            starting = self._starting.pop() if worker is None and self._starting else None
        if worker is None:
            worker = starting or _started(level, command)
            _ = worker.protection
            with self._lock:
                self._busy.add(worker)
        worker.last_root = root
        return worker

    def _give_back(self, worker: Worker, *, usable: bool) -> None:
        if not usable:
            worker.end()
        with self._lock:
            self._busy.discard(worker)
            if usable:
                self._idle.append(worker)

    def cancel(self) -> None:
        """End every running command with all its descendants, and start none any more."""
        self._cancelled = True
        with self._lock:
            busy = list(self._busy)
        for worker in busy:
            worker.stop()

    def close(self) -> None:
        """Cancel what is running, wait for its end, and end the workers."""
        self.cancel()
        for _ in range(self._size):
            self._free.acquire()
        with self._lock:
            idle, self._idle = [*self._idle, *self._starting], []
            self._starting = []
        for worker in idle:
            worker.hang_up()
        for worker in idle:
            worker.end()
        self._free.release(self._size)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def protection() -> Protection:
    """Find out what this machine gives, by starting a worker."""
    with Pool(1) as pool:
        return pool.protection


def _strongest(asked: Level | None) -> tuple[Worker, dict[str, str]]:
    """Start a worker of the strongest level that works; return it and why the stronger ones do not."""
    forced = asked or _forced()
    notes: dict[str, str] = {}
    for level in [forced] if forced else Level:
        try:
            return _started(level, None), notes
        except (Refused, OSError) as error:
            notes[level] = str(error)
    raise ProtectionRefused(level=level, reason=notes[level])


def _started(level: Level, command: Command | None) -> Worker:
    """Start a worker that is ready."""
    if level is not Level.BUBBLEWRAP:
        worker = Worker(level)
        _ = worker.protection
        return worker
    bwrap = bubblewrap.program()
    if bwrap is None:
        raise Refused("bwrap is not installed")
    worker = Worker(level, bubblewrap.wrapper(bwrap, command))
    try:
        _ = worker.protection
    except Refused:
        raise Refused("bwrap can't make namespaces here") from None
    return worker


def _forced() -> Level | None:
    name = os.environ.get(VARIABLE)
    if not name:
        return None
    try:
        return Level(name)
    except ValueError:
        raise ProtectionUnknown(variable=VARIABLE, value=name, known=list(Level)) from None
