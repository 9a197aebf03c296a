"""The application: routers, errors as answers, and serving it."""

from __future__ import annotations

import contextlib
import socket
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from cogbuild import __version__
from cogbuild.errors import CogbuildError, printable
from cogbuild.server.access import Guard, challenges
from cogbuild.server.answers import REFUSALS, answer, status_of
from cogbuild.server.described import Described
from cogbuild.server.limits import Limits, Patient
from cogbuild.server.memory import lean
from cogbuild.server.methods import Headed, allowed
from cogbuild.server.observing import Observed, lines_on
from cogbuild.server.pages.refused import refused_page, wants_page
from cogbuild.server.v2.root import Versioned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI
    from starlette.responses import Response
    from starlette.types import ASGIApp, Scope

    from cogbuild.server.service import Service

__all__ = ["create_app", "serve"]

#: Modules with a ``router``.
ROUTERS = (
    "v1",
    "v2.root",
    "v2.jobs",
    "v2.uploads",
    "v2.adapt",
    "v2.reading",
    "v2.logs",
    "v2.changes",
    "v2.contents",
    "metrics",
)
#: And of pages for people.
PAGES = ("session", "matrix", "pair", "jobs")
#: Seconds that requests have to end when the server is to stop; jobs have as many after that.
GRACE = 10


def create_app(service: Service, *, tokens: bool = False) -> FastAPI:
    """Return the application over *service*; it begins and stops with the application.

    *tokens*: it asks for tokens also while there are none.
    """

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(service.begin)
        try:
            yield
        finally:
            await run_in_threadpool(service.stop)

    app = Described(
        open_paths=("/ping",),
        title="cogbuild",
        version=__version__,
        summary="Every Cog model built for every target, once",
        lifespan=life,
        docs_url=None,  # these pages fetch scripts from elsewhere
        redoc_url=None,
        responses=REFUSALS,
    )
    app.state.service = service
    for name in (*ROUTERS, *(f"pages.{page}" for page in PAGES)):
        module = import_module(f"cogbuild.server.{name}")
        for kind in ("router", "open_router"):
            if hasattr(module, kind):
                app.include_router(getattr(module, kind))
    app.add_middleware(Headed)
    app.add_middleware(Limits, settings=lambda: service.project.settings.server, refuse=_refuses)
    app.add_middleware(Guard, project=service.project, always=tokens, refuse=_refuses)
    app.add_middleware(Versioned)
    app.add_middleware(Observed, numbers=service.numbers)
    app.add_exception_handler(CogbuildError, _refused)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _bug)
    return app


def _refuses(scope: Scope, error: Exception) -> ASGIApp:
    assert isinstance(error, CogbuildError)
    return _told(scope, error)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, CogbuildError)
    return _told(request.scope, error)


def _told(scope: Scope, error: CogbuildError) -> Response:
    """Return an error as what the client reads: JSON, or a page."""
    if wants_page(scope):
        return refused_page(scope, status_of(error), error.title, error.rows(), error.advice)
    told = answer(error)
    if told.status_code == 401:
        for challenge in challenges(Headers(scope=scope)):
            told.headers.append("WWW-Authenticate", challenge)
    return told


def _not_valid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = [printable(f"{'.'.join(map(str, item['loc']))}: {item['msg']}") for item in error.errors()]
    return _plain(request, 422, "the request is not as its description says", problems)


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told = _plain(request, error.status_code, str(error.detail).lower(), [])
    told.headers.update(error.headers or {})
    if (
        error.status_code == 405
    ):  # the exception knows the one route that was asked, and a path may have several
        told.headers["Allow"] = ", ".join(allowed(request.app.routes, request.scope["path"]))
    return told


def _plain(request: Request, status: int, headline: str, problems: list[str]) -> Response:
    if wants_page(request.scope):
        return refused_page(request.scope, status, headline, [("problem", problem) for problem in problems])
    facts: dict[str, Any] = {"problems": "\n".join(problems)} if problems else {}
    error = {"error": "Request", "exit_code": 2, "headline": headline, "facts": facts, "hint": None}
    text = "\n".join([headline, *(f"  {problem}" for problem in problems)])
    return JSONResponse({"error": error, "text": text, "exit_code": 2}, status)


def _bug(request: Request, trouble: Exception) -> Response:
    from cogbuild.errors.bugs import error_of

    service: Service = request.app.state.service
    return _told(request.scope, error_of(trouble, service.project.data))


class _Server(uvicorn.Server):
    """Lets go of those who follow jobs as soon as it is asked to stop; they would hold it up."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: Any) -> None:  # noqa: ARG002 - uvicorn's signature
        """Begin to stop; asked twice, hold on for nobody. Not uvicorn's own: that ends by the signal in the end."""
        if self.should_exit:
            self.force_exit = True
            return
        self.should_exit = True
        # A thread of its own: a signal may come while this one holds a lock that is taken here.
        threading.Thread(target=self._service.jobs.announce_stop, daemon=True).start()


def serve(service: Service, sock: socket.socket, *, tokens: bool = False) -> None:
    """Serve on a socket that listens until SIGINT or SIGTERM; requests and jobs are told on stderr, a line of JSON each."""
    lines_on()
    lean()
    config = uvicorn.Config(
        create_app(service, tokens=tokens),
        http=Patient,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACE,
        lifespan="on",
    )
    _Server(config, service).run([sock])
