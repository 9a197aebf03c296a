"""What an adapter said on a server, while it says it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from cogbuild.client.asking import STDERR, given, path_of, safe
from cogbuild.client.events import events
from cogbuild.client.http import Broke, Pauses
from cogbuild.errors.client import AnswerNotUnderstood

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from cogbuild.client.http import Server

__all__ = ["attempt", "follow"]

#: Which attempt an answer is about.
ATTEMPT = "cogbuild-attempt"


def attempt(server: Server, parts: Sequence[str], params: Mapping[str, Any]) -> tuple[str, str]:
    """Return (ID, note) of the attempt whose log is at *parts*; the log itself is not read."""
    with server.once("GET", path_of(parts), params=given(params), headers={"accept": "text/plain"}) as answer:
        if not answer.is_success:
            answer.read()
        server.checked(answer)
        found = answer.headers.get(ATTEMPT)
        note = answer.headers.get(STDERR, "")
    if not found:
        raise AnswerNotUnderstood(server=server.at.url, reason="it named no attempt")
    return found, safe(server.at.masked(unquote(note)))


def follow(server: Server, found: str, write: Callable[[str], None]) -> None:
    """Write what an attempt says from its beginning to its end, whatever the connection does."""
    pauses = Pauses(server.patience)
    at = f"/v2/logs/{quote(found, safe='')}/events"
    byte = 0
    while True:
        try:
            with server.stream(at, {"accept": "text/event-stream", "last-event-id": str(byte)}) as answer:
                for end, said in _said(server, answer.iter_bytes()):
                    pauses.worked()
                    if said is None:
                        continue
                    if "text" not in said:
                        return
                    if end > byte:
                        write(safe(server.at.masked(str(said["text"]))))
                        byte = end
        except Broke as broken:
            server.broke(pauses, broken)
        else:
            server.broke(pauses, Broke("it ended its answer early"))


def _said(server: Server, pieces: Iterable[bytes]) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Yield (byte that it ends at, what was said) of each event, None for a sign of life."""
    try:
        for sent in events(pieces):
            said = json.loads(sent.data) if sent.data is not None else None
            if said is not None and not isinstance(said, dict):
                raise AnswerNotUnderstood(server=server.at.url, reason="what it says is not an object")
            yield int(sent.id or 0), said
    except ValueError as trouble:
        raise AnswerNotUnderstood(server=server.at.url, reason=str(trouble)) from trouble
