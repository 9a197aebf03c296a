"""Something that the server does now and then, in a thread of its own."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from typing import TYPE_CHECKING

from cogbuild.errors import CogbuildError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TROUBLE", "Looking"]

#: What passes: a file that is being edited, a full disk, a database that another process holds. It must cost no job its
#: end, and no thread its life.
TROUBLE = (CogbuildError, OSError, sqlite3.Error)


class Looking:
    """Calls *look* at once and then every *seconds*, until it is stopped."""

    def __init__(self, name: str, look: Callable[[], None], seconds: float) -> None:
        self._look = look
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name=name, daemon=True)

    def begin(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; what is under way is waited for, though not for ever."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def _go_on(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(*TROUBLE):  # the next look may find it well
                self._look()
            self._stop.wait(self._seconds)
