"""A real server on loopback, in a thread of the test."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn

from cogbuild.server.limits import Patient

if TYPE_CHECKING:
    from starlette.types import ASGIApp

__all__ = ["asking", "served"]


class _Server(uvicorn.Server):
    """Ends as soon as it is told to; uvicorn's own looks ten times a second whether it was."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told = asyncio.Event()

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self.on_tick(0)
        if not self.should_exit:
            await self._told.wait()

    def end(self) -> None:
        self.should_exit = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._told.set)


@contextlib.contextmanager
def served(app: ASGIApp, **more: Any) -> Iterator[tuple[str, int]]:
    """Serve *app* on a free port of 127.0.0.1 and yield (host, port); *more* goes to uvicorn's configuration."""
    config = uvicorn.Config(app, port=0, log_level="warning", **{"http": Patient, **more})
    server = _Server(config)
    listening = config.bind_socket()
    listening.listen()  # so that nobody is refused before the thread has begun
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        host, port = listening.getsockname()
        yield host, port
    finally:
        server.end()
        thread.join(timeout=20)
        listening.close()


def asking(host: str, port: int, **more: Any) -> httpx.Client:
    """Return a client of what is served; it needs no authorities, which take longer to read than most answers."""
    return httpx.Client(base_url=f"http://{host}:{port}", verify=False, **more)
