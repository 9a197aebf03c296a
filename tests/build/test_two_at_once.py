"""Two commands at once, and commands that are interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Sandbox


def start(box: Sandbox, *args: str) -> subprocess.Popen[str]:
    """Start a command in the sandbox's site."""
    return subprocess.Popen(
        [sys.executable, "-m", "cogbuild", *args],
        cwd=box.root / "site",
        env={**os.environ, **box.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(path: Path, seconds: float = 10) -> None:
    """Wait until *path* is there."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.02)


def alive(marker: str) -> list[str]:
    """Return the command lines of processes that carry *marker*."""
    found = []
    for directory in Path("/proc").iterdir():
        try:
            line = (directory / "cmdline").read_bytes() if directory.name.isdigit() else b""
        except OSError:
            continue
        if marker.encode() in line:
            found.append(line.decode(errors="replace"))
    return found


@pytest.mark.parametrize("count", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_many_processes_want_one_pair(box: Sandbox, count: int) -> None:
    """One execution; all the others wait, find it done and exit with 0."""
    box.adapter(
        "one",
        box.counting("one", 'sleep 0.5; cat weights.bin > "$COG_OUTPUT_DIR/w"; echo "$COG_OUTPUT_DIR/w"'),
    )
    box.add("a")
    running = [start(box, "adapt") for _ in range(count)]
    ended = [(process.communicate(timeout=60), process.returncode) for process in running]
    assert [code for _, code in ended] == [0] * count, ended
    assert box.ran() == ["a one"]


@pytest.mark.slow
def test_two_runs_share_a_matrix(box: Sandbox) -> None:
    """Two runs over the same pairs lose no outcome and run no pair twice."""
    for name in ("one", "two"):
        box.adapter(
            name,
            box.counting(name, 'sleep 0.05; cat weights.bin > "$COG_OUTPUT_DIR/w"; echo "$COG_OUTPUT_DIR/w"'),
        )
    for name in "abcd":
        box.add(name)
    running = [start(box, "adapt", "-j", "2") for _ in range(2)]
    ended = [(process.communicate(timeout=60), process.returncode) for process in running]
    assert [code for _, code in ended] == [0, 0], ended
    assert len(box.ran()) == len(set(box.ran())) == 8
    assert box.adapt().results == {}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_keeps_what_is_done_and_leaves_nobody(
    box: Sandbox, number: signal.Signals, code: int
) -> None:
    """The finished pair stays, the running adapter and its descendants end, the exit code says how."""
    mark = box.root / "running"
    box.adapter("fast")
    box.adapter(
        "slow",
        box.counting("slow", f"touch {mark}; echo going >&2; setsid sh -c 'sleep 77.123' & sleep 77.123"),
    )
    box.add("a")
    process = start(box, "adapt", "-j", "1")
    wait_for(mark)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == code, out + err
    assert "Traceback" not in err
    assert alive("sleep 77.123") == alive("sleep\x0077.123") == []
    box.adapter("slow")
    again = box.adapt()
    assert again.ran == ["a slow"]


def test_a_killed_run_leaves_nobody_and_the_next_goes_on(box: Sandbox) -> None:
    """SIGKILL of cogbuild ends the adapter and its descendants; no lock stays; what was done stays done."""
    mark = box.root / "running"
    box.adapter("fast")
    box.adapter(
        "slow", box.counting("slow", f"touch {mark}; echo going >&2; setsid sleep 78.321 & sleep 78.321")
    )
    box.add("a")
    process = start(box, "adapt", "-j", "1")
    wait_for(mark)
    process.kill()
    process.communicate(timeout=20)
    end = time.monotonic() + 5
    while alive("sleep\x0078.321") and time.monotonic() < end:
        time.sleep(0.02)
    assert alive("sleep\x0078.321") == []
    box.adapter("slow")
    again = box.adapt()
    assert again.ran == ["a slow"]
    assert again.exit_code == 0


@pytest.mark.slow
def test_a_second_process_that_forces_runs_after_the_first(box: Sandbox) -> None:
    """Forcing what another run is just building waits for it and is satisfied by it."""
    box.adapter(
        "one",
        box.counting("one", 'sleep 0.5; cat weights.bin > "$COG_OUTPUT_DIR/w"; echo "$COG_OUTPUT_DIR/w"'),
    )
    box.add("a")
    running = [start(box, "adapt", "--force") for _ in range(2)]
    assert [(process.communicate(timeout=60), process.returncode)[1] for process in running] == [0, 0]
    assert box.ran() == ["a one"]
