"""Run one of our own tools to its end and keep what it said.

For programs that we chose (uv, an interpreter asked for its version), not for adapters: those go through ``Pool``.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cogbuild.process.lines import Lines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

__all__ = ["Captured", "capture"]

_CHUNK = 64 << 10
# How long output is still awaited after the tool itself has ended: a background child may hold its pipes for ever.
_DRAIN = 0.5


@dataclass(frozen=True)
class Captured:
    """How a tool ended: ``code`` is negative for a signal, and the output holds at most the limit asked for."""

    code: int
    stdout: bytes
    stderr: bytes
    timed_out: bool


def capture(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    said: bytes = b"",
    timeout: float | None = None,
    on_line: Callable[[bytes], None] | None = None,
    limit: int = 16 << 20,
) -> Captured:
    """Run *argv* in a session of its own and return how it ended.

    It reads *said*, which fits into a pipe, and then the end of its stdin. *on_line* gets each line of stderr as it comes. At *timeout* seconds, and when an exception such as Ctrl-C
    interrupts the wait, the tool's whole process group is killed. ``OSError`` where it can't be started.
    """
    # No preexec_fn: with it Popen has to fork instead of vfork, which costs more the larger we are.
    process = subprocess.Popen(
        argv,
        env=env,
        cwd=cwd,
        stdin=subprocess.PIPE if said else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with process:
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
                pipe.write(said)
        output = _Output(process, on_line, limit)
        try:
            timed_out = not output.read(timeout)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return Captured(process.returncode, bytes(output.kept[0]), bytes(output.kept[1]), timed_out)


class _Output:
    """Both pipes of a process, read in bounded memory until it has ended."""

    def __init__(
        self, process: subprocess.Popen[bytes], on_line: Callable[[bytes], None] | None, limit: int
    ) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.kept = (bytearray(), bytearray())
        self._pipes = (process.stdout.fileno(), process.stderr.fileno())
        self._pid = process.pid
        self._limit = limit
        self._lines = Lines(on_line)

    def read(self, timeout: float | None) -> bool:
        """Read to the end; False where *timeout* came first."""
        deadline = None if timeout is None else time.monotonic() + timeout
        ended = os.pidfd_open(self._pid)
        try:
            with selectors.DefaultSelector() as selector:
                for source in (*self._pipes, ended):
                    selector.register(source, selectors.EVENT_READ)
                return self._loop(selector, ended, deadline)
        finally:
            os.close(ended)
            self._lines.close()

    def _loop(self, selector: selectors.BaseSelector, ended: int, deadline: float | None) -> bool:
        running = True
        while selector.get_map():
            left = None if deadline is None else deadline - time.monotonic()
            ready = selector.select(left) if left is None or left > 0 else []
            if not ready and left is not None and left <= 0:
                return not running
            for key, _ in ready:
                if key.fd == ended:
                    running = False
                    drained = time.monotonic() + _DRAIN
                    deadline = drained if deadline is None else min(deadline, drained)
                    selector.unregister(ended)
                elif not self._take(key.fd):
                    selector.unregister(key.fd)
        return True

    def _take(self, pipe: int) -> bool:
        chunk = os.read(pipe, _CHUNK)
        which = self._pipes.index(pipe)
        kept = self.kept[which]
        kept += chunk[: self._limit - len(kept)]
        if which == 1:
            self._lines.feed(chunk)
        return bool(chunk)
