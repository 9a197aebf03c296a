"""A job of a server, followed to its end: what it says is shown as if it ran here, whatever the connection does."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from cogbuild.client.events import events
from cogbuild.client.http import Broke, Pauses
from cogbuild.engine import Result
from cogbuild.errors import printable
from cogbuild.errors.client import AnswerNotUnderstood
from cogbuild.report.wire import event_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cogbuild.client.http import Server
    from cogbuild.report.watching import Watcher

__all__ = ["Heard", "Speaker", "begin", "begun", "cancel", "follow"]

ENDED = ("done", "failed", "cancelled")
#: Of a job whose last message did not come.
UNHEARD = "what the job said at its end could not be heard"


class Speaker(Protocol):
    """Who shows a run and says a line beside it."""

    @property
    def watch(self) -> Watcher:
        """Who shows the run."""

    def say(self, line: str) -> None:
        """Show a line."""


@dataclass
class Heard:
    """What a job has said so far; shown by *speaker* as it comes."""

    speaker: Speaker
    number: int = 0  # of the last message
    results: list[dict[str, Any]] = field(default_factory=list)
    model: dict[str, Any] | None = None
    end: dict[str, Any] | None = None
    said: set[str] = field(default_factory=set)  # errors that were shown

    def __call__(self, message: dict[str, Any]) -> None:
        """Show one message and keep what the end needs of it."""
        about = message.get("event")
        about = about if isinstance(about, dict) else {}
        event = event_of(message)
        if event is not None:
            self.speaker.watch(event)
            if isinstance(event, Result):
                self.results.append(
                    {name: about[name] for name in about if name not in ("kind", "saved", "text")}
                )
        elif about.get("kind") == "expect":
            self.speaker.watch.expect(int(about.get("pairs") or 0))
        elif about.get("kind") == "end":
            self.end = about
        elif message.get("type") == "model":
            self.model = message["model"] if isinstance(message.get("model"), dict) else None
        elif text := str(message.get("data") or ""):
            self._line(str(message.get("type")), text)

    def _line(self, kind: str, text: str) -> None:
        if kind == "error":
            self.said.add(text)
        self.speaker.say("\n".join(printable(line) for line in text.split("\n")))


def begin(server: Server, at: str, asked: dict[str, Any]) -> str:
    """Have the server begin a job, once however often the connection breaks; return its ID."""
    headers = {"idempotency-key": secrets.token_hex(16)}
    return begun(server, server.ask_json("POST", at, json=asked, headers=headers))


def begun(server: Server, said: dict[str, Any]) -> str:
    """Return the ID of the job that an answer names: it is shown and pasted, so it has to be a plain word."""
    job = said.get("job")
    if not isinstance(job, str) or not (job.isascii() and job.isalnum()):
        raise AnswerNotUnderstood(server=server.at.url, reason="it named no job")
    return job


def follow(server: Server, job: str, heard: Heard, *, goes_on: str) -> dict[str, Any]:
    """Hear a job until it has ended, from the message on that *heard* came to; return how it ended.

    *goes_on* is the command that takes it up, for when the server does not come back.
    """
    pauses = Pauses(server.patience)
    ended: dict[str, Any] | None = (
        None  # the job, as the server knows it, while not all is heard that it said
    )
    while True:
        before = heard.number
        try:
            _hear(server, job, heard, pauses.worked)
        except Broke as broken:
            server.broke(pauses, broken, goes_on)
            continue
        if heard.end is not None:
            return heard.end
        if ended is None:
            # The stream ended before the job: the server stops, or something between here and there has cut it.
            said = server.ask_json("GET", _at(job), goes_on=goes_on)
            if said.get("state") in ENDED:
                ended = said
            else:
                server.broke(pauses, Broke("it ended its answer early"), goes_on)
        elif heard.number == before:
            heard.speaker.say(f"note: {UNHEARD}")
            return _end_of(ended)


def _end_of(said: dict[str, Any]) -> dict[str, Any]:
    """Return how a job ended that did not say it itself."""
    code = said.get("exit_code")
    failed = said["state"] != "done"
    return {
        "state": said["state"],
        "exit_code": code if code and isinstance(code, int) else int(failed),
        "notes": [UNHEARD],
    }


def _hear(server: Server, job: str, heard: Heard, worked: Callable[[], None]) -> None:
    headers = {"accept": "text/event-stream", "last-event-id": str(heard.number)}
    with server.stream(_at(job) + "/events", headers) as answer:
        for number, message in _messages(server, answer.iter_bytes()):
            worked()
            if message is None or number <= heard.number:
                continue
            heard(message)
            heard.number = number
            if heard.end is not None:
                return


def _messages(server: Server, pieces: Iterable[bytes]) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Yield (number, message) of each event, None for a sign of life."""
    try:
        for sent in events(pieces):
            message = json.loads(server.at.masked(sent.data)) if sent.data is not None else None
            if message is not None and not isinstance(message, dict):
                raise AnswerNotUnderstood(server=server.at.url, reason="a message is not an object")
            if message is not None and message.get("type") == "error":
                message = _named(server, message)
            yield int(sent.id or 0), message
    except ValueError as trouble:
        raise AnswerNotUnderstood(server=server.at.url, reason=str(trouble)) from trouble


def _named(server: Server, said: Any) -> Any:
    """Return a message about an error with the server's address in the commands that it names."""
    if isinstance(said, str):
        return server.at.named(said)
    if isinstance(said, dict):
        return {name: _named(server, value) for name, value in said.items()}
    return [_named(server, value) for value in said] if isinstance(said, list) else said


def _at(job: str) -> str:
    return f"/v2/jobs/{quote(job, safe='')}"


def cancel(server: Server, job: str, *, goes_on: str) -> None:
    """Ask the server to end a job; one that has ended meanwhile is as good."""
    answer = server.ask("DELETE", _at(job), goes_on=goes_on, check=False)
    if answer.status_code != 409:
        server.checked(answer)
