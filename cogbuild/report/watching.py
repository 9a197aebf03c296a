"""Who watches a run: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol, TextIO, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cogbuild.engine import Event

__all__ = ["Watcher", "watcher"]


@runtime_checkable
class Watcher(Protocol):
    """Hears of a run's events, one at a time, from any thread."""

    def __call__(self, event: Event) -> None:
        """Show one event."""

    def expect(self, pairs: int) -> None:
        """Hear that so many more pairs are going to run."""

    def close(self) -> None:
        """Let go of the terminal: the run has ended."""


def watcher(
    out: TextIO, log: TextIO, *, alone: bool = True, environ: Mapping[str, str] | None = None
) -> Watcher:
    """Return who shows a run: results go to *out*, what adapters say to *log*.

    On a terminal that nobody else writes to (*alone*) it is a line per running pair; otherwise plain lines.
    """
    if alone and out.isatty() and (os.environ if environ is None else environ).get("TERM") != "dumb":
        from cogbuild.report.live import Live

        return Live(out, log=None if log.isatty() else log)
    from cogbuild.report.plain import Plain

    return Plain(out, log)
