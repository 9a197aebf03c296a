"""The judgement in front of every request: who asks, and may they, before a byte of a body is read.

On the machine's own addresses, and as long as there is no token at all, everything is granted.
"""

from __future__ import annotations

import base64
import ipaddress
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers

from cogbuild.database import tokens
from cogbuild.errors import CogbuildError
from cogbuild.errors.access import AccessDenied, CrossSite, HostNotOurs, NotAllowed
from cogbuild.server.grants import LOCAL, Grant, authenticate
from cogbuild.server.observing import BrokenOff

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeVar

    from fastapi import Request, Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from cogbuild.project import Project

    F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["COOKIE", "Guard", "Guarded", "challenges", "is_loopback", "needs"]

COOKIE = "cogbuild_token"

#: Seconds of an answer after which its token is looked at again.
_AGAIN = 10.0
_READING = ("GET", "HEAD", "OPTIONS")


def is_loopback(host: str) -> bool:
    """Whether *host*, a name or an address, is this machine's own and nobody else's."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


# -- in front of everything -------------------------------------------------------------------------------------------


class Guard:
    """ASGI: finds out who asks, and puts the ``Grant`` into the request's state as ``grant``.

    *always*: tokens are asked for even while there is none. *open_paths* are answered to anybody. What it refuses goes to
    *refuse*, which answers; no byte of a body has been read then.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        project: Project,
        always: bool,
        refuse: Callable[[Scope, Exception], ASGIApp],
        open_paths: tuple[str, ...] = ("/ping", "/login", "/static/"),
    ) -> None:
        self.app = app
        self._project = project
        self._always = always
        self._refuse = refuse
        self._open = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            grant = await run_in_threadpool(self._granted, scope["method"], scope["path"], headers)
        except CogbuildError as error:
            await self._refuse(scope, error)(scope, receive, send)
            return
        scope.setdefault("state", {})["grant"] = grant
        by_token = grant is not None and grant is not LOCAL
        await self.app(scope, receive, self._while_granted(send, headers) if by_token else send)

    def _while_granted(self, send: Send, headers: Mapping[str, str]) -> Send:
        """Break an answer off that goes on after its token was taken back or expired."""
        looked = time.monotonic()

        async def judged(message: Message) -> None:
            nonlocal looked
            if message["type"] == "http.response.body" and time.monotonic() - looked > _AGAIN:
                looked = time.monotonic()
                try:
                    await run_in_threadpool(authenticate, self._project, _sent(headers))
                except AccessDenied as error:
                    raise BrokenOff(error.title) from error
            await send(message)

        return judged

    def _granted(self, method: str, path: str, headers: Mapping[str, str]) -> Grant | None:
        _own_site(method, headers)
        if any(path == item or (item.endswith("/") and path.startswith(item)) for item in self._open):
            return None
        asked = self._always or (self._project.exists and tokens.any_at_all(self._project.con))
        if not asked:
            # A page elsewhere may point a name of its own at 127.0.0.1 and would then be of the same origin.
            if not is_loopback(_host(headers.get("host", ""))):
                raise HostNotOurs(host=headers.get("host"))
            return LOCAL
        return authenticate(self._project, _sent(headers))


def _own_site(method: str, headers: Mapping[str, str]) -> None:
    """Raise ``CrossSite`` where a browser says that a page from elsewhere wants to change something here."""
    if method in _READING:
        return
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site not in (None, "same-origin", "none"):
        raise CrossSite(site=site)
    if origin is not None and _site(origin) != headers.get("host", "").lower():
        raise CrossSite(origin=origin)


def _site(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _host(header: str) -> str:
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def challenges(headers: Mapping[str, str]) -> list[str]:
    """Return how who is not known may say who they are. Not by a password to a browser: it would ask by itself, and go on
    sending what it was told when its page has long logged out.
    """
    browser = any(kind in headers.get("accept", "") for kind in ("text/html", "text/event-stream"))
    realms = ["Bearer"] if browser else ["Bearer", "Basic"]
    return [f'{scheme} realm="cogbuild"' for scheme in realms]


def _sent(headers: Mapping[str, str]) -> str | None:
    """Return the token that came along: a bearer's, a password's (``curl -u token:…``), or a cookie's."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    value = value.strip()
    if kind.lower() == "bearer":
        return value
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except ValueError:  # no Base64, or what no text can be
            return ""
    for pair in headers.get("cookie", "").split(";"):
        name, _, value = pair.strip().partition("=")
        if name == COOKIE:
            return value
    return None


# -- at an endpoint ---------------------------------------------------------------------------------------------------


def needs(*actions: str, everywhere: bool = False) -> Callable[[F], F]:
    """Say which action an endpoint needs, one of several will do: in the repo that its path names as ``{user}/{name}``,
    else *everywhere*.

    An endpoint whose path names no repo and that does not need it everywhere judges what it finds by itself, with the
    request's grant; so it is marked too, and an endpoint without a mark does not come to be.
    """

    def marked(endpoint: F) -> F:
        endpoint.__needs__ = (actions, everywhere)  # type: ignore[attr-defined]
        return endpoint

    return marked


class Guarded(APIRoute):
    """A route that judges the grant before the body is read; every endpoint has to say what it ``needs``."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **more: Any) -> None:
        if not hasattr(endpoint, "__needs__"):
            raise TypeError(f"{endpoint.__qualname__} does not say what it needs")
        super().__init__(path, endpoint, **more)

    def get_route_handler(self) -> Callable[[Request], Any]:
        """Return FastAPI's own handler behind the judgement."""
        handle = super().get_route_handler()
        actions, everywhere = self.endpoint.__needs__  # type: ignore[attr-defined]

        async def judged(request: Request) -> Response:
            grant: Grant = request.state.grant
            action = next((item for item in actions if item in grant.can), actions[0])
            user, name = request.path_params.get("user"), request.path_params.get("name")
            if user is not None and name is not None:
                grant.require(action, f"{user}/{name}")
            elif everywhere:
                grant.require_everywhere(action)
            elif action not in grant.can:
                raise NotAllowed(action=action, repo=grant.repos)
            response: Response = await handle(request)
            return response

        return judged
