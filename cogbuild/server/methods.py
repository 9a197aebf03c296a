"""Methods that routes leave out: what a HEAD is answered, and which ones a path knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Match

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Headed", "allowed"]

_METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")


class Headed:
    """ASGI: a HEAD gets the head that its GET would get. FastAPI's routes know the methods alone that they name."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def head_alone(message: Message) -> None:
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            raise _Over  # nothing of a body is made, which may be long, or a job that is followed

        got = {**scope, "method": "GET"}
        try:
            await self.app(got, receive, head_alone)
        except _Over:
            pass
        finally:
            scope["route"] = got.get("route")  # for who counts requests


class _Over(Exception):
    """The head was sent."""


def allowed(routes: Sequence[BaseRoute], path: str) -> list[str]:
    """Return the methods that a path knows, of all its routes."""
    found = [
        method
        for method in _METHODS
        for scope in [{"type": "http", "method": method, "path": path, "root_path": "", "headers": []}]
        if any(route.matches(scope)[0] is Match.FULL for route in routes)
    ]
    return sorted([*found, "HEAD"] if "GET" in found else found)
