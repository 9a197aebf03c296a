"""What a client asks first: is a Cog server here, and which interface does it speak."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.datastructures import MutableHeaders

from cogbuild import __version__

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["API", "Versioned", "open_router"]

#: The version of the interface below ``/v2``; clients that know another one refuse to guess.
API = 2

#: Whoever is let in at all may ask.
open_router = APIRouter(tags=["server"])


@open_router.get("/v2", summary="Which server is this?")
async def root() -> dict[str, Any]:
    """Return the versions of cogbuild and of the interface."""
    return {"cogbuild": __version__, "api": API}


class Versioned:
    """ASGI: every answer says that it is a Cog server's, and of which interface, so that a client can tell it from a
    proxy's and needs to ask nothing first.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["cogbuild-version"] = __version__
                headers["cogbuild-api"] = str(API)
            await send(message)

        await self.app(scope, receive, named if scope["type"] == "http" else send)
