"""A real server on loopback, in a thread of the test."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import uvicorn

if TYPE_CHECKING:
    from starlette.types import ASGIApp

__all__ = ["served"]


@contextlib.contextmanager
def served(app: ASGIApp, **more: Any) -> Iterator[tuple[str, int]]:
    """Serve *app* on a free port of 127.0.0.1 and yield (host, port); *more* goes to uvicorn's configuration."""
    config = uvicorn.Config(app, port=0, log_level="warning", **more)
    server = uvicorn.Server(config)
    listening = config.bind_socket()
    listening.listen()  # so that nobody is refused before the thread has begun
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        host, port = listening.getsockname()
        yield host, port
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        listening.close()
