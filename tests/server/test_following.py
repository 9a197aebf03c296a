"""What jobs and adapters said, however much it is: read in pieces, followed from any place on, and let go of by who leaves."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from site_of_tests import Site, eventually, followed, listed, put, zip_of

from cogbuild.cli.remote import show_log
from cogbuild.server.feeds import Feeds
from cogbuild.server.messages import status

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Bytes of what is said, and what any reader of it may hold of them.
MUCH, LITTLE = 16 << 20, 5 << 20


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site with one adapter."""
    return Site(tmp_path_factory.mktemp("following"), "copy")


@pytest.fixture(scope="module")
def client(site: Site) -> Iterator[httpx.Client]:
    """A client of its server, which has a model."""
    with site.client(backfill="off") as client:
        put(client, zip_of("a"))
        yield client


@contextlib.contextmanager
def holding_little() -> Iterator[None]:
    """Nobody in this process may hold much meanwhile."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < LITTLE
    finally:
        tracemalloc.stop()


def talkative(site: Site, client: httpx.Client) -> tuple[str, int]:
    """Return a job that has said much, and how many messages that were."""
    job = client.get("/v2/jobs").json()["jobs"][-1]["job"]
    path = site.data / "logs/jobs" / f"{job}.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)[:5]
    if path.stat().st_size < MUCH:
        lines += [
            b'{"type":"log_line","data":"%d %s","pair":"p"}\n' % (number, b"x" * 1000)
            for number in range(MUCH // 1000)
        ]
        path.write_bytes(b"".join(lines))
    return job, path.read_bytes().count(b"\n")


@pytest.mark.slow
def test_the_page_of_a_job_that_said_much(site: Site, client: httpx.Client) -> None:
    """It shows the end of it, knows how much there was, and reads no more."""
    job, count = talkative(site, client)
    with holding_little():
        page = client.get(f"/jobs/{job}", headers={"Accept": "text/html"}).text
    assert f"p | {MUCH // 1000 - 1} xxx" in page
    assert "p | 1 xxx" not in page
    lines, counted = Feeds(site.data / "logs/jobs").tail(job, 2500)
    assert ([len(line) > 1000 for line in lines], counted) == ([True, True], count)


def test_a_feed_is_taken_up_after_half_a_line(tmp_path: Path) -> None:
    """What a power cut left of a line goes, and the rest is not read for that."""
    feeds = Feeds(tmp_path)
    for before in (b"", b'{"type":"status"}\n' * 2, b'{"type":"status"}\n' * (MUCH // 18)):
        feeds.path("j").write_bytes(before + b'{"half')
        with holding_little():
            feeds.open("j").say(status("on"))
            feeds.close("j")
        with feeds.path("j").open("rb") as file:
            assert file.read(len(before)) == before
            assert json.loads(file.read())["data"] == "on"
        assert feeds.tail("j", 0)[1] == before.count(b"\n") + 1
    assert feeds.tail("none", 10) == ([], 0)


@pytest.mark.slow
def test_messages_are_numbered_from_any_one_on(site: Site, client: httpx.Client) -> None:
    """Also those that are sent many at once."""
    job, count = talkative(site, client)
    for after in (0, 1, 300, count - 1, count, count + 1):
        numbers = [number for number, _ in followed(client, job, after)]
        assert numbers == list(range(after + 1, count + 1))


def test_who_goes_away_is_noticed(site: Site, client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is written on a connection that is gone: each word would be a line of the log."""
    job, _ = talkative(site, client)
    for _ in range(3):
        with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as sock:
            sock.sendall(f"GET /v2/jobs/{job}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            assert sock.recv(1 << 16)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # The question itself is one.
    eventually(lambda: "\ncogbuild_requests_under_way 1.0\n" in client.get("/metrics").text)
    assert "socket.send()" not in caplog.text


def test_no_proxy_holds_back_what_goes_on(client: httpx.Client) -> None:
    """Neither messages of a job, nor those of an upload, nor a log."""
    files = {"file": ("m.zip", zip_of("a"))}
    job = client.get("/v2/jobs").json()["jobs"][0]["job"]
    model = listed(client)[0]["id"]
    attempt = client.get(f"/v2/attempts/{model}/copy").json()["shown"]
    for answer in (
        client.put("/v1/repos/ada/words/packages/", files=files),
        client.get(f"/v2/jobs/{job}/events"),
        client.get(f"/v2/logs/{attempt}/events"),
    ):
        assert answer.status_code == 200
        assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-store", "no")


@pytest.mark.slow
def test_a_log_that_is_long(
    site: Site, client: httpx.Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It passes through the server and the command in pieces, and all of it comes: as bytes, as text, as JSON."""
    model = listed(client)[0]["id"]
    at = f"/v2/attempts/{model}/copy"
    attempt = client.get(at).json()["shown"]
    line = "wörds \\ 'of' \"an\" adapter\t\x1b[31m ".encode() + b"\xff " + "ö".encode() * 1500 + b"\n"
    said = line * (MUCH // len(line)) + b"\xc3"
    (site.data / "logs" / f"{attempt}.log").write_bytes(said)
    shown = said.replace(b"\x1b", b"\\x1b").replace(b"\xff", b"\\xff").replace(b"\n\xc3", b"\n\\xc3")
    for params, headers, wanted in (
        ({}, {"Accept": "text/plain"}, shown),
        ({"raw": 1}, {"Accept": "text/plain"}, said),
    ):
        with holding_little(), client.stream("GET", at + "/log", params=params, headers=headers) as answer:
            place = 0
            for piece in answer.iter_bytes():
                assert wanted[place : place + len(piece)] == piece
                place += len(piece)
        assert place == len(wanted)
    with holding_little(), client.stream("GET", at + "/log") as answer:
        for _ in answer.iter_bytes():
            pass
    found = client.get(at + "/log").json()
    assert (found["attempt"], found["text"]) == (attempt, said.decode("utf-8", "replace"))
    for raw in (False, True):
        printed = tmp_path / "printed"
        with printed.open("w") as out, contextlib.redirect_stdout(out), holding_little():
            show_log(str(client.base_url), None, ["attempts", model, "copy"], {}, raw=raw, follow=False)
        assert printed.read_bytes() == (said if raw else shown)
        assert "attempt 1 of 1, built" in capsys.readouterr().err


def test_a_log_that_grows_is_downloaded(site: Site, client: httpx.Client) -> None:
    """As long as it was when its download began, or as a part of it."""
    model = listed(client)[0]["id"]
    attempt = client.get(f"/v2/attempts/{model}/copy").json()["shown"]
    path = site.data / "logs" / f"{attempt}.log"
    path.write_bytes(b"a line\n" * 100_000)
    over = threading.Event()

    def grow() -> None:
        with path.open("ab", buffering=0) as log:
            while not over.wait(0.001):
                log.write(b"a line\n" * 10)

    with ThreadPoolExecutor() as threads:
        threads.submit(grow)
        try:
            whole = client.get(f"/v2/logs/{attempt}").content
            part = client.get(f"/v2/logs/{attempt}", headers={"Range": "bytes=7-20"})
        finally:
            over.set()
    assert len(whole) >= 700_000
    assert whole == b"a line\n" * (len(whole) // 7)
    assert (part.status_code, part.content) == (206, b"a line\n" * 2)
