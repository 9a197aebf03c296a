"""A connection that breaks, wherever it breaks, and a server that goes away: nothing is begun twice, nothing is lost."""

from __future__ import annotations

import contextlib
import io
import json
import re
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest
from conftest import Sandbox
from servers import COGBUILD, Cutting, Serving, command, environment

#: Says what makes missing or repeated lines seen, and waits for a file before it goes on.
TALKING = """
i=0
while test $i -lt 40; do i=$((i+1)); echo "line $i" >&2; done
echo x > "$COG_OUTPUT_DIR/made.txt"
echo "$COG_OUTPUT_DIR/made.txt"
"""


@pytest.fixture
def site(box: Sandbox) -> Sandbox:
    """A sandbox with an adapter that talks, and a model of several files."""
    box.adapter("cog-test")
    box.adapter("talk", box.counting("talk", TALKING))
    box.model("m", {f"part{number}": str(number) * 50_000 for number in range(6)})
    return box


def said(stderr: str) -> list[str]:
    """Return the adapter's lines."""
    return re.findall(r":talk \| (.*)", stderr)


def built(site: Sandbox, url: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Build the model at an address."""
    return command(site, "build", site.root / "models" / "m", "--server", url, "--repo", "ada/m", *more)


WHOLE = [f"line {number}" for number in range(1, 41)]
#: Where connections are cut, one after the other: in what is asked, in what is sent, in what is answered.
CUTS = {
    "answers": [("answer", size) for size in (1, 60, 200, 350, 500, 900, 1500, 2500, 4000, 6000)],
    "requests": [("request", size) for size in (10, 300, 20_000, 49_000, 90_000, 180_000, 240_000)],
    "both": [
        ("request", 60_000),
        ("answer", 700),
        ("request", 110_000),
        ("answer", 5_000),
        ("answer", 3_000),
    ],
    "nothing at all": [("answer", 400), ("answer", 0), ("answer", 0), ("answer", 0), ("request", 0)],
}


@pytest.mark.slow
@pytest.mark.parametrize("cuts", CUTS.values(), ids=CUTS)
def test_every_connection_is_cut_somewhere_and_all_is_built_once(
    site: Sandbox, cuts: list[tuple[str, int]]
) -> None:
    """The first connection has to work; then each in turn breaks after some bytes. No adapter runs twice, each line is said once."""
    with Serving(site) as server:
        proxy = Cutting(server.port, [("answer", 1 << 30), *cuts])
        done = built(site, proxy.url)
        proxy.close()
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "2 built"), done.stderr
    assert said(done.stderr) == WHOLE
    assert site.ran() == ["m cog-test", "m talk"]
    assert proxy.connections > len(cuts) - proxy.left


@pytest.mark.slow
def test_answers_are_cut_everywhere(site: Sandbox) -> None:
    """One cut at every few bytes of the log's stream: whatever half a line, half a header or half a message is left."""
    with Serving(site) as server:
        assert built(site, server.url).returncode == 0
        for start in range(150, 2500, 470):
            cuts = [("answer", size) for size in range(start, start + 470, 23)]
            proxy = Cutting(server.port, [("answer", 1 << 30), *cuts])
            done = built(site, proxy.url, "--force")
            proxy.close()
            assert (done.returncode, said(done.stderr)) == (0, WHOLE), (start, done.stderr)
    assert len(site.ran()) == 2 + 2 * len(range(150, 2500, 470))


class Ending:
    """A proxy that ends a stream as if it were whole, or breaks it off, after so many bytes of its answer.

    *cuts* are (how, bytes) for one stream after the other, the last one for all that follow; *how* is "ended" or "broken".
    """

    def __init__(self, port: int, cuts: list[tuple[str, int]]) -> None:
        self._to = port
        self._cuts = cuts
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        self._listening.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                met = self._listening.accept()[0]
                with met, socket.create_connection(("127.0.0.1", self._to)) as server:
                    self._pass_on(met, server)

    def _pass_on(self, met: socket.socket, server: socket.socket) -> None:
        """Answer one request; what speaks HTTP/1.0 gets an answer that ends where the connection does."""
        asked = met.recv(1 << 16)
        line, rest = asked.replace(b"Connection: keep-alive", b"Connection: close").split(b"\r\n", 1)
        server.sendall(line.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n" + rest)
        answer = b"".join(iter(lambda: server.recv(1 << 16), b""))
        if b"/events " not in line:
            met.sendall(answer)
            return
        how, size = self._cuts.pop(0) if len(self._cuts) > 1 else self._cuts[0]
        start = answer.index(b"\r\n\r\n") + 4
        met.sendall(answer[: start + size])
        if how == "broken":
            time.sleep(0.1)  # or what was sent is lost with it
            met.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.slow
def test_a_stream_that_is_ended_early_is_heard_to_its_end(site: Sandbox) -> None:
    """Cleanly or not, and again and again after the job has ended; what brings nothing new is told."""
    with Serving(site) as server:
        told = json.loads(built(site, server.url, "--json").stdout)
        for cuts in (
            [("ended", 2000)],
            [("ended", 2500), ("broken", 2000), ("broken", 0), ("ended", 2000)],
        ):
            proxy = Ending(server.port, cuts)
            followed = command(site, "build", "--server", proxy.url, "--job", told["job"])
            proxy.close()
            assert (followed.returncode, followed.stdout[-8:]) == (0, "2 built\n"), followed.stderr
            assert said(followed.stderr) == WHOLE
            assert "note:" not in followed.stderr
        proxy = Ending(server.port, [("ended", 1500), ("ended", 0)])
        followed = command(site, "build", "--server", proxy.url, "--job", told["job"], "--json")
        proxy.close()
    unheard = "what the job said at its end could not be heard"
    assert (followed.returncode, followed.stderr.splitlines()[-1]) == (0, f"note: {unheard}")
    assert json.loads(followed.stdout)["notes"] == [unheard]


WAITING = """
echo begun >&2
while ! test -e {go}; do sleep 0.02; done
echo going on >&2
echo x > "$COG_OUTPUT_DIR/made.txt"
echo "$COG_OUTPUT_DIR/made.txt"
"""


def begun(box: Sandbox, **environ: str) -> tuple[subprocess.Popen[str], Serving]:
    """Return a build whose adapter waits for the file ``go``, and the server."""
    box.adapter("cog-test")
    box.adapter("wait", box.counting("wait", WAITING.format(go=box.root / "go")))
    box.model("m")
    server = Serving(box)
    build = subprocess.Popen(
        [*COGBUILD, "build", box.root / "models" / "m", "--server", server.url, "--repo", "ada/m"],
        cwd=box.root / "site",
        env=environment(**environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return build, server


@pytest.mark.slow
@pytest.mark.parametrize("kill", [False, True], ids=["ended", "killed"])
def test_the_server_is_begun_again_in_the_middle(box: Sandbox, kill: bool) -> None:
    """The job is taken up where it was, and so is what it says: the client waits, and ends well."""
    build, server = begun(box)
    deadline = time.monotonic() + 30
    while box.ran() != ["m cog-test", "m wait"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    server.end(kill=kill)
    time.sleep(0.3)
    (box.root / "go").touch()
    server.begin()
    out, err = build.communicate(timeout=60)
    server.end()
    assert build.returncode == 0, err
    assert "wait: file://" in out
    assert err.count("going on") == 1
    assert box.ran() == ["m cog-test", "m wait", "m wait"]  # what was ended in the middle ran again, once


@pytest.mark.slow
def test_a_server_that_does_not_come_back_is_given_up(box: Sandbox) -> None:
    """The error says that the work goes on, and with which command it is followed."""
    from cogbuild.client.address import Address
    from cogbuild.client.http import Server
    from cogbuild.client.jobs import Heard, follow
    from cogbuild.client.shown import Screen
    from cogbuild.errors.client import ConnectionLost

    serving = Serving(box)
    with Server(Address(serving.url), patience=0.3) as server:
        assert server.speaks() == 2
        serving.end(kill=True)
        screen = Screen(io.StringIO(), io.StringIO())
        with pytest.raises(ConnectionLost) as caught:
            follow(server, "0" * 16, Heard(screen), goes_on="cogbuild build --job 7")
    assert str(caught.value) == (
        f"the connection to {serving.url} broke and did not come back in 0.3 s\n"
        "  reason  connection refused\n"
        "hint: the work goes on there: follow it with `cogbuild build --job 7`"
    )
    assert caught.value.exit_code == 3


def interrupted(box: Sandbox, number: int) -> tuple[subprocess.Popen[str], Serving]:
    """Return a build that has been sent a signal while its adapter ran, and the server."""
    build, server = begun(box)
    assert build.stderr is not None
    while "begun" not in build.stderr.readline():
        pass
    build.send_signal(number)
    return build, server


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_leaves_the_job_and_says_how_to_follow_it(
    box: Sandbox, number: int, code: int
) -> None:
    """Without a terminal nobody can be asked; the command that is named shows everything from the beginning."""
    build, server = interrupted(box, number)
    _, err = build.communicate(timeout=20)
    assert build.returncode == code
    said = re.fullmatch(r"the work goes on there: follow it with `cogbuild (.*)`\n", err)
    assert said is not None, err
    (box.root / "go").touch()
    followed = command(box, *said[1].split())
    server.end()
    assert followed.returncode == 0, followed.stderr
    assert ":wait | begun\n" in followed.stderr
    assert ":wait | going on\n" in followed.stderr
    assert re.search(r"^[0-9a-f]{40}  ada/m\nwait: file://", followed.stdout, re.MULTILINE)
    assert box.ran() == ["m cog-test", "m wait"]


@pytest.mark.slow
def test_a_token_that_is_taken_back_meanwhile_leaves_the_job_and_says_how_to_follow_it(box: Sandbox) -> None:
    """Another token can follow it, with the command that is named."""
    new = ("tokens", "new", "--repo", "ada/m", "--can", "push,adapt,read", "--json")
    mine, other = (json.loads(command(box, *new).stdout)["token"] for _ in range(2))
    build, server = begun(box, COGBUILD_TOKEN=mine)
    assert build.stderr is not None
    while "begun" not in build.stderr.readline():
        pass
    assert command(box, "tokens", "rm", mine).returncode == 0
    server.end()
    server.begin()
    _, err = build.communicate(timeout=20)
    assert build.returncode == 2
    said = re.search(
        r"^the work goes on there: follow it with `cogbuild (.*)`\n"
        rf"{server.url} does not know this token\nhint: ",
        err,
        re.MULTILINE,
    )
    assert said is not None, err
    (box.root / "go").touch()
    followed = command(box, *said[1].split(), COGBUILD_TOKEN=other)
    server.end()
    assert (followed.returncode, followed.stdout.splitlines()[-1]) == (0, "1 built, 1 fresh")
