"""Logging in with a token, and what pages bring along: what is answered before anybody is known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import FileResponse, RedirectResponse

from cogbuild.errors.access import AccessDenied, NotHere
from cogbuild.server.access import COOKIE, Guarded, needs
from cogbuild.server.grants import authenticate
from cogbuild.server.pages.rendering import HEADERS, STATIC, checked_form, render, static_digest
from cogbuild.server.service import Here

__all__ = ["login_path", "open_router", "own_path", "router"]

open_router = APIRouter(include_in_schema=False)
router = APIRouter(include_in_schema=False, route_class=Guarded)

_STATIC_HEADERS = {name: value for name, value in HEADERS.items() if name != "Cache-Control"}
_LONG = "public, max-age=31536000, immutable"


def login_path(after: str) -> str:
    """Return where to log in, and go on to *after*."""
    return f"/login?next={quote(after, safe='')}"


def own_path(path: str) -> str:
    """Return a path of this server; what may lead elsewhere leads to the front page."""
    return path if path.startswith("/") and path[1:2] not in ("/", "\\") and path.isprintable() else "/"


@open_router.get("/static/{name}")
def static(name: str, v: Annotated[str, Query()] = "") -> Response:
    """Return one of the files that pages bring along."""
    if name not in STATIC:
        raise NotHere(what=f"file {name}")
    cached = _LONG if v == static_digest(name) else "no-cache"
    return FileResponse(
        Path(__file__).parent / "static" / name,
        media_type=STATIC[name],
        headers={**_STATIC_HEADERS, "Cache-Control": cached},
    )


@open_router.get("/login")
def login_page(request: Request, after: Annotated[str, Query(alias="next")] = "/") -> Response:
    """Ask for a token."""
    return render(request, "login.html", next=own_path(after), problem=None)


@open_router.post("/login")
def login(
    request: Request,
    service: Here,
    token: Annotated[str, Form(max_length=200)] = "",
    after: Annotated[str, Form(alias="next", max_length=2000)] = "/",
) -> Response:
    """Keep the token in a cookie that no script reads and no other site sends."""
    try:
        authenticate(service.project, token.strip())
    except AccessDenied as error:
        return render(request, "login.html", status=401, next=own_path(after), problem=error.title)
    answer = RedirectResponse(own_path(after), 303)
    secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, token.strip(), path="/", httponly=True, samesite="strict", secure=secure)
    return answer


@router.post("/logout")
@needs("read")
async def logout(request: Request) -> Response:
    """Forget the token."""
    await checked_form(request)
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return answer
