"""What HTTP servers above Cog's have in common: bodies, answers, and an orderly end.

A server is a subclass of ``Door`` with ``do_GET`` and ``do_POST``; ``serve`` runs it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .cog_server import CogServer

#: Larger bodies are refused: each is held in memory.
_LARGEST = int(os.environ.get("MAX_REQUEST_BYTES") or 1 << 30)
#: How long predictions that run may go on after SIGTERM; Kubernetes and SageMaker kill after 30 s.
_GRACE = 20.0


class BadBody(Exception):
    """The request's body cannot be taken; carries the code to answer with."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Door(BaseHTTPRequestHandler):
    """One connection; ``self.server`` is the ``Server``."""

    protocol_version = "HTTP/1.1"
    server_version = "cogbuild"
    sys_version = ""
    disable_nagle_algorithm = True  # else an answer's body waits for the acknowledgement of its headers
    timeout = 300  # seconds without a byte, also between two requests
    server: Server

    def body(self) -> bytes:
        """Return the whole body, of a given length or chunked; raises ``BadBody``."""
        if (coding := self.headers.get("Content-Encoding", "identity").lower()) != "identity":
            self.close_connection = True
            raise BadBody(415, f"the body is encoded as {coding}, but only plain bodies are taken")
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return self._chunks()
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal():
            self.close_connection = True
            raise BadBody(400, "the header Content-Length is no number")
        self._check_size(int(length))
        data = self.rfile.read(int(length))
        if len(data) < int(length):
            self.close_connection = True
            raise BadBody(400, f"the body ended after {len(data)} of {length} bytes")
        return data

    def _chunks(self) -> bytes:
        parts, total = [], 0
        while True:
            line = self.rfile.readline(1024).split(b";")[0].strip()
            try:
                size = int(line, 16)
            except ValueError:
                size = -1
            if size < 0:
                self.close_connection = True
                raise BadBody(400, "the body's chunks cannot be read")
            total += size
            self._check_size(total)
            if size == 0:
                while self.rfile.readline(8192).strip():  # trailers
                    pass
                return b"".join(parts)
            part = self.rfile.read(size)
            if len(part) < size or self.rfile.readline(8).strip():
                self.close_connection = True
                raise BadBody(400, "the body ended in the middle of a chunk")
            parts.append(part)

    def _check_size(self, size: int) -> None:
        if size > _LARGEST:
            self.close_connection = True
            raise BadBody(413, f"the body has more than {_LARGEST} bytes")

    def client_waits(self) -> bool:
        """Whether the client still holds its end of the connection."""
        # Not by MSG_DONTWAIT: a socket with a timeout waits for it all the same.
        said = select.poll()
        said.register(self.connection, select.POLLIN)
        try:
            return not said.poll(0) or self.connection.recv(1, socket.MSG_PEEK) != b""
        except OSError:
            return False

    def answer(
        self,
        code: int,
        data: bytes = b"",
        kind: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send an answer."""
        self.send_response(code)
        for name, value in {**({"Content-Type": kind} if data else {}), **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def answer_json(self, code: int, value: Any) -> None:
        """Send *value* as JSON."""
        self.answer(code, json.dumps(value).encode() + b"\n")

    def handle_one_request(self) -> None:
        """Count the requests that run, for an orderly end; a client that went away is nobody's trouble."""
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        finally:
            self.server.done(self)

    def parse_request(self) -> bool:
        """Note that a request has begun."""
        self.server.begun(self)
        return super().parse_request()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Say on stderr what was asked, but for health checks."""
        if self.command == "POST" or (len(args) > 1 and str(args[1]) >= "400"):
            sys.stderr.write(f"{format % args}\n")


class Server(ThreadingHTTPServer):
    """Listens, with the Cog server that is asked."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], door: type[Door], cog: CogServer) -> None:
        self.cog = cog
        self._running: set[int] = set()
        self._change = threading.Condition()
        super().__init__(address, door)

    def begun(self, door: Door) -> None:
        """Note that a request runs."""
        with self._change:
            self._running.add(id(door))

    def done(self, door: Door) -> None:
        """Note that it has ended."""
        with self._change:
            self._running.discard(id(door))
            self._change.notify_all()

    def wait_for_requests(self, seconds: float) -> bool:
        """Return whether all requests ended in time."""
        with self._change:
            return self._change.wait_for(lambda: not self._running, seconds)


def serve(door: type[Door], cog: CogServer, *, port: int, host: str = "") -> NoReturn:
    """Start *cog*, and answer with *door* until SIGTERM or until Cog's server ends.

    After SIGTERM nothing new is taken, what runs may end, and the process ends with 0; where Cog's server has ended, with 1.
    """
    asked_to_end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked_to_end.set())
    server = Server((host or "0.0.0.0", port), door, cog)
    cog.start()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"serving on port {server.server_address[1]}, above Cog's server on {cog.port}", file=sys.stderr)
    while not asked_to_end.wait(0.2) and cog.code is None:
        pass
    gone = cog.code
    if gone is not None and not asked_to_end.is_set():
        print(f"Cog's server has ended with {gone}", file=sys.stderr)
        os._exit(1)
    server.shutdown()
    server.socket.close()
    if not server.wait_for_requests(_GRACE):
        print(f"predictions still ran {_GRACE:g} s after the end was asked for", file=sys.stderr)
    cog.stop(5.0)
    sys.stderr.flush()
    os._exit(0)  # idle connections have threads of their own
