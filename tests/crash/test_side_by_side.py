"""Several commands at once, and parts of one that are killed while the others go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Sandbox

from cogbuild.engine import Status
from cogbuild.process import Level

#: Seconds that an adapter has between being asked to end and being killed.
GRACE = 2.0

PUBLISH = 'cat weights.bin > "$COG_OUTPUT_DIR/w"; echo "$COG_OUTPUT_DIR/w"'


def start(box: Sandbox, *arguments: str, program: str = "cogbuild", **env: str) -> subprocess.Popen[str]:
    """Start a command in the site."""
    return subprocess.Popen(
        [sys.executable, "-m", program, *arguments],
        cwd=box.root / "site",
        env={**os.environ, **box.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for a command; return its exit code and all that it said."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out + err


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.01)


def descendants(pid: int) -> list[int]:
    """Return the processes that *pid* started, and theirs."""
    below = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        below += [int(number) for number in (task / "children").read_text().split()]
    return below + [inner for child in below for inner in descendants(child)]


@pytest.mark.slow
def test_two_doit_at_once_lose_no_update(box: Sandbox) -> None:
    """Both end well, every pair ran once, everything is recorded, and nobody was locked out."""
    for name in ("one", "two", "three"):
        box.adapter(name, box.counting(name, f"sleep 0.05; {PUBLISH}"))
    for name in "abcdef":
        box.add(name)
    (box.root / "site" / "doit.cfg").write_text("[GLOBAL]\nloader = cogbuild\n")
    (box.root / "site" / "dodo.py").write_text("")
    both = [start(box, "-n", "2", program="doit") for _ in range(2)]
    for code, said in map(ended, both):
        assert code == 0, said
        assert "locked" not in said
        assert "Traceback" not in said
    assert Counter(box.ran()) == dict.fromkeys(
        (f"{m} {a}" for m in "abcdef" for a in ("one", "two", "three")), 1
    )
    assert box.adapt().results == {}


@pytest.mark.slow
@pytest.mark.parametrize("level", [*Level])
def test_a_killed_holder_of_a_lock_holds_nobody_up(box: Sandbox, level: Level) -> None:
    """Also where a child of the adapter, in a session of its own, has kept open whatever it was given."""
    mark = box.root / "began"
    sleep = f"sleep 87.{os.getpid()}"  # found again by this name, and nobody else's
    lingering = f'setsid sh -c "exec 1>&- 2>&-; {sleep}" & '
    box.adapter(
        "one",
        box.counting("one", f"test -e {mark} || {{ {lingering} touch {mark}; {sleep}; }}; {PUBLISH}"),
    )
    box.add("a")
    holder = start(box, "adapt", COGBUILD_PROTECTION=level)
    try:
        until(lambda: mark.exists() or holder.poll() is not None)
        if holder.poll() is not None:
            said = ended(holder)[1]
            assert "this machine does not give the protection" in said
            pytest.skip(f"{level}: {said.splitlines()[0]}")
        waiting = start(box, "adapt", COGBUILD_PROTECTION=level)
        time.sleep(0.3)
        holder.kill()
        killed = time.monotonic()
        code, said = ended(waiting)
    finally:
        holder.kill()
        holder.communicate()
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            if process.exists() and process.read_bytes() == f"{sleep}\0".replace(" ", "\0").encode():
                os.kill(int(process.parent.name), signal.SIGKILL)
    assert code == 0, said
    assert time.monotonic() - killed < 30  # of the 87 that the child sleeps
    assert box.ran() == ["a one", "a one"], said


def test_a_pair_whose_worker_is_killed_fails_with_its_reason(box: Sandbox) -> None:
    """The other pairs are built, the command ends, and the next run builds what was lost."""
    mark = box.root / "began"
    box.adapter("fast")
    box.adapter("slow", box.counting("slow", f"touch {mark}; test -e {mark}.again || sleep 86.5; {PUBLISH}"))
    box.add("a")
    run = start(box, "adapt", "-j", "1")
    until(mark.exists)
    for pid in descendants(run.pid):
        if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
            break
    code, said = ended(run)
    assert code == 1, said
    assert "its worker was killed" in said
    assert "Traceback" not in said
    mark.with_name("began.again").touch()
    again = box.adapt()
    assert "a slow" in again.ran
    assert again.status("a slow") is Status.BUILT


@pytest.mark.slow
def test_a_model_that_is_added_while_a_plan_runs_is_built_by_the_next(box: Sandbox) -> None:
    """The run ends as it was planned; the new model's pair is neither lost nor taken for done."""
    go, mark = box.root / "go", box.root / "began"
    box.adapter(
        "one", box.counting("one", f"touch {mark}; until test -e {go}; do sleep 0.02; done; {PUBLISH}")
    )
    box.add("a")
    run = start(box, "adapt")
    until(mark.exists)
    box.add("b")
    go.touch()
    code, said = ended(run)
    assert code == 0, said
    assert box.ran() == ["a one"]
    assert box.adapt().ran == ["b one"]
    assert box.adapt().results == {}


@pytest.mark.slow
@pytest.mark.parametrize("door", ["cogbuild", "doit"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_ends_who_will_not_end(
    box: Sandbox, door: str, number: signal.Signals, code: int
) -> None:
    """What is finished stays; an adapter and a child of it that ignore SIGTERM are gone within the grace time."""
    mark = box.root / "began"
    stubborn = f"trap '' TERM INT; setsid sh -c 'trap \"\" TERM INT; sleep 85.5' & touch {mark}; sleep 85.5; sleep 85.5"
    box.adapter("fast")
    box.adapter("slow", box.counting("slow", stubborn))
    box.add("a")
    (box.root / "site" / "doit.cfg").write_text("[GLOBAL]\nloader = cogbuild\n")
    (box.root / "site" / "dodo.py").write_text("")
    run = start(box, *(["-n", "2"] if door == "doit" else ["adapt", "-j", "2"]), program=door)
    until(lambda: mark.exists() and "a fast" in box.ran())
    time.sleep(0.3)
    began = time.monotonic()
    below = descendants(run.pid)
    run.send_signal(number)
    result, said = ended(run)
    assert result == code, said
    assert "Traceback" not in said
    assert time.monotonic() - began < GRACE + 3
    assert [pid for pid in below if Path(f"/proc/{pid}").exists()] == []
    assert box.look("a", "fast").verdict.settled
    box.adapter("slow")
    assert box.adapt().ran == ["a slow"]


def test_a_run_with_nothing_to_do_clears_up_after_one_that_was_killed(box: Sandbox) -> None:
    """All was done when it was killed; the next run says that, and its workspaces are gone."""
    box.adapter("one")
    box.add("a")
    box.adapt()
    left = box.data / "work" / "0123456789abcdef" / "run-1"
    left.mkdir(parents=True)
    code, said = ended(start(box, "adapt"))
    assert (code, said) == (0, "1 fresh\n")
    assert not left.parent.exists()
