"""A run as plain lines: results on stdout, what adapters say on stderr, each line prefixed by its pair."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from cogbuild.engine import Line, Note, Result, Started, Status
from cogbuild.engine.ending import span
from cogbuild.errors import printable
from cogbuild.report.words import reason_text

if TYPE_CHECKING:
    from cogbuild.engine import Event

__all__ = ["Plain", "result_lines"]


class Plain:
    """Writes events as they come."""

    def __init__(self, out: TextIO, log: TextIO) -> None:
        self.out = out
        self.log = log

    def __call__(self, event: Event) -> None:
        """Write one event."""
        if isinstance(event, Line):
            self._say(self.log, f"{event.pair} | {printable(event.text)}")
        elif isinstance(event, Note):
            self._say(self.log, f"{event.pair}: {event.text}")
        elif isinstance(event, Started):
            self._say(self.log, f"{event.pair}: {reason_text(event.reasons)}")
        else:
            for line in result_lines(event):
                self._say(self.out, line)

    def _say(self, stream: TextIO, line: str) -> None:
        stream.write(line + "\n")
        stream.flush()

    def close(self) -> None:
        """Nothing is held back."""


def result_lines(result: Result) -> list[str]:
    """Return how a pair ended: status, pair, and the artifact's URI or the reason."""
    head = f"{result.status:<8} {result.pair}"
    if result.status is Status.FRESH:
        return []
    if result.status is Status.NOT_APPLICABLE:
        return [f"not applicable {result.pair}: {result.reason}"]
    if result.status is Status.BLOCKED:
        return [f"{head}: {result.reason}"]
    if result.status is Status.FAILED:
        return [f"{head}: {result.error.title if result.error else ''}"]
    if result.status is Status.CANCELLED:
        return [head]
    spent = f"{result.saved:.1f} s saved" if result.status is Status.RESTORED else span(result.seconds)
    lines = [f"{head}  {spent}"]
    names = [artifact.name for artifact in result.artifacts]
    lines += [f"  {name + ': ' if name else ''}{printable(uri)}" for name, uri in zip(names, result.uris, strict=True)]
    return lines
