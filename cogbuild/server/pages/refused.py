"""A request of a browser that is refused gets a page, and who is not known yet the form to log in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import RedirectResponse

from cogbuild.server.pages.rendering import render
from cogbuild.server.pages.session import login_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.responses import Response
    from starlette.types import Scope

__all__ = ["refused_page", "wants_page"]


def wants_page(scope: Scope) -> bool:
    """Whether a browser shows the answer to a person."""
    if scope["path"].startswith(("/v1/", "/v2", "/metrics", "/openapi", "/static/")):
        return False
    accept = next((value for name, value in scope["headers"] if name == b"accept"), b"")
    return b"text/html" in accept


def refused_page(
    scope: Scope, status: int, title: str, rows: Sequence[tuple[str, str]] = (), hint: str | None = None
) -> Response:
    """Return what a person sees of a refusal."""
    request = Request(scope)
    if status == 401 and scope["method"] in ("GET", "HEAD"):
        query = scope["query_string"].decode("latin-1")
        return RedirectResponse(login_path(scope["path"] + (f"?{query}" if query else "")), 303)
    return render(request, "error.html", status=status, code=status, title=title, rows=rows, hint=hint)
