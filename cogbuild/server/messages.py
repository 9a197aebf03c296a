"""What a job says, as the messages of Cog's server of 2021: a kind, a text, at the end the model."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from cogbuild.engine import Line, Note, Started, Status
from cogbuild.errors import CogbuildError, printable
from cogbuild.report.plain import result_lines
from cogbuild.report.words import reason_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cogbuild.engine import Event

__all__ = ["Telling", "as_of_2021", "error_message", "line_of", "status"]


def status(text: str) -> dict[str, Any]:
    """Return what a job says about itself."""
    return {"type": "status", "data": text}


def line_of(message: dict[str, Any]) -> bytes:
    """Return a message as the line that is kept of it."""
    return json.dumps({**message, "at": round(time.time(), 3)}, separators=(",", ":")).encode() + b"\n"


def as_of_2021(line: bytes) -> bytes:
    """Return the line with what a client of 2021 knows."""
    message = json.loads(line)
    known = {"type": message["type"], "data": message.get("data", ""), "model": message.get("model")}
    return json.dumps(known, separators=(",", ":")).encode() + b"\n"


class Telling:
    """Watches a run for a job: each event becomes a message."""

    def __init__(self, say: Callable[[dict[str, Any]], None]) -> None:
        self._say = say

    def __call__(self, event: Event) -> None:
        """Say one event."""
        for message in _messages(event):
            self._say(message)

    def expect(self, pairs: int) -> None:
        """Say nothing: how many pairs there are is shown by who counts them."""

    def close(self) -> None:
        """Nothing is held back."""


def _messages(event: Event) -> Iterator[dict[str, Any]]:
    if isinstance(event, Line):
        yield {"type": "log_line", "data": printable(event.text), "pair": event.pair}
    elif isinstance(event, Note):
        yield {"type": "debug_line", "data": f"{event.pair}: {event.text}", "pair": event.pair}
    elif isinstance(event, Started):
        yield {"type": "status", "data": f"{event.pair}: {reason_text(event.reasons)}", "pair": event.pair}
    elif event.status is not Status.FRESH:
        yield {"type": "status", "data": "\n".join(result_lines(event)), "pair": event.pair}


def error_message(error: CogbuildError) -> dict[str, Any]:
    """Return what went wrong as a message."""
    return {"type": "error", "data": str(error), "error": error.to_json()}
