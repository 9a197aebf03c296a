"""A worker as the pool sees it: a process to talk to, one command at a time."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cogbuild.process.lines import Lines
from cogbuild.process.values import Command, Ended, Level, Protection, Reason, View
from cogbuild.process.wire import Channel, Order, ViewOrder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from cogbuild.process.masking import Mask
    from cogbuild.process.values import Sink

__all__ = ["Log", "Refused", "Worker", "order_for"]

_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker", "__main__.py")
# An interpreter of an unusual place may need this to find its own library; the rest of our environment stays here.
_ENVIRONMENT = ("LD_LIBRARY_PATH",)
_PATIENCE = 10.0
# Runs of one adapter share nearly all of their environment.
_encoded = lru_cache(maxsize=4096)(os.fsencode)


class Refused(Exception):
    """A level that this machine does not give."""


class Worker:
    """One worker process; made by starting it and waiting until it is ready."""

    def __init__(self, level: Level, wrapper: Sequence[str] = ()) -> None:
        ours, theirs = socket.socketpair()
        self._channel = Channel(ours)
        self._lock = threading.Lock()
        self._busy = False
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
        try:
            self.protection = self._greeting(level)
        except BaseException:
            self.end()
            raise

    def _greeting(self, level: Level) -> Protection:
        match self._channel.receive():
            case ("ready", dict(notes), str(group)):
                self._group = group
                return Protection(level, level is Level.NAMESPACES and "overlay" not in notes, notes)
            case (_, str(why)):
                raise Refused(why)
            case _:
                raise Refused("its worker ended before it was ready")

    def run(
        self,
        order: Order,
        cancelled: Callable[[], bool],
        write: Callable[[bytes], bool],
        on_line: Callable[[bytes], None] | None,
        mask: Mask | None = None,
    ) -> Ended:
        """Run one command to its end. An exception of *write* or *on_line* ends the worker with all it holds."""
        with self._lock:
            # Under the lock that ``stop`` takes, so that no command slips in between a flag set and a worker told.
            if cancelled():
                return Ended(Reason.CANCELLED, detail="not started any more")
            self._busy = True
            with contextlib.suppress(OSError):  # gone: the answer, or its lack, says more
                self._channel.send("run", *order.packed())
        try:
            return self._listen(write, on_line) if mask is None else self._listen_masked(write, on_line, mask)
        except BaseException:
            self.end()
            raise
        finally:
            with self._lock:
                self._busy = False

    def _listen_masked(
        self, write: Callable[[bytes], bool], on_line: Callable[[bytes], None] | None, mask: Mask
    ) -> Ended:
        """As ``_listen``, with what *mask* knows taken out of everything before anybody sees it."""
        from cogbuild.process.masking import Masked

        lines = Lines(on_line)
        stream = Masked(mask)

        def take(data: bytes) -> bool:
            if not write(data):
                lines.hush()
            lines.feed(data)
            return True

        ended = self._listen(lambda data: take(stream.feed(data)), None)
        take(stream.close())
        lines.close()
        # Of a stdout that was cut, the end may be a part of what is not to be seen.
        stdout = mask.split(ended.stdout)[0] if ended.stdout_cut else mask.data(ended.stdout)
        return replace(ended, stdout=stdout, last_line=lines.last)

    def _listen(self, write: Callable[[bytes], bool], on_line: Callable[[bytes], None] | None) -> Ended:
        lines = Lines(on_line)
        size = 0
        while True:
            match self._channel.receive():
                case ("log", bytes(data)):
                    size += len(data)
                    if not write(data):
                        lines.hush()
                    lines.feed(data)
                case ("end", dict(fields)):
                    lines.close()
                    return _ended(fields, lines.last, size)
                case other:
                    lines.close()
                    return Ended(
                        Reason.LOST, detail=self._autopsy(other), last_line=lines.last, log_bytes=size
                    )

    def _autopsy(self, last: tuple[Any, ...] | None) -> str:
        self.end()
        if last is not None:
            return f"its worker gave up: {last[-1]}"
        return "its worker was killed"

    def stop(self) -> None:
        """Ask the running command, if there is one, to end."""
        with self._lock:
            if self._busy:
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


def _ended(fields: dict[str, Any], last_line: bytes, log_bytes: int) -> Ended:
    reason = Reason(fields.pop("reason"))
    return Ended(reason, last_line=last_line, log_bytes=log_bytes, **fields)


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


class Log:
    """Where stderr and its lines go, up to a limit; past it one line says so, and nobody hears more."""

    def __init__(self, file: Sink | None, limit: int, on_line: Callable[[bytes], None] | None = None) -> None:
        self._file = file
        self._left = limit
        self._limit = limit
        self._on_line = on_line

    def write(self, data: bytes) -> bool:
        """Write what there is still room for; return whether the lines of *data* are to be heard."""
        if self._file is None:
            return True
        if self._left < 0:
            return False
        self._file.write(data[: self._left])
        self._left -= len(data)
        if self._left < 0:
            said = b"[cogbuild] cut here: the log reached its limit of %d bytes" % self._limit
            self._file.write(b"\n" + said + b"\n")
            if self._on_line is not None:
                self._on_line(said)
        return self._left >= 0
