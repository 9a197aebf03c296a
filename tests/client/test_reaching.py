"""Whatever answers at a server's address, or does not, is told in words; a token is never among them."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from servers import Inside, inside  # noqa: F401 - a fixture

from cogbuild.client.address import Address
from cogbuild.client.http import Server
from cogbuild.errors import CogbuildError
from cogbuild.errors.client import AuthoritiesUnreadable, ConnectionLost

TOKEN = "cog_0123456789abcdef"
Answer = tuple[int, dict[str, str], bytes]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answers: Callable[[str, str], Answer]

    def _do(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        status, headers, body = type(self).answers(self.command, self.path)
        self.send_response_only(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _do  # noqa: N815 - http.server looks for these names

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


@contextlib.contextmanager
def answering(answers: Callable[[str, str], Answer], context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve *answers* of (method, path) on a free port; yield the address."""
    handler = type("Handler", (_Handler,), {"answers": staticmethod(answers)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http{'s' if context else ''}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def refused(url: str, token: str | None = TOKEN, *, patience: float = 1) -> tuple[str, int]:
    """Return the text and the exit code with which a first question ends; the address is shown as URL."""
    with Server(Address(url, token), patience=patience) as server, pytest.raises(CogbuildError) as caught:
        server.speaks()
    assert TOKEN not in str(caught.value)
    assert TOKEN not in json.dumps(caught.value.to_json())
    return str(caught.value).replace(url, "URL"), caught.value.exit_code


def ours(status: int, said: dict[str, Any], **headers: str) -> Answer:
    """Return an answer as cogbuild's server gives it."""
    return status, {"cogbuild-version": "0.1.0", "cogbuild-api": "2", **headers}, json.dumps(said).encode()


def test_nobody_is_there() -> None:
    """A port without a listener; it is told at once, without patience."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert refused(url, patience=60) == (
            (
                "the server URL can't be reached\n"
                "  reason  connection refused\n"
                "hint: look whether it runs and whether the address is right"
            ),
            3,
        )


def test_a_name_that_is_no_machine() -> None:
    """What the system says of the name is the reason."""
    text, code = refused("http://no-such-host.invalid")
    assert (text.splitlines()[0], code) == ("the server URL can't be reached", 3)


def test_something_else_is_there() -> None:
    """A web server that is no Cog server, by its 404, by its page, and by what is no HTTP at all."""
    page = b"<html>welcome</html>"
    with answering(lambda *_: (404, {"content-type": "text/html; charset=utf-8"}, page)) as url:
        assert refused(url) == (
            (
                "URL is not a Cog server\n"
                "  it answered  404 Not Found, text/html\n"
                "hint: check the address, its port and its path"
            ),
            2,
        )
    with answering(lambda *_: (200, {"content-type": "text/html"}, page)) as url:
        assert refused(url)[0].splitlines()[:2] == [
            "URL is not a Cog server",
            "  it answered  200 OK, text/html",
        ]
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def speak() -> None:
            with listening.accept()[0] as met:
                met.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                met.recv(1 << 16)

        thread = threading.Thread(target=speak)
        thread.start()
        text, code = refused(f"http://127.0.0.1:{listening.getsockname()[1]}", patience=0)
        thread.join()
    assert (text.splitlines()[0], code) == ("the server URL can't be reached", 3)


def test_a_server_of_2021_is_told_by_its_answers() -> None:
    """It knows nothing of /v2, and answers a ping."""
    with (
        answering(
            lambda _, path: (200, {}, b"pong") if path == "/ping" else (404, {}, b"404 page not found")
        ) as url,
        Server(Address(url)) as server,
    ):
        assert server.speaks() == 1


def test_another_version_of_the_interface() -> None:
    """Neither older nor newer is guessed at."""
    with answering(lambda *_: ours(200, {"cogbuild": "9.0", "api": 3})) as url:
        assert refused(url) == (
            (
                "the server URL speaks version 3 of the interface, this cogbuild 2\n"
                "  its cogbuild  9.0\n"
                "hint: upgrade cogbuild here or there"
            ),
            2,
        )


#: Commands that ask a server, and change something there.
ASKING = [
    "status",
    "status --json",
    "explain 0123456 count",
    "logs 0123456 count",
    "logs 0123456 count --raw",
    "logs 0123456 count --follow",
    "models ls",
    "models show 0123456 --json",
    "models set 0123456 --adapter count",
    "models rm 0123456",
    "adapt",
    "adapt --dry-run",
    "build --job 0123456",
]


@pytest.mark.parametrize("words", ASKING)
def test_whatever_is_asked_is_asked_of_a_cog_server_of_this_interface(
    inside: Inside,
    words: str,
) -> None:
    """A portal that welcomes everybody has removed no model, and another interface's answer is not shown as ours."""
    page = b"<html>welcome</html>"
    asked: list[str] = []

    def newer(headers: dict[str, str]) -> Callable[[str, str], Answer]:
        def answer(method: str, _: str) -> Answer:
            asked.append(method)
            return 200, {"cogbuild-version": "9.0", **headers}, b'{"cogbuild": "9.0", "api": 3}'

        return answer

    with answering(lambda *_: (200, {"content-type": "text/html"}, page)) as url:
        code, out, err = inside(*words.split(), "--server", url)
        assert (code, f"{url} is not a Cog server" in (out + err).decode()) == (2, True)
    for headers, questions in (({"cogbuild-api": "3"}, 1), ({}, 2)):  # one that does not say it is asked
        asked.clear()
        with answering(newer(headers)) as url:
            code, out, err = inside(*words.split(), "--server", url)
        told = f"the server {url} speaks version 3 of the interface, this cogbuild 2"
        assert (code, told in (out + err).decode(), len(asked)) == (2, True, questions)
        assert b'"api": 3' not in out


def test_what_is_no_text_is_not_shown_as_one(inside: Inside) -> None:
    """A page that something on the way has put in place of a server's text."""
    with answering(lambda *_: ours(200, {}, **{"content-type": "text/html"})) as url:
        code, out, err = inside("status", "--server", url)
    assert (code, out, err.decode().splitlines()) == (
        3,
        b"",
        [f"{url} answered with what this cogbuild can't read", "  it answered  200 OK, text/html"],
    )


def test_a_token_is_missing_or_wrong() -> None:
    """Who has none is told that one is wanted, who has a wrong one that it is not known."""
    with answering(lambda *_: ours(401, {"error": {}})) as url:
        assert refused(url, None) == (
            "URL wants a token\nhint: ask whoever runs it for one, and set COGBUILD_TOKEN",
            2,
        )
        assert refused(url) == (
            (
                "URL does not know this token\n"
                "hint: it may have expired or been withdrawn: ask whoever runs the server for another"
            ),
            2,
        )


def test_what_the_server_refuses_is_told_in_its_words() -> None:
    """Text, facts and exit code are its own; what acts on a terminal is escaped, and the token is masked."""
    error = {"error": "NotAllowed", "exit_code": 2, "headline": "no", "facts": {}, "hint": None}
    said = {"error": error, "text": f"this token may not push in ada/m\x1b[31m\n  token  {TOKEN}"}
    with answering(lambda *_: ours(403, said)) as url:
        assert refused(url) == ("this token may not push in ada/m\\x1b[31m\n  token  ***", 2)
    error["exit_code"] = 3
    with answering(lambda *_: ours(503, said)) as url:
        assert refused(url)[1] == 3


def test_commands_that_a_server_names_have_its_address() -> None:
    """It does not know under which it is reached; quoted, since they are pasted."""
    hint = "`cogbuild logs 7 count --server URL` shows it"
    error = {"error": "X", "exit_code": 2, "headline": "no", "facts": {}, "hint": hint}
    with (
        answering(lambda *_: ours(422, {"error": error, "text": f"no\nhint: {hint}"})) as url,
        Server(Address(f"{url}/it's")) as server,
        pytest.raises(CogbuildError) as caught,
    ):
        server.speaks()
    named = f"""`cogbuild logs 7 count --server '{url}/it'"'"'s'` shows it"""
    assert str(caught.value) == f"no\nhint: {named}"
    assert caught.value.to_json()["hint"] == named


def test_a_token_is_sent_nowhere_else() -> None:
    """A redirect is shown and not followed."""
    asked: list[str] = []

    def elsewhere(_: str, path: str) -> Answer:
        asked.append(path)
        return 307, {"location": "https://other.example/v2"}, b""

    with answering(elsewhere) as url:
        assert refused(url) == (
            (
                "URL sends us on to https://other.example/v2\n"
                "hint: name that address yourself, if you trust it: a token is sent nowhere else"
            ),
            2,
        )
    assert asked == ["/v2"]


def test_what_is_busy_is_asked_again() -> None:
    """An answer that says "later" is heeded, with the pause that it asks for."""
    answers = [
        ours(429, {}, **{"retry-after": "0"}),
        (503, {"retry-after": "0"}, b"starting"),
        ours(200, {"cogbuild": "0.1.0", "api": 2}),
    ]
    with answering(lambda *_: answers.pop(0)) as url, Server(Address(url)) as server:
        assert server.speaks() == 2
    assert answers == []


@pytest.mark.slow
def test_what_is_busy_is_not_asked_all_the_time() -> None:
    """Also where it says that it may be asked again at once, questions become rarer."""
    asked: list[str] = []

    def busy(_: str, path: str) -> Answer:
        asked.append(path)
        return ours(429, {"error": {}}, **{"retry-after": "0"})

    with answering(busy) as url:
        refused(url, patience=1)
    assert 2 <= len(asked) <= 5  # after 0.1, 0.3, 0.7 and 1.5 seconds


def test_what_stays_busy_is_told() -> None:
    """After the patience that a command has, the answer is what it is: the server's own, or that it is away."""
    error = {"error": "TooManyUploads", "exit_code": 2, "headline": "no place", "facts": {}, "hint": None}
    with answering(lambda *_: ours(429, {"error": error, "text": "no place"})) as url:
        assert refused(url, patience=0.05) == ("no place", 2)
    for status, answered in (
        (502, "502 Bad Gateway"),
        (503, "503 Service Unavailable"),
        (504, "504 Gateway Timeout"),
    ):
        away = (status, {"content-type": "text/html", "retry-after": "0"}, b"starting")
        with answering(lambda *_, away=away: away) as url:
            assert refused(url, patience=0.05) == (
                (
                    "the server URL can't be reached\n"
                    f"  reason  it answered {answered}, text/html\n"
                    "hint: look whether it runs and whether the address is right"
                ),
                3,
            )


@pytest.mark.slow
def test_a_proxy_whose_server_was_never_there_is_waited_for_a_few_seconds() -> None:
    """However long it asks for; a server that is about to start has come by then."""
    with answering(lambda *_: (503, {"retry-after": "90"}, b"")) as url:
        began = time.monotonic()
        text, code = refused(url, patience=60)
        took = time.monotonic() - began
    assert (text.splitlines()[0], code) == ("the server URL can't be reached", 3)
    assert 4.5 < took < 8


def test_a_proxy_whose_server_went_away_is_a_connection_that_broke() -> None:
    """It has answered before, so it is waited for as long as for any other."""
    answers = [ours(200, {"cogbuild": "0.1.0", "api": 2})]
    with (
        answering(lambda *_: answers.pop() if answers else (502, {}, b"")) as url,
        Server(Address(url), patience=0.3) as server,
    ):
        assert server.speaks() == 2
        with pytest.raises(ConnectionLost) as caught:
            server.ask("GET", "/v2/jobs/7", goes_on="cogbuild build --job 7")
    assert str(caught.value) == (
        f"the connection to {url} broke and did not come back in 0.3 s\n"
        "  reason  it answered 502 Bad Gateway\n"
        "hint: the work goes on there: follow it with `cogbuild build --job 7`"
    )


def test_a_certificate_of_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A self-signed certificate is refused in words, and taken where SSL_CERT_FILE names it."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    making = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    making += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    making += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(making, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with answering(lambda *_: ours(200, {"cogbuild": "0.1.0", "api": 2}), context) as url:
        assert refused(url) == (
            (
                "URL can't prove who it is\n"
                "  reason  self-signed certificate\n"
                "hint: for a certificate authority of your own, set SSL_CERT_FILE to its file"
            ),
            3,
        )
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with Server(Address(url)) as server:
            assert server.speaks() == 2
        plain = url.replace("https:", "http:")
        assert refused(plain, patience=0)[0].splitlines()[0] == "the server URL can't be reached"
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(AuthoritiesUnreadable) as caught:
        Server(Address("https://127.0.0.1:1"))
    assert str(caught.value) == (
        f"the certificate authorities in {tmp_path}/none.pem can't be read\n"
        "  reason  No such file or directory\n"
        "hint: SSL_CERT_FILE names a file of certificates as PEM; without it the usual ones are used"
    )


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a variable says of proxies holds for other machines."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    with (
        answering(lambda *_: ours(200, {"cogbuild": "0.1.0", "api": 2})) as url,
        Server(Address(url)) as server,
    ):
        assert server.speaks() == 2
