"""What one client may take: bytes, time, places. Counted while a body comes, before anything makes sense of it."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from uvicorn.protocols.http.h11_impl import H11Protocol

from cogbuild.errors import CogbuildError
from cogbuild.errors.access import BodyTooLarge, ClientTooSlow, FetchNotAllowed, TooManyUploads
from cogbuild.server.grants import LOCAL
from cogbuild.server.memory import PIECE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from typing import Any

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from cogbuild.server.grants import Grant
    from cogbuild.spec import ServerSettings

__all__ = ["Limits", "Patient", "check_fetch"]

#: Requests whose body is an upload: a package of 2021, a file's content or those of several, a tree.
_UPLOAD = re.compile(
    r"PUT /v1/repos/[^/]+/[^/]+/packages/?|PUT /v2/objects/[^/]+|POST /v2/objects|POST /v2/repos/[^/]+/[^/]+/models"
)
# A body that is not silent and yet does not come: bytes a second that it has to reach, once *patience* is over.
_SLOWEST = 1024
_HEAD_SECONDS = 15.0


class Limits:
    """ASGI: ends requests that are too large, too slow or too many with an answer from *refuse*.

    A body is counted as it comes. No thread waits for a slow client, and an upload that waits for its turn is not read.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Callable[[], ServerSettings],
        refuse: Callable[[Scope, Exception], ASGIApp],
    ) -> None:
        self.app = app
        self._settings = settings
        self._refuse = refuse
        self._receiving: Counter[str] = Counter()  # by token
        self._moved = asyncio.Condition()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        settings = self._settings()
        upload = _UPLOAD.fullmatch(f"{scope['method']} {scope['path']}") is not None
        limit = settings.upload_limit if upload else settings.request_limit
        setting = "upload_limit" if upload else "request_limit"
        try:
            announced = Headers(scope=scope).get("content-length", "0")
            if announced.isascii() and announced.isdigit() and int(announced) > limit:
                raise BodyTooLarge(announced=announced, limit=limit, setting=setting)
            if not upload:
                await self.app(scope, _Counted(receive, settings, limit, setting), send)
                return
            async with self._place(settings, scope) as leave:
                await self.app(scope, _Counted(receive, settings, limit, setting, leave), send)
        except CogbuildError as error:  # before the application was asked: it answers its own
            await self._refuse(scope, error)(scope, receive, send)

    @asynccontextmanager
    async def _place(self, settings: ServerSettings, scope: Scope) -> AsyncIterator[Callable[[], None]]:
        """Hold one of the places of uploads until the body is there, which the yielded function is told, or all is over."""
        token = _token(scope)
        try:
            async with asyncio.timeout(settings.patience), self._moved:
                await self._moved.wait_for(lambda: self._has_place(token))
                self._receiving[token] += 1
        except TimeoutError:
            raise TooManyUploads(uploads=settings.uploads) from None
        held = [True]

        def leave() -> None:
            if held.pop() if held else False:
                self._receiving[token] -= 1
                self._receiving += Counter()  # those that hold none are not remembered
                wakers.append(asyncio.ensure_future(self._wake()))

        wakers: list[asyncio.Future[None]] = []
        try:
            yield leave
        finally:
            leave()
            await asyncio.gather(*wakers)

    def _has_place(self, token: str) -> bool:
        """Whether a place is free, and not kept for others: one token has half of them at most, however slow its bodies are."""
        uploads = self._settings().uploads
        most = uploads if token == LOCAL.token else max(uploads // 2, 1)
        return self._receiving.total() < uploads and self._receiving[token] < most

    async def _wake(self) -> None:
        async with self._moved:
            self._moved.notify_all()  # a place that is free is not one for each of those who wait


def _token(scope: Scope) -> str:
    """Return who asks, as the guard in front has found out."""
    grant: Grant = scope.get("state", {}).get("grant", LOCAL)
    return grant.token


class _Counted:
    """Receives a body: so many bytes, and each piece in time."""

    def __init__(
        self,
        receive: Receive,
        settings: ServerSettings,
        limit: int,
        setting: str,
        ended: Callable[[], None] | None = None,
    ) -> None:
        self._receive = receive
        self._settings = settings
        self._limit = limit
        self._setting = setting
        self._ended = ended
        self._bytes = 0
        self._began = time.monotonic()
        self._more = True

    async def __call__(self) -> Message:
        if not self._more:  # what comes now is the news that the client has gone, which may take for ever
            return await self._receive()
        try:
            async with asyncio.timeout(self._settings.patience):
                message = await self._receive()
        except TimeoutError:
            raise ClientTooSlow(after=f"{self._settings.patience:g} s of silence") from None
        self._bytes += len(message.get("body", b""))
        self._more = message["type"] == "http.request" and message.get("more_body", False)
        if self._bytes > self._limit:
            raise BodyTooLarge(limit=self._limit, setting=self._setting)
        took = time.monotonic() - self._began
        if self._more and took > self._settings.patience and self._bytes < took * _SLOWEST:
            raise ClientTooSlow(received=f"{self._bytes} bytes in {took:.0f} s")
        if not self._more and self._ended is not None:
            self._ended()
        return message


class Patient(H11Protocol):
    """uvicorn's protocol, with an end to connections on which the head of a request does not come to its end.

    And with each answer sent at once. asyncio asks for that only where a socket names its protocol, which those that
    Python makes do not: the end of an answer then waits for the other side to confirm its beginning, which takes 40 ms on
    a connection that is kept. Asked here and not of the socket that listens, because somebody may have come before.
    """

    def connection_made(self, transport: Any) -> None:
        """Begin to look now and then, and read in small pieces."""
        super().connection_made(transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # asyncio takes room for 256 kB each time, and what came stays at the beginning of it, amid the heap.
        transport.max_size = PIECE
        self._seen: object = self
        self._look_again()

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no more."""
        self._watch.cancel()
        super().connection_lost(exc)

    def _look_again(self) -> None:
        self._watch = self.loop.call_later(_HEAD_SECONDS, self._look)

    def _look(self) -> None:
        cycle: Any = self.cycle
        waiting = cycle is None or cycle.response_complete
        if waiting and self._seen is cycle:  # as at the last look: no request since
            self.transport.close()
            return
        self._seen = cycle if waiting else self
        self._look_again()


def check_fetch(uri: str, settings: ServerSettings) -> None:
    """Raise ``FetchNotAllowed`` for a URI that an adapter printed, unless its scheme and host are allowed."""
    try:
        parts = urlsplit(uri)
        origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".lower()
    except ValueError:
        origin = "?"
    if origin not in settings.fetch:
        raise FetchNotAllowed(uri=uri, origin=origin)
