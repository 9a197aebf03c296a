"""A worker as the pool sees it: a process to talk to, which runs one command at a time."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cogbuild.process.values import NOT_STARTED, Command, Ended, Level, Protection, Reason, View
from cogbuild.process.wire import Channel, Order, ViewOrder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from cogbuild.process.hearing import Hearing

__all__ = ["Refused", "Worker", "order_for"]

_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker", "__main__.py")
# An interpreter of an unusual place may need this to find its own library; the rest of our environment stays here.
_ENVIRONMENT = ("LD_LIBRARY_PATH",)
_PATIENCE = 10.0
# Runs of one adapter share nearly all of their environment.
_encoded = lru_cache(maxsize=4096)(os.fsencode)


class Refused(Exception):
    """A level that this machine does not give."""


class Worker:
    """One worker process; started when it is made, and ready when its ``protection`` is known."""

    def __init__(self, level: Level, wrapper: Sequence[str] = ()) -> None:
        ours, theirs = socket.socketpair()
        self._channel = Channel(ours)
        self._lock = threading.Lock()
        self._flying: deque[Hearing] = deque()  # what was sent and has not ended
        self._group = ""
        self.last_root: Path | None = None  # where its last command had its view
        # A session of its own: Ctrl-C on the terminal is for us alone. And an exec of a small program rather than a
        # fork of this one, with its threads and open databases.
        with theirs:
            self._process = subprocess.Popen(
                [*wrapper, sys.executable, "-I", "-S", _PROGRAM, str(theirs.fileno()), level],
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._level = level
        self._protection: Protection | None = None

    @property
    def protection(self) -> Protection:
        """What it gives; waits until it is ready. Raises ``Refused`` where this machine does not give the level."""
        if self._protection is None:
            try:
                self._protection = self._greeting(self._level)
            except BaseException:
                self.end()
                raise
        return self._protection

    def _greeting(self, level: Level) -> Protection:
        match self._channel.receive():
            case ("ready", dict(notes), str(group)):
                self._group = group
                return Protection(level, level is Level.NAMESPACES and "overlay" not in notes, notes)
            case (_, str(why)):
                raise Refused(why)
            case _:
                raise Refused("its worker ended before it was ready")

    def run(self, order: Order, hearing: Hearing, cancelled: Callable[[], bool]) -> Ended:
        """Run one command to its end, on a worker that has no other. An exception of who hears it ends the worker."""
        if not self.send(order, hearing, cancelled):
            return Ended(Reason.CANCELLED, detail=NOT_STARTED)
        while True:
            for _, ended in self.heard():
                assert ended is not None, "nobody calls back what nobody waits behind"
                return ended

    def send(self, order: Order, hearing: Hearing, cancelled: Callable[[], bool]) -> bool:
        """Have a command run once those have ended that were sent before; False where that was *cancelled*."""
        with self._lock:
            # Under the lock that ``stop`` takes, so that no command slips in between a flag set and a worker told.
            if cancelled():
                return False
            self._flying.append(hearing)
            with contextlib.suppress(OSError):  # gone: the answer, or its lack, says more
                self._channel.send("run", *order.packed())
        return True

    def heard(self) -> list[tuple[Hearing, Ended | None]]:
        """Wait until the worker says something; return what has ended by that, the first first.

        None: the command has not begun and will not, because it was called back or the worker is gone.
        An exception of who hears a command ends the worker with all it holds, and is raised.
        """
        ended: list[tuple[Hearing, Ended | None]] = []
        message = self._channel.receive()
        while True:
            if message is not None and message[0] == "back":
                ended += [(self._landed(-1), None) for _ in range(message[1])][::-1]
            else:
                self._take(message, ended)
            if message is None or (message := self._channel.waiting()) is None:
                return ended

    def _take(self, message: tuple[Any, ...] | None, ended: list[tuple[Hearing, Ended | None]]) -> None:
        hearing = self._flying[0]
        try:
            if message is None:
                self.end()
                end: Ended | None = hearing.lost("its worker was killed")
            else:
                end = hearing.take(message)
        except BaseException:
            self.end()
            raise
        if end is None:
            return
        ended.append((self._landed(0), end))
        if end.reason is Reason.LOST:
            self.end()
            ended += [(self._landed(0), None) for _ in range(len(self._flying))]

    def _landed(self, at: int) -> Hearing:
        with self._lock:
            return self._flying.pop() if at else self._flying.popleft()

    def call_back(self) -> None:
        """Have what has not begun given back, by what is heard next."""
        with contextlib.suppress(OSError):
            self._channel.send("back")

    @property
    def flying(self) -> int:
        """How many commands were sent and have not ended."""
        return len(self._flying)

    def fileno(self) -> int:
        """Return what can be read from when there is something to hear."""
        return self._channel.socket.fileno()

    def stop(self) -> None:
        """Ask the running command, if there is one, to end, and what was sent behind it not to begin."""
        with self._lock:
            if self._flying:
                with contextlib.suppress(OSError):
                    self._channel.send("stop")

    def hang_up(self) -> None:
        """Let the process end, without waiting for it."""
        self._channel.close()

    def end(self) -> None:
        """End the process and all it holds; return when that is done."""
        self.hang_up()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._group:
            _end_group(self._group)


def _end_group(group: str) -> None:
    """End what is left in the control group of a worker that was killed; usually it has removed the group itself."""
    deadline = time.monotonic() + _PATIENCE
    while os.path.isdir(group) and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            with open(group + "/cgroup.kill", "w") as file:
                file.write("1")
            os.rmdir(group)
            return
        time.sleep(0.005)  # a group is busy until its last process is quite gone


def order_for(command: Command, *, mounts: bool) -> Order:
    """Return *command* as bytes; without *mounts* what it may see is not the worker's to arrange."""
    return Order(
        argv=tuple(map(os.fsencode, command.argv)),
        env={_encoded(name): _encoded(value) for name, value in command.env.items()},
        cwd=os.fsencode(command.cwd),
        view=None if command.view is None else _view_order(command.view),
        timeout=command.timeout,
        grace=command.grace,
        hide=tuple(map(_encoded, command.hide)) if mounts else (),
        expose=tuple(map(_encoded, command.expose)) if mounts else (),
        writable=tuple(map(_encoded, command.writable)) if mounts else (),
        stdout_limit=command.stdout_limit,
    )


def _view_order(view: View) -> ViewOrder:
    return ViewOrder(
        root=os.fsencode(view.root),
        layers=tuple(map(os.fsencode, view.layers)),
        masked=tuple(map(os.fsencode, view.masked)),
        disk=None if view.disk is None else os.fsencode(view.disk),
        memory_limit=view.memory_limit,
        sealed=view.sealed,
    )
