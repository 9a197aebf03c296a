"""A stream of bytes as lines, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PIECE", "Lines"]

#: A longer line is handed on in pieces of this many bytes.
PIECE = 8 << 10


class Lines:
    """Cuts what is fed into lines, hands each to *on_line* without its end, and remembers the last that says something."""

    def __init__(self, on_line: Callable[[bytes], None] | None = None) -> None:
        self._on_line = on_line
        self._rest = b""
        self._tail = b""

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        blank = b"\n" in data and not data.strip()
        self._tail = (self._tail + (b"\n" if blank else data))[-PIECE:]
        if self._on_line is None:
            return
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            self._hand_on(line.removesuffix(b"\r"))
        while len(self._rest) > PIECE:
            self._on_line(self._rest[:PIECE])
            self._rest = self._rest[PIECE:]

    def hush(self) -> None:
        """Hand on no more lines; the last one is still remembered."""
        self._on_line, self._rest = None, b""

    def close(self) -> None:
        """Hand on a last line that has no end."""
        if self._rest:
            self._hand_on(self._rest)
            self._rest = b""

    @property
    def last(self) -> bytes:
        """The last line so far that is not blank; of a long one, its end."""
        return self._tail.strip().rsplit(b"\n", 1)[-1].strip()

    def _hand_on(self, line: bytes) -> None:
        assert self._on_line is not None
        for start in range(0, len(line) or 1, PIECE):
            self._on_line(line[start : start + PIECE])
