"""A pool of workers: commands in, endings out, nothing left behind."""

from __future__ import annotations

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
        self._cancelled = False

    @property
    def protection(self) -> Protection:
        """What this machine gives; the first use starts a worker to find out."""
        with self._lock:
            if self._protection is None:
                worker, notes = _strongest(self._asked)
                found = worker.protection
                self._protection = Protection(found.level, found.overlay, {**notes, **found.notes})
                if found.level is Level.BUBBLEWRAP:
                    worker.end()  # there, each command has its own
                else:
                    self._idle.append(worker)
            return self._protection

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

    def _taken(self, level: Level, command: Command) -> Worker:
        root = command.view.root if command.view else None
        with self._lock:
            # The one that had its last view at the same place need not unmount that first.
            known = next((item for item in self._idle if item.last_root == root), None)
            worker = known or (self._idle[-1] if self._idle else None)
            if worker is not None:
                self._idle.remove(worker)
                self._busy.add(worker)
        if worker is None:
            worker = _started(level, command)
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
            idle, self._idle = self._idle, []
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
    if level is not Level.BUBBLEWRAP:
        return Worker(level)
    bwrap = bubblewrap.program()
    if bwrap is None:
        raise Refused("bwrap is not installed")
    try:
        return Worker(level, bubblewrap.wrapper(bwrap, command))
    except Refused:
        raise Refused("bwrap can't make namespaces here") from None


def _forced() -> Level | None:
    name = os.environ.get(VARIABLE)
    if not name:
        return None
    try:
        return Level(name)
    except ValueError:
        raise ProtectionUnknown(variable=VARIABLE, value=name, known=list(Level)) from None
