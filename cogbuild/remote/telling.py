"""How far a large file is on its way, told now and then; and where its way ends early."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Telling", "silent"]

_TALKS = 64 << 20  # from that size on, how far it is is told


def silent(_text: str) -> None:
    """Hear nothing."""


class Telling:
    """One file on its way."""

    def __init__(
        self, doing: str, size: int, say: Callable[[str], None], cancelled: Callable[[], bool]
    ) -> None:
        self._doing, self._size = doing, size
        self._say, self._cancelled = say, cancelled
        self._told = 0

    def reached(self, at: int) -> None:
        """Hear that so many bytes are through. Raises ``InterruptedError`` where nobody waits for them any more."""
        if self._cancelled():
            raise InterruptedError("it was broken off")
        step = 1 if at == self._size else self._size / 10
        if self._size >= _TALKS and at - self._told >= step:
            self._told = at
            self._say(f"{self._doing}: {at >> 20} of {self._size >> 20} MiB")
