"""One command: started, read, ended with all that it started."""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cogbuild.process.wire import CHUNK
from cogbuild.process.worker.start import start, why_not
from cogbuild.process.worker.views import Stage, StageFailed

if TYPE_CHECKING:
    from cogbuild.process.wire import Order
    from cogbuild.process.worker.inbox import Inbox
    from cogbuild.process.worker.keepers import Keeper
    from cogbuild.process.worker.memory import OomCounter

__all__ = ["perform"]

# How long output is awaited after the program itself has ended: what it left behind may hold its pipes for ever.
_DRAIN = 0.5
# A program that lives as long as this is worth reading counters for; after that, orphans are reaped at this pace.
_SETTLED = 0.02
_HOUSEKEEPING = 1.0
# What is read at the very end, from pipes that something out of our reach may still be filling.
_LAST_READ = 1 << 20
_LONGEST_PATH = 4096
_SHELL_KILLED = 128 + signal.SIGKILL


def perform(order: Order, inbox: Inbox, keeper: Keeper, oom: OomCounter, stage: Stage) -> dict[str, Any]:
    """Run one command; stderr goes out as it comes, and the fields of ``Ended`` are returned.

    After: nothing that the command started is left. What *stage* holds is for the caller to strike.
    """
    try:
        stage.set_up(order)
    except StageFailed as error:
        return {
            "reason": "not started",
            "detail": str(error),
            "errno": error.errno,
            "view_failed": error.view,
        }
    stdout = os.pipe()
    stderr = os.pipe()
    try:
        run = _Run(order, inbox, keeper, oom, (stdout[0], stderr[0]))
        try:
            failure = run.begin((stdout[1], stderr[1]))
        finally:
            os.close(stdout[1])
            os.close(stderr[1])
        return failure or run.finish()
    finally:
        os.close(stdout[0])
        os.close(stderr[0])


class _Run:
    def __init__(
        self, order: Order, inbox: Inbox, keeper: Keeper, oom: OomCounter, pipes: tuple[int, int]
    ) -> None:
        self._order = order
        self._inbox = inbox
        self._channel = inbox.channel
        self._keeper = keeper
        self._oom = oom
        self._stdout, self._stderr = pipes
        self._reading = set(pipes)
        self._pid = 0
        self._status: int | None = None  # of the program itself, as wait gives it
        self._stopped = ""  # the reason, once we have asked it to end
        self._killed = False
        self._kept = bytearray()
        self._cut = 0
        self._cpu = 0.0
        self._max_rss = 0

    def begin(self, ends: tuple[int, int]) -> dict[str, Any] | None:
        """Start the program; return how it failed where it did."""
        order = self._order
        program = order.cwd
        try:
            os.chdir(order.cwd)
            program = order.argv[0]
            self._keeper.admit()
            try:
                self._began = time.monotonic()
                self._pid = start(order.argv, order.env, *ends)
            finally:
                self._keeper.admitted()
        except OSError as error:
            os.chdir("/")
            return {"reason": "not started", "detail": why_not(program, error), "errno": error.errno}
        self._seconds: float | None = None
        self._until = float("inf") if order.timeout is None else self._began + order.timeout
        self._chore = self._began + _SETTLED
        return None

    def finish(self) -> dict[str, Any]:
        """Wait for the end, brought about by force where need be."""
        ended = os.pidfd_open(self._pid)
        try:
            self._watch(ended)
        finally:
            os.close(ended)
            self._end_all()
            os.chdir("/")
        for pipe in self._reading:
            self._read_rest(pipe)
        return self._result()

    def _watch(self, ended: int) -> None:
        """Read both pipes until the program has ended and they are closed, or its time is up."""
        poll = select.poll()
        for source in (*self._reading, ended, self._channel.socket.fileno()):
            poll.register(source, select.POLLIN)
        while self._status is None or self._reading:
            if self._inbox.stopped:
                self._stop("cancelled")
            pause = min(self._chore, self._until) - time.monotonic()
            ready = poll.poll(max(0.0, pause * 1000))
            if not self._in_time():
                return
            for source, _ in ready:
                if source == ended:
                    poll.unregister(ended)
                    if self._status is None:  # whoever traces it hears of its end first, and we wait for that
                        os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)
                    self._reap(os.WNOHANG)
                    self._until = 0.0 if self._stopped else time.monotonic() + _DRAIN
                elif source not in self._reading:
                    self._inbox.hear()
                elif not self._take(source):
                    poll.unregister(source)
                    self._reading.discard(source)

    def _in_time(self) -> bool:
        now = time.monotonic()
        if now >= self._chore:
            if self._chore - self._began <= _SETTLED:
                self._oom.mark()
            self._chore = now + _HOUSEKEEPING
            self._reap(os.WNOHANG)
        if now < self._until:
            return True
        if self._status is not None or self._stopped:
            return False
        self._stop("timeout")
        return True

    def _stop(self, reason: str) -> None:
        """Ask the program itself to end; its grace begins."""
        if self._status is None and not self._stopped:
            self._stopped = reason
            self._until = time.monotonic() + self._order.grace
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)

    def _take(self, pipe: int) -> bool:
        data = os.read(pipe, CHUNK)
        if pipe == self._stdout:
            kept = data[: self._order.stdout_limit - len(self._kept)]
            self._kept += kept
            self._cut += len(data) - len(kept)
        elif data:
            self._channel.send("log", data)
        return bool(data)

    def _read_rest(self, pipe: int) -> None:
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        for _ in range(_LAST_READ // CHUNK):
            if not poll.poll(0) or not self._take(pipe):
                return

    def _end_all(self) -> None:
        while self._reap(os.WNOHANG):
            self._killed = self._killed or self._status is None
            self._keeper.end_all()
            self._reap(0)

    def _reap(self, options: int) -> bool:
        """Collect what has ended, one process at least unless told not to wait; False when nothing is left."""
        while True:
            try:
                pid, status, used = os.wait4(-1, options)
            except ChildProcessError:
                return False
            if not pid:
                return True
            options = os.WNOHANG
            self._cpu += used.ru_utime + used.ru_stime
            self._max_rss = max(self._max_rss, used.ru_maxrss << 10)
            if pid == self._pid:
                self._status = status
                self._seconds = time.monotonic() - self._began

    def _names_file(self) -> bool:
        """Whether the one line on stdout is the path of something in the working directory, while that is still here."""
        line = bytes(self._kept).strip()
        if not line or len(line) > _LONGEST_PATH or b"\n" in line or b"\0" in line:
            return False
        return os.path.lexists(os.path.join(os.fsencode(self._order.cwd), line))

    def _result(self) -> dict[str, Any]:
        assert self._status is not None
        code = os.waitstatus_to_exitcode(self._status)
        reason, detail = self._stopped or ("signal" if code < 0 else "exit"), ""
        if self._killed:
            detail = "did not end when asked to and was killed"
        # A shell whose last command was killed so ends with a code that says it.
        elif not self._stopped and code in (-signal.SIGKILL, _SHELL_KILLED) and self._oom.moved():
            reason, detail = "memory", "killed by the kernel, which had run out of memory for it"
        return {
            "reason": reason,
            "code": code if code >= 0 else None,
            "signal": -code if code < 0 else None,
            "detail": detail,
            "stdout": bytes(self._kept),
            "stdout_cut": self._cut,
            "stdout_names_file": self._names_file(),
            "seconds": self._seconds,
            "cpu_seconds": self._cpu,
            "max_rss": self._max_rss,
        }
