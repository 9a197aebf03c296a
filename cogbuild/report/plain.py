"""A run as plain lines: results on stdout, what adapters say on stderr, each line prefixed by its pair."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from cogbuild.engine import Line, Note, Started, Status
from cogbuild.errors import printable
from cogbuild.report.words import reason_text, span

if TYPE_CHECKING:
    from cogbuild.engine import Event, Result

__all__ = ["Plain", "result_lines"]


class Plain:
    """Writes events as they come. Without *out* the results are somebody else's to tell."""

    def __init__(self, out: TextIO | None, log: TextIO) -> None:
        self.out = out
        self.log = log
        self._begun: set[str] = set()

    def __call__(self, event: Event) -> None:
        """Write one event."""
        if isinstance(event, Line):
            self._say(self.log, f"{event.pair} | {printable(event.text)}")
        elif isinstance(event, Note):
            self._begun.add(event.pair)
            self._say(self.log, f"{event.pair}: {printable(event.text)}")
        elif isinstance(event, Started):
            self._begun.add(event.pair)
            self._say(self.log, f"{event.pair}: {reason_text(event.reasons)}")
        else:
            begun = event.pair in self._begun
            self._begun.discard(event.pair)
            if self.out is not None:
                for line in result_lines(event, begun=begun):
                    self._say(self.out, line)

    def _say(self, stream: TextIO, line: str) -> None:
        stream.write(line + "\n")
        stream.flush()

    def expect(self, pairs: int) -> None:
        """Plain lines show no total before the end."""

    def close(self) -> None:
        """Nothing is held back."""


def result_lines(result: Result, *, begun: bool = True) -> list[str]:
    """Return how a pair ended: status, pair, and the artifacts' URIs or the reason.

    What was cancelled before it was *begun* is left to the total: there may be thousands.
    """
    head = f"{result.status:<8} {result.pair}"
    if result.status is Status.FRESH:
        return []
    if result.status in (Status.NOT_APPLICABLE, Status.BLOCKED):
        return [f"{head}: {printable(result.reason or '')}"]
    if result.status is Status.FAILED:
        return [f"{head}: {result.error.title if result.error else ''}"]
    if result.status is Status.CANCELLED:
        return [head] if begun else []
    spent = f"{span(result.saved)} saved" if result.status is Status.RESTORED else span(result.seconds)
    names = [artifact.name for artifact in result.artifacts]
    return [f"{head}  {spent}"] + [
        f"  {name + ': ' if name else ''}{printable(uri)}"
        for name, uri in zip(names, result.uris, strict=True)
    ]
