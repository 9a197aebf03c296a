"""One client can't take all: bytes, time and places are limited, and whoever is slow holds nobody up."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from serving import asking, served

from cogbuild.errors import CogbuildError
from cogbuild.errors.access import FetchNotAllowed
from cogbuild.server import limits
from cogbuild.server.grants import Grant
from cogbuild.server.limits import Limits, Patient, check_fetch
from cogbuild.spec import ServerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Receive, Scope, Send

UPLOAD = "/v1/repos/ada/shop/packages/"


def answer(error: Exception) -> JSONResponse:
    """Return what an error becomes."""
    return JSONResponse({"text": str(error)}, getattr(type(error), "status", 422))


def counting(settings: ServerSettings) -> FastAPI:
    """Return an application that counts the bytes of bodies."""
    app = FastAPI()

    async def count(request: Request) -> dict[str, int]:
        return {"bytes": sum([len(piece) async for piece in request.stream()])}

    app.put(UPLOAD)(count)
    app.post("/other")(count)
    app.add_exception_handler(CogbuildError, lambda _request, error: answer(error))
    app.add_middleware(Limits, settings=lambda: settings, refuse=lambda _scope, error: answer(error))
    return app


@pytest.fixture
def at() -> Iterator[tuple[str, int]]:
    """A server with small limits."""
    settings = ServerSettings(upload_limit=1000, request_limit=100, uploads=2, patience=0.4)
    with served(counting(settings), http=Patient) as at:
        yield at


def pieces(size: int) -> Iterator[bytes]:
    """Yield a body whose length is not announced."""
    for _ in range(size // 100):
        yield b"x" * 100


def test_what_is_too_large_is_refused(at: tuple[str, int]) -> None:
    """By what it announces, and by what really comes; an upload may be larger than other bodies."""
    with asking(*at) as client:
        assert client.put(UPLOAD, content=b"x" * 1000).json() == {"bytes": 1000}
        assert client.put(UPLOAD, content=pieces(1000)).json() == {"bytes": 1000}
        assert client.post("/other", content=b"x" * 100).json() == {"bytes": 100}
        announced = client.put(UPLOAD, content=b"x" * 1001)
        assert announced.status_code == 413
        assert announced.json()["text"] == (
            "the request is larger than this server takes\n"
            "  announced  1001\n"
            "  limit      1000\n"
            "  setting    upload_limit\n"
            "hint: the server's settings have the limit: server: {upload_limit: …}"
        )
        assert client.put(UPLOAD, content=pieces(1100)).status_code == 413
        assert client.post("/other", content=pieces(200)).status_code == 413


def begun(at: tuple[str, int], body: bytes = b"x") -> socket.socket:
    """Return a connection on which an upload has begun that does not go on."""
    con = socket.create_connection(at, timeout=5)
    con.sendall(f"PUT {UPLOAD} HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n".encode() + body)
    return con


def test_who_falls_silent_is_let_go(at: tuple[str, int]) -> None:
    """A body that stops coming ends with 408."""
    with begun(at) as con:
        assert con.recv(4096).split()[1] == b"408"


def test_uploads_wait_for_a_place_and_others_do_not(at: tuple[str, int]) -> None:
    """With all places taken by slow clients a further upload waits until one is free, and all else is answered."""
    slow = [begun(at), begun(at)]
    try:
        began = time.monotonic()
        with asking(*at) as client:
            assert client.post("/other", content=b"abc").json() == {"bytes": 3}
            assert time.monotonic() - began < 0.35
            time.sleep(0.1)
            assert client.put(UPLOAD, content=b"abc").json() == {"bytes": 3}
        assert 0.3 < time.monotonic() - began < 3
    finally:
        for con in slow:
            con.close()


def test_one_token_leaves_places_for_others() -> None:
    """It has half of them, and what it wants beyond waits until it has fewer itself."""
    app = counting(ServerSettings(uploads=4, patience=2.0))

    async def named(scope: Scope, receive: Receive, send: Send) -> None:
        """Stand in for the guard: the token is in a header."""
        if scope["type"] == "http":
            token = dict(scope["headers"])[b"x-token"].decode()
            scope.setdefault("state", {})["grant"] = Grant(token, "*", frozenset(["push"]))
        await app(scope, receive, send)

    def upload(at: tuple[str, int], token: str) -> socket.socket:
        con = socket.create_connection(at, timeout=5)
        head = f"PUT {UPLOAD} HTTP/1.1\r\nHost: a\r\nX-Token: {token}\r\nContent-Length: 2\r\n\r\nx"
        con.sendall(head.encode())
        return con

    with served(named, http=Patient) as at:
        slow = [upload(at, "slow") for _ in range(4)]
        began = time.monotonic()
        for token in ("one", "two"):
            with upload(at, token) as con:
                con.sendall(b"x")
                assert con.recv(4096).split()[1] == b"200"
        assert time.monotonic() - began < 1
        for con in slow:
            con.sendall(b"x")
            with con:
                assert con.recv(4096).split()[1] == b"200"


def test_who_waits_too_long_for_a_place_hears_so() -> None:
    """Places that stay taken are said, with 429."""
    settings = ServerSettings(uploads=1, patience=0.3)
    with served(counting(settings)) as at, socket.create_connection(at, timeout=5) as slow:
        slow.sendall(f"PUT {UPLOAD} HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n".encode())
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.05):
                slow.sendall(b"x" * 4000)

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            time.sleep(0.1)
            refused = httpx.put("http://{}:{}".format(*at) + UPLOAD, content=b"abc")
            assert (refused.status_code, refused.json()["text"].splitlines()[0]) == (
                429,
                "this server receives 1 uploads and has no place for another",
            )
        finally:
            stop.set()
            dripping.join()


def test_a_place_is_free_again_whatever_ends_the_upload(at: tuple[str, int]) -> None:
    """Refused, broken off, silent or done: none keeps its place."""
    with asking(*at) as client:
        for _ in range(3):
            begun(at).close()
            assert client.put(UPLOAD, content=pieces(1100)).status_code == 413
            assert client.put(UPLOAD, content=b"abc").json() == {"bytes": 3}


@pytest.mark.slow
def test_a_head_that_never_ends_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that sends half a request's head is closed, first or later; one that works is not."""
    monkeypatch.setattr(limits, "_HEAD_SECONDS", 0.5)
    with served(counting(ServerSettings()), http=Patient) as at:
        with socket.create_connection(at, timeout=5) as con:
            con.sendall(b"GET /ping HTTP/1.1\r\nX-Never: ")
            assert con.recv(4096) == b""
        with socket.create_connection(at, timeout=5) as con:
            for _ in range(3):
                con.sendall(b"POST /other HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
                said = b""
                while not said.endswith(b"}"):  # head and body may come apart
                    said += con.recv(4096)
                assert said.split()[1] == b"200"
            con.sendall(b"GET /ping HTTP/1.1\r\nX-Never: ")
            assert con.recv(4096) == b""


def test_what_an_adapter_printed_is_fetched_from_allowed_places_only() -> None:
    """Scheme, host and port have to be those of the setting, whatever else stands in the URI."""
    settings = ServerSettings(fetch=("https://models.example", "s3://bucket"))
    for uri in (
        "https://models.example/a.onnx",
        "https://user:pass@models.example/a",
        "s3://bucket/x",
        "HTTPS://MODELS.example/a",
    ):
        check_fetch(uri, settings)
    for uri in (
        "http://models.example/a",
        "https://models.example:8443/a",
        "https://models.example@169.254.169.254/latest",
        "https://models.example.evil/a",
        "file:///etc/passwd",
        "https://[::1",
        "gs://bucket/x",
        "",
    ):
        with pytest.raises(FetchNotAllowed):
            check_fetch(uri, settings)
