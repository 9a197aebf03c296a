"""A stream of bytes as lines, in bounded memory."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PIECE", "Lines"]

#: A longer line is handed on in pieces of this many bytes.
PIECE = 8 << 10
# Seconds between two states of a line that is written over, as progress bars do it.
_EVERY = 1.0


class Lines:
    """Cuts what is fed into lines, hands each to *on_line* without its end, and remembers the last that says something.

    Of a line that is written over (CR) for longer than a second its state is handed on once a second, and its last state in the end.
    """

    def __init__(self, on_line: Callable[[bytes], None] | None = None) -> None:
        self._on_line = on_line
        self._rest = b""
        self._tail = b""
        self._over_since: float | None = None  # the line that has no end yet is written over
        self._told: float | None = None  # when a state of it was handed on

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        blank = b"\n" in data and not data.strip()
        self._tail = (self._tail + (b"\n" if blank else data))[-PIECE:]
        if self._on_line is None:
            return
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            self._hand_on(line.removesuffix(b"\r") if self._told is None else _newest(line))
            self._over_since = self._told = None
        if b"\r" in self._rest:
            self._rest = self._over(self._rest)
        while len(self._rest) > PIECE:
            self._on_line(self._rest[:PIECE])
            self._rest = self._rest[PIECE:]

    def hush(self) -> None:
        """Hand on no more lines; the last one is still remembered."""
        self._on_line, self._rest = None, b""

    def close(self) -> None:
        """Hand on a last line that has no end."""
        if self._rest:
            self._hand_on(self._rest if self._told is None else _newest(self._rest))
            self._rest = b""

    @property
    def last(self) -> bytes:
        """The last line so far that is not blank; of a long one, its end."""
        return self._tail.strip().rsplit(b"\n", 1)[-1].strip()

    def _over(self, line: bytes) -> bytes:
        """Hand on a state of a line that has no end yet, if it is time; return what counts of the line."""
        clock = time.monotonic()
        if self._over_since is None:
            self._over_since = clock
        if clock - self._over_since < _EVERY:
            return line
        *before, now = line.split(b"\r")
        if not now:  # its end may be coming: CR LF
            return line if self._told is None else _newest(line) + b"\r"
        state = next((part for part in reversed(before) if part.strip()), None)
        if state is None:
            return line
        if self._told is None or clock - self._told >= _EVERY:
            self._told = clock
            self._hand_on(state)
        return now

    def _hand_on(self, line: bytes) -> None:
        assert self._on_line is not None
        for start in range(0, len(line) or 1, PIECE):
            self._on_line(line[start : start + PIECE])


def _newest(line: bytes) -> bytes:
    """Return what a line says once all that writes over it is written."""
    if b"\r" not in line:
        return line
    return next((part for part in reversed(line.split(b"\r")) if part.strip()), b"")
