"""How far sending is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, TextIO

from cogbuild.report.words import amount

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from cogbuild.client.sending import Progress

__all__ = ["Bar", "Lines", "Silent", "progress_on"]

_EVERY = 10.0  # seconds between two lines


def progress_on(out: TextIO) -> Progress:
    """Return who shows progress on *out*."""
    return Bar(out) if out.isatty() and os.environ.get("TERM") != "dumb" else Lines(out)


def _what(files: int, size: int, there: int) -> str:
    known = f"; {there} {'is' if there == 1 else 'are'} there" if there else ""
    return f"{files} file{'' if files == 1 else 's'}, {amount(size)}{known}"


class Silent:
    """Shows nothing."""

    def begin(self, files: int, size: int, there: int) -> None:
        """Pass over it."""

    def sent(self, size: int) -> None:
        """Pass over it."""

    def close(self) -> None:
        """Nothing is held back."""


class Lines:
    """A line at the beginning, one every ten seconds, one at the end."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._guard = threading.Lock()
        self._done = self._size = 0
        self._next = 0.0

    def begin(self, files: int, size: int, there: int) -> None:
        """Say what is sent."""
        self._size, self._done = size, 0
        self._next = time.monotonic() + _EVERY
        self._say(
            f"sending {_what(files, size, there)}" if files else f"nothing to send: {there} files are there"
        )

    def sent(self, size: int) -> None:
        """Say how far it is, where it is time."""
        with self._guard:
            self._done += size
            now = time.monotonic()
            if now < self._next or self._done >= self._size:
                return
            self._next = now + _EVERY
            done = self._done
        self._say(f"sent {amount(done)} of {amount(self._size)}")

    def close(self) -> None:
        """Nothing is held back."""

    def _say(self, line: str) -> None:
        self._out.write(line + "\n")
        self._out.flush()


class Bar:
    """A bar with bytes, speed and time left, which goes when all is sent; what was sent stays as a line."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._guard = threading.Lock()
        self._line = ""
        self._left = 0

    def begin(self, files: int, size: int, there: int) -> None:
        """Draw the bar."""
        self._left = size
        self._line = _what(files, size, there)
        if not files:
            self._out.write(f"nothing to send: {there} files are there\n")
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._bar = Progress(
            "sending",
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(file=self._out, highlight=False),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task("", total=size)
        self._bar.start()

    def sent(self, size: int) -> None:
        """Move the bar."""
        with self._guard:
            self._left -= size
            if self._bar is not None and self._task is not None:
                self._bar.advance(self._task, size)

    def close(self) -> None:
        """Take the bar away; where all was sent, say so."""
        with self._guard:
            bar, self._bar = self._bar, None
        if bar is not None:
            bar.stop()
            if self._left <= 0:
                self._out.write(f"sent {self._line}\n")
                self._out.flush()
