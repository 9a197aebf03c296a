"""What a job says: messages as those of Cog's server of 2021, with more in them for those who know more."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from cogbuild.engine import Result
from cogbuild.report.wire import expect_message, message_of
from cogbuild.views.models import model_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from cogbuild.engine import Event
    from cogbuild.project import Project

__all__ = ["Telling", "as_of_2021", "is_end", "line_of", "status"]


def status(text: str) -> dict[str, Any]:
    """Return what a job says about itself."""
    return {"type": "status", "data": text}


def line_of(message: dict[str, Any]) -> bytes:
    """Return a message as the line that is kept of it."""
    return json.dumps({**message, "at": round(time.time(), 3)}, separators=(",", ":")).encode() + b"\n"


def is_end(message: dict[str, Any]) -> bool:
    """Whether a message says how its job ended."""
    return bool(message.get("event", {}).get("kind") == "end")


def as_of_2021(line: bytes) -> dict[str, Any] | None:
    """Return the message with what a client of 2021 knows; None where it is nothing to such a client."""
    message = json.loads(line)
    if message.get("event", {}).get("kind") in ("expect", "end") and message["type"] != "error":
        return None
    return {"type": message["type"], "data": message["data"], "model": message.get("model")}


class Telling:
    """Watches a run for a job: each event becomes a message, and is counted.

    *model* is the whole ID where all pairs are of one model.
    """

    def __init__(
        self,
        project: Project,
        say: Callable[[dict[str, Any]], None],
        count: Callable[[Event], None],
        model: str | None = None,
    ) -> None:
        self._project = project
        self._say = say
        self._count = count
        self._model = model

    def __call__(self, event: Event) -> None:
        """Say one event."""
        model = self._model or ""
        if not model and isinstance(event, Result):
            model = model_of(self._project, event.pair)
        self._say(message_of(event, model))
        self._count(event)

    def expect(self, pairs: int) -> None:
        """Say that so many more pairs are going to run."""
        self._say(expect_message(pairs))

    def close(self) -> None:
        """Nothing is held back."""
