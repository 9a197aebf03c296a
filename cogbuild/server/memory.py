"""The memory of a process that lives long: what was let go of goes back to the kernel.

Left alone, glibc's malloc keeps a heap for each of several threads, and cuts ever larger pieces out of heaps once it has
seen some: what is small then settles between them, and a heap stays as large as its busiest moment
(docs/design.md, "What did a process that lives long need?").
"""

from __future__ import annotations

import contextlib
import ctypes

__all__ = ["PIECE", "lean"]

#: Bytes that are read of a connection at a time.
PIECE = 64 << 10
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of glibc's malloc.h
#: From this size on a piece is the kernel's own and goes back to it at once; what is read all the time is below it.
_LARGE = 2 * PIECE + (8 << 10)
#: So much may be free at a heap's end; with a fourth of it a large upload spends its time on getting and giving back.
_SPARE = 512 << 10


def lean() -> None:
    """Have this process give back what it let go of. Nothing happens with another C library."""
    with contextlib.suppress(AttributeError, OSError):
        tune = ctypes.CDLL(None).mallopt
        for name, value in ((_M_ARENA_MAX, 2), (_M_MMAP_THRESHOLD, _LARGE), (_M_TRIM_THRESHOLD, _SPARE)):
            tune(name, value)
