"""Does what stands above Cog's server wait its turn, say what is wrong, and end in order?"""

from __future__ import annotations

import contextlib
import http.client
import importlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from adapter_runs import KIT

sys.path.append(str(KIT))
cog_server: Any = importlib.import_module("cogbuild_adapter.serving.cog_server")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STAND_IN = [sys.executable, str(Path(__file__).with_name("cog_stand_in.py"))]
ASK = b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"
DOOR = """
import sys
from cogbuild_adapter.serving.cog_server import CogServer
from cogbuild_adapter.serving.door import BadBody, Door, serve

class Echo(Door):
    def do_GET(self):
        self.answer_json(200, self.server.cog.status())

    def do_POST(self):
        try:
            data = self.body()
        except BadBody as bad:
            self.answer_json(bad.code, str(bad))
            return
        if data == b"slow":
            self.server.cog.predict({"sleep": 0.5})
        self.answer(200, data)

serve(Echo, CogServer(command=sys.argv[1:]), port=0, host="127.0.0.1")
"""


ALONE = ["unshare", "--map-root-user", "--pid", "--fork", "--kill-child", "true"]
#: Starts a server and stops it when its input ends.
STARTS = """
import sys
from cogbuild_adapter.serving.cog_server import CogServer
server = CogServer(command=sys.argv[1:])
server.start()
sys.stdin.read()
server.stop()
"""
#: Takes the name that Cog's server takes, and says its process ID.
NAMED = """
import os, socket, time
name = socket.socket(socket.AF_UNIX)
try:
    name.bind(f"\\0coglet-{os.getpid()}-0")
    print("named", os.getpid(), flush=True)
except OSError:
    print("taken", os.getpid(), flush=True)
time.sleep(60)
"""


@contextlib.contextmanager
def cog(setup: str = "0", **settings: Any) -> Iterator[Any]:
    """A stand-in for Cog's server, started and ended as the real one is."""
    server = cog_server.CogServer(command=STAND_IN, env={"STAND_IN_SETUP": setup}, **settings)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def until(true: Callable[[], object], seconds: float = 10) -> None:
    """Return when *true* is."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(
    subprocess.run(ALONE, capture_output=True, check=False).returncode != 0,
    reason="unshare cannot make process IDs anew",
)
def test_servers_with_equal_process_ids_on_one_network_are_kept_apart() -> None:
    """Cog's server names a socket of the network after its process ID; containers on the host's network have few of them."""
    command = [*ALONE[:-1], sys.executable, "-c", STARTS, sys.executable, "-c", NAMED]
    env = {**os.environ, "PYTHONPATH": str(KIT)}
    pipe = subprocess.PIPE
    both = [subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    said = [process.stdout.readline() for process in both if process.stdout]
    for process in both:
        process.communicate()
    assert [line.split()[0] for line in said] == ["named", "named"]
    assert len({line.split()[1] for line in said}) == 2


@pytest.mark.slow
def test_a_prediction_waits_for_setup_and_for_its_turn() -> None:
    """Before setup is through nothing is predicted; ten at once all get their own answer, one after the other."""
    with cog("0.4") as server:
        assert server.status() == "STARTING"
        with pytest.raises(cog_server.NotReady):
            server.predict({"text": "a"})
        server.wait_until_ready(10)
        answers: list[Any] = []
        threads = [
            threading.Thread(target=lambda n=n: answers.append(server.predict({"sleep": 0.01, "output": n})))
            for n in range(10)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers) == list(range(10))


@pytest.mark.slow
def test_a_server_that_is_busy_with_others_is_asked_again() -> None:
    """Where more are let through than it takes, those that it turns away come again."""
    with cog(at_once=4) as server:
        server.wait_until_ready(10)
        slow = threading.Thread(target=server.predict, args=({"sleep": 0.3},))
        slow.start()
        until(lambda: server.status() == "BUSY")
        assert server.predict({"output": 1}) == 1
        slow.join()


def test_what_went_wrong_has_a_kind() -> None:
    """Refused input, a failed prediction, a server that ends, and setup() that fails."""
    with cog() as server:
        server.wait_until_ready(10)
        with pytest.raises(cog_server.InputRefused, match=r"^text: too short$"):
            server.predict({"refuse": "too short"})
        with pytest.raises(cog_server.PredictionFailed, match=r"^no such word$"):
            server.predict({"fail": "no such word"})
        with pytest.raises(cog_server.NotReady, match="went away"):
            server.predict({"end": 3})
        deadline = time.monotonic() + 10
        while server.status() != "GONE":  # its connections end a moment before itself
            assert time.monotonic() < deadline
            time.sleep(0.01)
    with cog("fails") as server, pytest.raises(cog_server.NotReady, match="SETUP_FAILED"):
        server.wait_until_ready(10)


@contextlib.contextmanager
def door() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A small server above the stand-in, as a process; its port."""
    env = {**os.environ, "PYTHONPATH": str(KIT), "MAX_REQUEST_BYTES": "1000"}
    process = subprocess.Popen(
        [sys.executable, "-c", DOOR, *STAND_IN], env=env, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        port = int(process.stderr.readline().split("port ")[1].split(",")[0])
        until(lambda: b"READY" in sent(port, ASK))
        yield process, port
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def sent(port: int, request: bytes) -> bytes:
    """Return all that comes back to raw bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_bodies_come_by_length_and_in_chunks() -> None:
    """What can't be read or is too large is refused with the reason, and the connection ends."""
    head = b"POST / HTTP/1.1\r\nConnection: close\r\n"

    def answer(rest: bytes) -> tuple[int, bytes]:
        said = sent(port, head + rest)
        return int(said.split()[1]), said.partition(b"\r\n\r\n")[2].strip()

    with door() as (_, port):
        assert answer(b"Content-Length: 3\r\n\r\nabc") == (200, b"abc")
        assert answer(b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n") == (
            200,
            b"abc",
        )
        assert answer(b"Transfer-Encoding: chunked\r\n\r\nzz\r\n") == (
            400,
            b'"the body\'s chunks cannot be read"',
        )
        assert answer(b"Content-Length: x\r\n\r\n")[0] == 400
        assert answer(b"Content-Length: 1001\r\n\r\n") == (413, b'"the body has more than 1000 bytes"')
        assert answer(b"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx")[0] == 415


@pytest.mark.slow
def test_what_runs_may_end_after_sigterm() -> None:
    """A prediction under way gets its answer, an idle connection holds nothing up, and Cog's server is gone."""
    with door() as (process, port):
        idle, slow = (http.client.HTTPConnection("127.0.0.1", port, timeout=10) for _ in range(2))
        idle.request("GET", "/")
        idle.getresponse().read()
        slow.request("POST", "/", b"slow")
        until(lambda: b"BUSY" in sent(port, ASK))
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert slow.getresponse().read() == b"slow"
        assert process.wait(10) == 0
        assert time.monotonic() - began < 5
        idle.close()
        slow.close()


@pytest.mark.slow
def test_a_server_without_cogs_server_ends() -> None:
    """So that whoever runs it starts it anew; and Cog's server ends with what started it, however that ended."""
    with door() as (process, _):
        assert process.stderr is not None
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGKILL)
        assert process.wait(10) == 1
        assert process.stderr.read().endswith("Cog's server has ended with -9\n")
    with door() as (process, _):
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.kill()
        until(lambda: not os.path.exists(f"/proc/{child}"))
