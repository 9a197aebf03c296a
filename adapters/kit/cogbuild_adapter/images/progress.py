"""Long transfers in the log: a line every few seconds, none for what is quick."""

from __future__ import annotations

import sys
import time

_EVERY = 5.0  # seconds


class Progress:
    """Says on stderr how far *what* has come, where that takes more than a few seconds."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total, self.done = what, total, 0
        self._next = time.monotonic() + _EVERY

    def reached(self, done: int) -> None:
        """Note that *done* bytes of all are behind us."""
        self.done = done
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _EVERY
            print(f"{self.what}: {size(done)} of {size(self.total)}", file=sys.stderr, flush=True)

    def add(self, count: int) -> None:
        """Note *count* bytes more."""
        self.reached(self.done + count)


def size(count: int) -> str:
    """Return *count* bytes as people say it."""
    number = float(count)
    for unit in ("bytes", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"
