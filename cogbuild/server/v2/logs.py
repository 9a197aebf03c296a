"""What was tried, and what adapters said: whole logs, and logs that grow while they are read."""

from __future__ import annotations

import asyncio
import codecs
import json
import os
import time
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from cogbuild.asked import pairs as asked_pairs
from cogbuild.database import models
from cogbuild.errors.access import NotHere
from cogbuild.report.explained import tried_json
from cogbuild.report.logs import Escaped
from cogbuild.server.access import Guarded, needs
from cogbuild.server.observing import BrokenOff
from cogbuild.server.service import Here, Service
from cogbuild.server.v2 import shapes
from cogbuild.server.wire import LIVE, STDERR, About, Json, Shown, reply, text_too
from cogbuild.views.attempts import is_running, kept_log, tried_by_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from pathlib import Path

    from starlette.types import Message, Receive, Scope, Send

    from cogbuild.database.models import EntryRow
    from cogbuild.views.attempts import Tried

__all__ = ["attempt_of", "router"]

router = APIRouter(prefix="/v2", tags=["reading"], route_class=Guarded)

#: Which attempt an answer is about, for whoever wants to follow it.
ATTEMPT = "Cogbuild-Attempt"
_PIECE = 1 << 16
_PAUSE = 0.25  # seconds between two looks at a log that grows
_PULSE = 10.0  # seconds after which who follows hears that the connection is alive
NOTHING = "no log of it is kept: the adapter said nothing, or the log was collected\n"


@router.get(
    "/attempts/{model}/{adapter}",
    responses=text_too(shapes.Attempts, "The attempts, the first first."),
    summary="List attempts",
)
@needs("read")
def attempts(request: Request, model: str, adapter: str, service: Here, about: About, on: Shown) -> Response:
    """List what was tried for a pair, as `cogbuild logs --list` does."""
    return reply(request, asked_pairs.attempts(service.project, model, adapter, about).answer, on)


@router.get(
    "/attempts/{model}/{adapter}/log",
    responses=text_too(shapes.Log, "An attempt and its log."),
    summary="Show a pair's log",
)
@needs("read")
def log_of_pair(
    model: str,
    adapter: str,
    service: Here,
    about: About,
    on: Shown,
    number: Annotated[
        int | None, Query(ge=-(2**31), le=2**31, description="The N-th attempt; -1 is the last.")
    ] = None,
    raw: Annotated[bool, Query(description="Of text: control characters as they are.")] = False,
) -> Response:
    """Show what an adapter said, as `cogbuild logs` does: while it runs or where it failed the last attempt, else the one that
    made what is there.
    """
    from urllib.parse import quote

    found = asked_pairs.attempts(service.project, model, adapter, about)
    chosen = found.chosen(number)
    if on is None:
        if chosen.log is None:
            return Json({**tried_json(chosen), "text": _text(found.kept(chosen))})
        return StreamingResponse(
            _in_json(tried_json(chosen), _pieces(chosen.log)), media_type="application/json"
        )
    note = found.note(chosen) + "\n"
    if chosen.log is not None:
        pieces = _pieces(chosen.log)
    elif kept := _kept(service, found.entry, adapter, chosen):
        pieces = iter([kept])
    else:
        pieces, note = iter(()), note + NOTHING
    return StreamingResponse(
        pieces if raw else _escaped(pieces),
        media_type="text/plain; charset=utf-8",
        headers={STDERR: quote(note), ATTEMPT: chosen.id},
    )


def _text(text: str | None) -> str | None:
    """Return text that is valid JSON in UTF-8."""
    return text.encode("utf-8", "replace").decode() if text is not None else None


def _kept(service: Service, entry: EntryRow, adapter: str, tried: Tried) -> bytes:
    """Return what is kept of the log of an attempt that has none of its own."""
    return (kept_log(service.project, entry, adapter, tried.id) or "").encode("utf-8", "surrogateescape")


def _pieces(log: Path) -> Iterator[bytes]:
    """Yield a log as long as it is now. It is opened for each piece: who goes away leaves nothing open."""
    size = log.stat().st_size

    def pieces() -> Iterator[bytes]:
        at = 0
        while at < size:
            try:
                piece = _bytes_at(log, at, min(_PIECE, size - at))
            except FileNotFoundError as trouble:
                raise BrokenOff("the log was collected") from trouble
            if not piece:
                raise BrokenOff("the log is shorter than it was")
            at += len(piece)
            yield piece

    return pieces()


def _escaped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    escaped = Escaped()
    for piece in pieces:
        yield escaped(piece).encode("utf-8", "replace")
    yield escaped(b"", last=True).encode("utf-8", "replace")


def _in_json(tried: dict[str, Any], pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield an attempt as JSON, its log as ``text``."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    yield bytes(Json(tried).body)[:-1] + b',"text":"'
    for piece in pieces:
        yield _quoted(decoder.decode(piece))
    yield _quoted(decoder.decode(b"", final=True)) + b'"}'


def _quoted(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False)[1:-1].encode()


# -- by the name of an attempt ----------------------------------------------------------------------------------------


def attempt_of(service: Service, request: Request, attempt: str) -> tuple[Tried, EntryRow, str]:
    """Return an attempt that the request may read, with its entry and adapter. Raises ``NotHere``."""
    found = tried_by_id(service.project, attempt)
    entry = models.find(service.project.con, found[1]) if found is not None else None
    if found is None or entry is None or not request.state.grant.may("read", entry.repo):
        raise NotHere(what=f"attempt {attempt}")
    return found[0], entry, found[2]


class _AsItWas(FileResponse):
    """A file as long as it was when its length was told: one that grows meanwhile would break its answer off."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        left = 0

        async def cut(message: Message) -> None:
            nonlocal left
            if message["type"] == "http.response.start":
                left = int(dict(message["headers"])[b"content-length"])
            elif message["type"] == "http.response.body":
                message["body"] = message["body"][:left]
                left -= len(message["body"])
            await send(message)

        await super().__call__(scope, receive, cut)


@router.get(
    "/logs/{attempt}",
    response_class=Response,
    responses={
        200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
    },
    summary="Download a log",
)
@needs("read")
def log(request: Request, attempt: str, service: Here) -> Response:
    """Return the bytes that an adapter wrote, as far as there are any by now; ranges are served."""
    tried, entry, adapter = attempt_of(service, request, attempt)
    headers = {
        "Content-Disposition": f'attachment; filename="{tried.id}.log"',
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",  # it may grow
    }
    if tried.log is not None:
        return _AsItWas(tried.log, media_type="application/octet-stream", headers=headers)
    return Response(
        _kept(service, entry, adapter, tried), media_type="application/octet-stream", headers=headers
    )


@router.get(
    "/logs/{attempt}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
    summary="Follow a log",
)
@needs("read")
def events(
    request: Request,
    attempt: str,
    service: Here,
    last_event_id: Annotated[
        int | None, Header(ge=0, le=2**62, description="The byte to go on from.")
    ] = None,
    start: Annotated[int, Query(alias="from", ge=0, le=2**62, description="The byte to begin at.")] = 0,
) -> Response:
    """Follow a log as server-sent events until the attempt has ended.

    An event's `id` is the number of bytes up to its end, so `Last-Event-ID` takes up where a connection broke. Its data is JSON:
    `{"text": …}` with control characters escaped; at the end, as `event: end`, how the attempt ended.
    """
    tried, entry, adapter = attempt_of(service, request, attempt)
    at = last_event_id if last_event_id is not None else start
    return StreamingResponse(
        _followed(service, tried, entry, adapter, at),
        media_type="text/event-stream",
        headers=LIVE,
    )


async def _followed(
    service: Service, tried: Tried, entry: EntryRow, adapter: str, at: int
) -> AsyncIterator[bytes]:
    log, heard = service.project.log(tried.id), time.monotonic()
    if tried.seconds is not None and tried.log is None:
        data = await run_in_threadpool(_kept, service, entry, adapter, tried)
        if len(data) > at:
            yield _event(data[at:], len(data))
    goes_on = True
    while goes_on and not service.jobs.stopping:
        # Asked before the rest is read: what was written until the end is then read after it.
        goes_on = await run_in_threadpool(is_running, service.project, tried)
        while data := await run_in_threadpool(_more, log, at, last=not goes_on):
            at += len(data)
            heard = time.monotonic()
            yield _event(data, at)
        if goes_on:
            if time.monotonic() - heard > _PULSE:
                heard = time.monotonic()
                yield b":\n\n"
            await asyncio.sleep(_PAUSE)
    if not goes_on:
        yield (
            b"event: end\ndata: "
            + json.dumps(await run_in_threadpool(_end, service, tried)).encode()
            + b"\n\n"
        )


def _event(data: bytes, end: int) -> bytes:
    said = {"text": Escaped()(data, last=True)}
    return b"id: %d\ndata: %s\n\n" % (end, json.dumps(said).encode())


def _more(log: Path, at: int, *, last: bool) -> bytes:
    """Return what comes after *at*, whole lines where there are any, and never a part of a letter but at the end."""
    try:
        data = _bytes_at(log, at, _PIECE)
    except FileNotFoundError:
        return b""
    if last and len(data) < _PIECE:
        return data
    if end := data.rfind(b"\n") + 1:
        return data[:end]
    return data[: len(data) - _half_letter(data)]


def _bytes_at(log: Path, at: int, most: int) -> bytes:
    fd = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(fd, most, at)
    finally:
        os.close(fd)


def _half_letter(data: bytes) -> int:
    """Return how many bytes at the end are the beginning of a letter in UTF-8."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 != 0x80:
            length = 2 if byte >> 5 == 6 else 3 if byte >> 4 == 14 else 4 if byte >> 3 == 30 else 1
            return back if length > back else 0
    return 0


def _end(service: Service, tried: Tried) -> dict[str, Any]:
    found = tried_by_id(service.project, tried.id)
    ended = found[0] if found is not None else tried
    return {"status": ended.status, "seconds": ended.seconds, "detail": ended.detail}
