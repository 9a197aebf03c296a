"""A Cog server of 2021: it takes a zip and answers with what happens, a message a line, once."""

from __future__ import annotations

import json
import secrets
from itertools import chain
from typing import TYPE_CHECKING, Any

from cogbuild.client.pack import zipped
from cogbuild.errors.client import AnswerNotUnderstood, ServerFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cogbuild.client.http import Server
    from cogbuild.client.jobs import Heard
    from cogbuild.client.pack import Model
    from cogbuild.client.sending import Progress

__all__ = ["build"]

_LONGEST = 16 << 20  # bytes of a message


def build(server: Server, model: Model, repo: str, heard: Heard, progress: Progress) -> None:
    """Send *model* as a zip and hear what becomes of it. Raises ``ServerFailed`` where it came to nothing.

    Nothing is sent twice here: such a server can't be told that it is the same upload again.
    """
    boundary = secrets.token_hex(16)
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="model.zip"\r\n'
        "Content-Type: application/zip\r\n\r\n"
    )
    progress.begin(len(model.tree.entries), model.tree.size, 0)
    body = chain([head.encode()], _counted(zipped(model), progress), [f"\r\n--{boundary}--\r\n".encode()])
    headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
    path = f"/v1/repos/{repo}/packages/"
    try:
        with server.once("PUT", path, content=body, headers=headers) as answer:
            progress.close()
            if not answer.is_success:
                answer.read()
                server.checked(answer)
            for message in _messages(server, answer.iter_bytes()):
                if message.get("type") == "error":
                    raise ServerFailed(
                        server=server.at.url, it_said=server.at.masked(str(message.get("data")))
                    )
                heard(message)
    finally:
        progress.close()
    if heard.model is None:
        raise AnswerNotUnderstood(server=server.at.url, reason="it ended without a word on the model")


def _counted(pieces: Iterable[bytes], progress: Progress) -> Iterator[bytes]:
    for piece in pieces:
        if piece:
            yield piece
            progress.sent(len(piece))


def _messages(server: Server, pieces: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    held = b""
    for piece in pieces:
        *lines, held = (held + piece).split(b"\n")
        if len(held) > _LONGEST:
            raise AnswerNotUnderstood(server=server.at.url, reason="a message is too long")
        yield from (_message(server, line) for line in lines if line.strip())
    if held.strip():
        yield _message(server, held)


def _message(server: Server, line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    if not isinstance(message, dict):
        raise AnswerNotUnderstood(server=server.at.url, reason="what it says is not a message")
    return message
