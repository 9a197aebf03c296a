"""Container registries to test against: Debian's docker-registry on loopback, open, with a password, with tokens."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Server = TypeVar("Server", bound=ThreadingHTTPServer)

KIT = Path(__file__).parents[2] / "adapters" / "kit"
USER, PASSWORD = "ada", "lovelace"
#: What USER's helper may hand out in place of the password, where tokens come from.
IDENTITY = "an identity token"
#: The password's bcrypt hash, the one kind that docker-registry reads.
_HTPASSWD = f"{USER}:$2y$04$KBx2JftBQ8d3utVaX9LjbugOVYCY84aYnT/iv1yElX421wRaN1q4S\n"

needs_registry = pytest.mark.skipif(
    shutil.which("docker-registry") is None,
    reason="docker-registry is not installed (Debian: docker-registry)",
)
needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl is not installed (Debian: openssl)"
)


class DockerRegistry:
    """A docker-registry of our own; what it holds outlives it in *directory*."""

    def __init__(self, directory: Path, auth: dict[str, Any] | None = None) -> None:
        self.directory = directory
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        config: dict[str, Any] = {
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(directory / "held")},
                "delete": {"enabled": True},
            },
            "http": {"addr": self.host, "secret": "so that uploads outlive a restart"},
        }
        if auth:
            config["auth"] = auth
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "config.yml").write_text(json.dumps(config))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Serve, until killed."""
        with open(self.directory / "log", "ab") as log:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", self.directory / "config.yml"], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 20
        while not answers(f"http://{self.host}/v2/"):
            assert self._process.poll() is None, (self.directory / "log").read_text()
            assert time.monotonic() < deadline, "docker-registry did not answer in 20 s"
            time.sleep(0.02)

    def kill(self) -> None:
        """End at once, as when the machine fails."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def blobs(self) -> set[str]:
        """Return the digests of all whole blobs."""
        return {
            f"sha256:{data.parent.name}"
            for data in (self.directory / "held").glob("docker/registry/v2/blobs/sha256/*/*/data")
        }


@contextlib.contextmanager
def serving(directory: Path, auth: dict[str, Any] | None = None) -> Iterator[DockerRegistry]:
    """A running registry."""
    registry = DockerRegistry(directory, auth)
    registry.start()
    try:
        yield registry
    finally:
        registry.kill()


def with_password(directory: Path) -> dict[str, Any]:
    """Return the setting that lets in USER with PASSWORD."""
    file = directory / "htpasswd"
    file.write_text(_HTPASSWD)
    return {"htpasswd": {"realm": "a test", "path": str(file)}}


class TokenServer(ThreadingHTTPServer):
    """Gives out tokens as a registry's auth service does: everything to USER, reading of ``public/`` to anyone."""

    daemon_threads = True

    def __init__(self, directory: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Tokens)
        self.directory = directory
        self.asked: list[str] = []  # the scopes, in order
        command = (
            "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -keyout key.pem -out cert.pem"
        )
        subprocess.run(command.split(), cwd=directory, check=True, capture_output=True)
        self.certificate = "".join((directory / "cert.pem").read_text().splitlines()[1:-1])

    def setting(self) -> dict[str, Any]:
        """Return the registry's setting."""
        return {
            "token": {
                "realm": f"http://127.0.0.1:{self.server_port}/token",
                "service": "a registry",
                "issuer": "a test",
                "rootcertbundle": str(self.directory / "cert.pem"),
            }
        }

    def token(self, service: str, access: list[dict[str, Any]]) -> str:
        """Return a signed token."""
        now = int(time.time())
        times = {"iat": now - 10, "nbf": now - 10, "exp": now + 300}
        claims = {"iss": "a test", "sub": "", "aud": service, "jti": str(now), "access": access, **times}
        header = {"typ": "JWT", "alg": "RS256", "x5c": [self.certificate]}
        text = b".".join(_base64(json.dumps(part).encode()) for part in (header, claims))
        command = ["openssl", "dgst", "-sha256", "-sign", str(self.directory / "key.pem")]
        signature = subprocess.run(command, input=text, capture_output=True, check=True).stdout
        return (text + b"." + _base64(signature)).decode()


class _Tokens(BaseHTTPRequestHandler):
    server: TokenServer

    def do_GET(self) -> None:
        login = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        given = self.headers.get("Authorization")
        if given not in (None, login):
            self.send_error(401)
            return
        self._give("token", parse_qs(urlsplit(self.path).query), known=given is not None)

    def do_POST(self) -> None:
        """Exchange an identity token."""
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if (form["grant_type"], form["refresh_token"]) != (["refresh_token"], [IDENTITY]):
            self.send_error(401)
            return
        self._give("access_token", form, known=True)

    def _give(self, what: str, query: dict[str, list[str]], *, known: bool) -> None:
        access = []
        for scope in " ".join(query.get("scope", [])).split():
            self.server.asked.append(scope)
            kind, name, actions = scope.split(":")
            granted = actions.split(",") if known else ["pull"] if name.startswith("public/") else []
            access.append({"type": kind, "name": name, "actions": granted})
        body = json.dumps({what: self.server.token(query["service"][0], access)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name in the standard library
        pass


@contextlib.contextmanager
def tokens(directory: Path) -> Iterator[TokenServer]:
    """A running token server."""
    directory.mkdir(parents=True, exist_ok=True)
    with TokenServer(directory) as server:
        yield from _running(server)


class ExactRegistry(ThreadingHTTPServer):
    """Takes uploads by the letter of the OCI's distribution specification; one request may break off half-way."""

    daemon_threads = True

    def __init__(self, breaks_after: int | None) -> None:
        super().__init__(("127.0.0.1", 0), _Uploads)
        self.breaks_after = breaks_after
        self.busy = 0  # how many requests to answer with 503 yet
        self.held: list[bytearray] = []
        self.blobs: dict[str, bytes] = {}
        self.patches: list[tuple[int, int]] = []  # where each began and how much came

    @property
    def config(self) -> bytes:
        """The blob that came last."""
        return list(self.blobs.values())[-1]


class _Uploads(BaseHTTPRequestHandler):
    server: ExactRegistry
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        if self.server.busy:
            self.server.busy -= 1
            self._answer(503)
            return
        self._answer(200 if self.path.rpartition("/")[2] in self.server.blobs else 404)

    def do_POST(self) -> None:
        self.server.held.append(bytearray())
        self._answer(202, Location=f"/uploads/{len(self.server.held) - 1}")

    def do_GET(self) -> None:
        self._answer(204, Location=self.path, Range=f"0-{len(self._upload) - 1}")

    def do_PATCH(self) -> None:
        start, length = len(self._upload), int(self.headers["Content-Length"])
        if self.headers.get("Content-Range", f"0-{length - 1}") != f"{start}-{start + length - 1}":
            self._answer(416)
            return
        limit, self.server.breaks_after = self.server.breaks_after, None
        data = self.rfile.read(length if limit is None else min(length, limit))
        self._upload.extend(data)
        self.server.patches.append((start, len(data)))
        if len(data) == length:
            self._answer(202, Location=self.path, Range=f"0-{len(self._upload) - 1}")
        else:
            self.close_connection = True

    def do_PUT(self) -> None:
        if "/manifests/" not in self.path:
            digest = parse_qs(urlsplit(self.path).query)["digest"][0]
            assert digest == f"sha256:{hashlib.sha256(self._upload).hexdigest()}"
            self.server.blobs[digest] = bytes(self._upload)
        else:
            self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(201)

    @property
    def _upload(self) -> bytearray:
        return self.server.held[int(urlsplit(self.path).path.rpartition("/")[2])]

    def _answer(self, code: int, **headers: str) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name in the standard library
        pass


@contextlib.contextmanager
def exact(breaks_after: int | None = None) -> Iterator[ExactRegistry]:
    """A running ExactRegistry."""
    with ExactRegistry(breaks_after) as server:
        yield from _running(server)


def _running(server: Server) -> Iterator[Server]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()


class Line:
    """A line to a registry that breaks once, after *limit* bytes that the client sent."""

    def __init__(self, port: int, limit: int, then: Callable[[], None]) -> None:
        self._target, self._limit, self._then = port, limit, then
        self.sent = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._ends: list[socket.socket] = [self._listener]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        """End all connections."""
        for end in self._ends:
            _shut(end)
        for thread in self._threads:
            thread.join()
        for end in self._ends:
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            self._ends += [client, server]
            for ends in ((client, server, True), (server, client, False)):
                self._threads.append(threading.Thread(target=self._copy, args=ends))
                self._threads[-1].start()

    def _copy(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
                if counted:
                    before, self.sent = self.sent, self.sent + len(data)
                    if before <= self._limit < self.sent:
                        self._then()
                        break
        for end in (source, target):
            _shut(end)
        if counted:
            source.close()  # else what the client still sends waits in a buffer for a reader


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def breaking(registry: DockerRegistry, limit: int, then: Callable[[], None] = lambda: None) -> Iterator[Line]:
    """A line to *registry* that breaks once and calls *then*."""
    line = Line(registry.port, limit, then)
    try:
        yield line
    finally:
        line.close()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(url: str) -> bool:
    """Whether anything answers there."""
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        return False
    return True


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
