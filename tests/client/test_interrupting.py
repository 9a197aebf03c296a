"""A build on a terminal: what is drawn while files are sent and adapters run, and what Ctrl-C does."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from pathlib import Path

import pytest
from conftest import Sandbox
from servers import COGBUILD, Serving, command, environment

WAITING = """
printf 'begun \\033[31mred\\n' >&2
while ! test -e {go}; do sleep 0.02; done
echo x > "$COG_OUTPUT_DIR/made.txt"
echo "$COG_OUTPUT_DIR/made.txt"
"""
QUESTION = "cancel the work on the server too? [y]es, [n]o, [w]atch on: "


class Terminal:
    """A command with a terminal as stdin, stdout and stderr."""

    def __init__(self, words: list[str], cwd: Path) -> None:
        self._ours, theirs = pty.openpty()
        env = environment(TERM="xterm")
        # In a session of its own with this terminal, so that Ctrl-C is what a keyboard sends.
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *words],
            cwd=cwd,
            env=env,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.written = b""

    def until(self, text: str, seconds: float = 30) -> None:
        """Read until *text* was written."""
        deadline = time.monotonic() + seconds
        while text not in self.plain:
            assert time.monotonic() < deadline, self.plain
            if not self._read():
                assert text in self.plain, self.plain

    def press(self, keys: str) -> None:
        """Send keys."""
        os.write(self._ours, keys.encode())

    def end(self) -> int:
        """Read to the end; return the exit code."""
        while self._read():
            pass
        os.close(self._ours)
        return self.process.wait(timeout=20)

    def _read(self) -> bool:
        if not select.select([self._ours], [], [], 0.1)[0]:
            return True
        try:
            data = os.read(self._ours, 1 << 16)
        except OSError:  # the other end is closed
            return False
        self.written += data
        return bool(data)

    @property
    def plain(self) -> str:
        """What was written, without control sequences."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.written.decode(errors="replace")).replace(
            "\r\n", "\n"
        )


@pytest.fixture
def site(box: Sandbox) -> Sandbox:
    """An adapter that waits for a file, and a model of some size."""
    box.adapter("cog-test")
    box.adapter("wait", box.counting("wait", WAITING.format(go=box.root / "go")))
    box.model("m", {"large.bin": "x" * 3_000_000})
    return box


def building(site: Sandbox, server: Serving) -> Terminal:
    """Return a build on a terminal whose adapter runs."""
    words = [*COGBUILD, "build", str(site.root / "models" / "m"), "--server", server.url, "--repo", "ada/m"]
    terminal = Terminal(words, site.root / "site")
    terminal.until("begun \\x1b[31mred")
    return terminal


def job_state(site: Sandbox, server: Serving, terminal: Terminal) -> str:
    """Return how a build's job stands, by the command that it named."""
    found = re.search(r"--job ([0-9a-f]+)", terminal.plain)
    assert found is not None, terminal.plain
    followed = command(site, "build", "--server", server.url, "--job", found[1])
    return followed.stdout.splitlines()[-1]


@pytest.mark.slow
def test_what_is_sent_and_what_runs_is_drawn(site: Sandbox) -> None:
    """A line says what was sent; the running pair has its last line, escaped; then results, artifacts and totals stay."""
    with Serving(site) as server:
        terminal = building(site, server)
        terminal.until("1 of 2 done, 1 running")
        (site.root / "go").touch()
        assert terminal.end() == 0
    shown = terminal.plain
    assert "sent 4 files, 3.0 MB\n" in shown
    assert "Testing the model\n" in shown
    assert re.search(r"\d s  ada/m@[0-9a-f]{12}:wait  begun \\x1b\[31mred", shown)
    assert re.search(r"built    ada/m@[0-9a-f]{12}:wait  \d+\.\d s\n  file://", shown)
    assert re.search(r"[\r\n][0-9a-f]{40}  ada/m\nwait: file://\S+\n2 built\n$", shown)
    assert "\x1b[31mred" not in terminal.written.decode()


@pytest.mark.slow
def test_ctrl_c_and_yes_cancels_there_too(site: Sandbox) -> None:
    """The adapter is ended there, nothing was made, and the exit code is that of an interruption."""
    with Serving(site) as server:
        terminal = building(site, server)
        terminal.press("\x03")
        terminal.until(QUESTION)
        terminal.press("y\n")
        assert terminal.end() == 130
        assert "asked the server to cancel it; Ctrl-C again ends this at once\n" in terminal.plain
        assert command(site, "models", "show", listed(site)).stdout.count("wait:") == 0


def listed(site: Sandbox) -> str:
    """Return the one model's ID."""
    return command(site, "models", "ls").stdout.splitlines()[1].split()[0]


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["n\n", "\x04", "\x03"])
def test_ctrl_c_and_anything_but_yes_leaves_it(site: Sandbox, answer: str) -> None:
    """No, the end of the input and a second Ctrl-C: the job goes on, and how to follow it is said."""
    with Serving(site) as server:
        terminal = building(site, server)
        terminal.press("\x03")
        terminal.until(QUESTION)
        terminal.press(answer)
        assert terminal.end() == 130
        (site.root / "go").touch()
        assert job_state(site, server, terminal) == "2 built"
    assert site.ran() == ["m cog-test", "m wait"]


@pytest.mark.slow
def test_ctrl_c_and_watching_on(site: Sandbox) -> None:
    """The display comes back, and it ends as if nobody had asked."""
    with Serving(site) as server:
        terminal = building(site, server)
        terminal.press("\x03")
        terminal.until(QUESTION)
        seen = terminal.plain.count("1 running")
        terminal.press("w\n")
        (site.root / "go").touch()
        assert terminal.end() == 0
    assert terminal.plain.endswith("2 built\n")
    assert terminal.plain.count("1 running") >= seen


@pytest.mark.slow
def test_ctrl_c_while_files_are_sent(site: Sandbox) -> None:
    """Nothing was begun; what has arrived is not sent again, and is spoken of only where there is something."""
    with (site.root / "models" / "m" / "huge.bin").open("wb") as file:
        file.truncate(2_000_000_000)
    words = [*COGBUILD, "build", str(site.root / "models" / "m"), "--repo", "ada/m"]
    sent = site.root / "site" / ".cogbuild" / "uploads" / "sent"
    arrived = "4 files have arrived: they are kept there for a while, and not sent again\n"

    def contents() -> list[Path]:
        return [path for path in sent.rglob("*") if re.fullmatch("[0-9a-f]{64}", path.name)]

    with Serving(site) as server:
        for again in (False, True):
            terminal = Terminal([*words, "--server", server.url], site.root / "site")
            terminal.until("sending")
            while len(contents()) < 4:
                time.sleep(0.02)
            time.sleep(0.2)
            terminal.press("\x03")
            began = time.monotonic()
            assert terminal.end() == 130
            assert time.monotonic() - began < 5
            assert ("arrived" in terminal.plain, arrived in terminal.plain) == (not again, not again)
            assert len(contents()) == 4
        assert command(site, "models", "ls").stdout.startswith("no models")
    assert site.ran() == []
