"""Nothing is left: whatever a command has started ends with it, with the pool and with us."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cogbuild.errors.adapters_process import ProtectionRefused
from cogbuild.process import Command, Ended, Level, Pool, Reason, capture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}
ROOT = Path(__file__).resolve().parents[2]
#: Starts children that leave the session and the family; the marker is in the command line of each.
FAMILY = "setsid sh -c 'sleep 60; :' {0} & (setsid sh -c 'sleep 60; :' {0} &) & sh -c 'sleep 60; :' {0} & {1}"


#: The levels between the strongest and the weakest are made of the same parts as these.
BETWEEN = (Level.BUBBLEWRAP, Level.CGROUP)


@pytest.fixture(
    params=[pytest.param(level, marks=pytest.mark.slow if level in BETWEEN else ()) for level in Level]
)
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    """Make a pool at each level that this machine gives."""
    with Pool(2, level=request.param) as pool:
        try:
            assert pool.protection.level == request.param
        except ProtectionRefused as refused:
            pytest.skip(str(refused))
        yield pool


@pytest.fixture
def marker() -> Iterator[str]:
    """Make a word that marks the processes of one test."""
    word = f"marker-{uuid.uuid4().hex}"
    yield word
    for process in marked(word):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def marked(word: str) -> list[int]:
    """Return the processes with *word* in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and word.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def alive(process: int) -> bool:
    """Whether a process is there and not merely waiting to be reaped."""
    with contextlib.suppress(OSError):
        return bool(Path(f"/proc/{process}/cmdline").read_bytes())
    return False


def until(condition: Callable[[], object]) -> None:
    """Wait, not for long, until *condition* holds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "waited for in vain"
        time.sleep(0.01)


def family(word: str, end: str, *, quiet: bool = False, **options: float) -> Command:
    """Make a command that starts a family and goes on with *end*."""
    text = ("exec >/dev/null 2>&1; " if quiet else "") + FAMILY.format(word, end)
    return Command(("sh", "-c", text), ENVIRONMENT, Path("/"), **options)  # type: ignore[arg-type]  # numbers only


def in_thread(pool: Pool, command: Command) -> tuple[threading.Thread, list[Ended]]:
    """Run *command* in a thread of its own."""
    results = list[Ended]()
    thread = threading.Thread(target=lambda: results.append(pool.run(command)))
    thread.start()
    return thread, results


def test_descendants_end_with_the_script(pool: Pool, marker: str) -> None:
    """What is left in the background, in sessions of its own, is gone when run returns."""
    ended = pool.run(family(marker, "exit 0", quiet=True))
    assert ended.reason is Reason.EXIT
    assert marked(marker) == []


def test_descendants_end_at_the_timeout(pool: Pool, marker: str) -> None:
    """None is left of a family that left its session when the time is up."""
    ended = pool.run(family(marker, "wait", timeout=0.3))
    assert ended.reason is Reason.TIMEOUT
    assert marked(marker) == []


def test_cancel_ends_what_runs_and_starts_nothing_more(pool: Pool, marker: str) -> None:
    """Cancelling from another thread ends the command with its family; later ones are cancelled at once."""
    thread, results = in_thread(pool, family(marker, "wait"))
    until(lambda: len(marked(marker)) >= 4)
    began = time.monotonic()
    pool.cancel()
    thread.join()
    assert results[0].reason is Reason.CANCELLED
    assert marked(marker) == []
    assert pool.run(family(marker, "wait")).reason is Reason.CANCELLED
    assert time.monotonic() - began < 2


def test_close_ends_what_runs(pool: Pool, marker: str) -> None:
    """Closing the pool ends the command that runs and waits until it has ended."""
    thread, results = in_thread(pool, family(marker, "wait"))
    until(lambda: len(marked(marker)) >= 4)
    pool.close()
    assert marked(marker) == []
    thread.join()
    assert results[0].reason is Reason.CANCELLED


def workers(top: int) -> list[int]:
    """Return the worker processes below *top*, the innermost last."""
    below, found = [top], list[int]()
    for process in below:
        with suppress(FileNotFoundError, ProcessLookupError):  # a short-lived child may end while we look
            for task in (Path("/proc") / str(process) / "task").iterdir():
                below += map(int, (task / "children").read_text().split())
            if b"worker/__main__.py" in (Path("/proc") / str(process) / "cmdline").read_bytes():
                found.append(process)
    return found


def test_killed_worker_is_a_lost_command(pool: Pool, marker: str) -> None:
    """A command whose worker is killed is lost, its family ends where the kernel sees to it, and the pool goes on."""
    thread, results = in_thread(pool, family(marker, "wait"))
    until(lambda: len(marked(marker)) >= 4)
    os.kill(workers(os.getpid())[-1], signal.SIGKILL)
    thread.join()
    assert (results[0].reason, results[0].detail) == (Reason.LOST, "its worker was killed")
    if pool.protection.level is not Level.SUBREAPER:  # there, nobody else knows of them
        until(lambda: marked(marker) == [])
    assert pool.run(Command(("sh", "-c", "exit 3"), ENVIRONMENT, Path("/"))).code == 3


DRIVER = """
import sys
from pathlib import Path
from cogbuild.process import Command, Level, Pool
with Pool(1, level=Level(sys.argv[1])) as pool:
    pool.run(Command(("sh", "-c", sys.argv[2]), {"PATH": "/usr/bin:/bin"}, Path("/")))
"""


def test_all_ends_when_we_are_killed(pool: Pool, marker: str) -> None:
    """SIGKILL of the main process leaves neither a worker nor a descendant."""
    level = pool.protection.level
    words = [sys.executable, "-c", DRIVER, level, FAMILY.format(marker, "wait")]
    with subprocess.Popen(words, env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}) as driver:
        try:
            # The driver has the marker in its own command line, and so has bwrap's script.
            until(lambda: len(marked(marker)) >= 5)
            holders = workers(driver.pid)
        finally:
            driver.kill()
    until(lambda: marked(marker) == [])
    until(lambda: not any(alive(process) for process in holders))
    assert [
        group for process in holders for group in Path("/sys/fs/cgroup").glob(f"*/cogbuild-{process}-*")
    ] == []


def test_capture_ends_the_group_at_its_timeout(marker: str) -> None:
    """At the timeout a tool of our own is killed with its children."""
    began = time.monotonic()
    done = capture(["sh", "-c", f"sh -c 'sleep 60; :' {marker} & sleep 60"], timeout=0.2)
    assert (done.code, done.timed_out) == (-signal.SIGKILL, True)
    assert time.monotonic() - began < 2
    until(lambda: marked(marker) == [])


def test_pool_leaves_no_process_behind() -> None:
    """After a pool is closed no worker is left, not even as a zombie."""
    with Pool(2) as pool:
        pool.run(Command(("true",), ENVIRONMENT, Path("/")))
        assert workers(os.getpid()) != []
    assert workers(os.getpid()) == []


FLOOD = """
import re, sys, threading
from pathlib import Path
from cogbuild.process import Command, Pool

def peak(process):
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path(f"/proc/{process}/status").read_text())[1]) >> 10

def family(process):
    yield process
    for task in Path(f"/proc/{process}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from family(child)

size = sys.argv[1]
with Pool(1) as pool, open("/dev/null", "wb") as log:
    text = f"head -c {size} /dev/zero >&2 & head -c {size} /dev/zero; wait"
    ended = pool.run(Command(("sh", "-c", text), {"PATH": "/usr/bin:/bin"}, Path("/")), log=log, on_line=len)
    print(ended.stdout_cut, ended.log_bytes, sum(map(peak, family("self"))))
"""


@pytest.mark.slow
def test_flood_of_400_megabytes_takes_little_memory() -> None:
    """A line of 400 MB on each pipe passes through less than 100 MB, of all our processes together."""
    size = 400_000_000
    done = subprocess.run(
        [sys.executable, "-c", FLOOD, str(size)],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
    )
    cut, logged, megabytes = map(int, done.stdout.split())
    assert (cut, logged) == (size - (64 << 10), size)
    assert megabytes < 100


# Memory


def memory_group() -> Iterator[tuple[Path, str]]:
    """Candidates for a new memory group below our own, with the file that limits it."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, below = line.split(":", 2)
        if controllers == "memory":
            yield Path("/sys/fs/cgroup/memory" + below), "memory.limit_in_bytes"
        elif not controllers:
            for top in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
                yield Path(top + below), "memory.max"


def remove_group(group: Path) -> None:
    """Remove a control group once its last process is gone."""
    until(lambda: not (group / "cgroup.procs").read_text())
    group.rmdir()


@pytest.fixture
def small_memory() -> Iterator[Path]:
    """Make a memory group of 128 MB."""
    for parent, limit in memory_group():
        group = parent / f"test-{uuid.uuid4().hex}"
        with contextlib.suppress(OSError):
            group.mkdir()
            try:
                (group / limit).write_text(str(128 << 20))
                yield group
                return
            finally:
                remove_group(group)
    pytest.skip("no memory control group can be made here")


GREEDY = """
import sys
from pathlib import Path
from cogbuild.process import Command, Level, Pool
with Pool(1, level=Level(sys.argv[1])) as pool:
    for text in sys.argv[2:]:
        ended = pool.run(Command(("sh", "-c", text), {"PATH": "/usr/bin:/bin"}, Path("/")))
        print(ended.reason, ended.code, ended.signal)
"""


def test_memory_is_told_from_a_signal(pool: Pool, small_memory: Path) -> None:
    """What the kernel kills for want of memory is told from a plain SIGKILL, also where a shell passes it on."""
    greedy = f"{sys.executable} -c 'bytearray(400 << 20)'"
    words = [sys.executable, "-c", GREEDY, pool.protection.level]
    words += [f"exec {greedy}", f"{greedy}; exit $?", "kill -9 $$", "exit 137"]
    done = subprocess.run(
        ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', small_memory, *words],
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().splitlines() == [
        "memory None 9",
        "memory 137 None",
        "signal None 9",
        "exit 137 None",
    ]


# Not root


ORDINARY = """
import os, sys
from pathlib import Path
from cogbuild.process import Command, Pool
from cogbuild.process.values import View
top = Path(sys.argv[1])
with Pool(1) as pool:
    print(pool.protection.level, pool.protection.overlay)
    view = View(top / "root", (top / "model",), masked=("hidden",)) if pool.protection.overlay else None
    text = "id -u; ls; rm file && echo more > new; chmod 700 locked; ls locked; ls"
    ended = pool.run(Command(("sh", "-c", text), {"PATH": "/usr/bin:/bin"}, top / "root", view))
    print(ended.code, ended.stdout.split())
    ended = pool.run(Command(("sh", "-c", sys.argv[2]), {"PATH": "/usr/bin:/bin"}, top, timeout=0.3))
    print(ended.reason)
"""


def test_ordinary_user_has_the_same(marker: str) -> None:
    """A user without rights gets views and supervision as root does."""
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    if os.getuid() or python is None or not shutil.which("setpriv"):
        pytest.skip("needs root, setpriv and a python3 that every user can read")
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        (top / "model" / "locked").mkdir(parents=True)
        (top / "root").mkdir()
        for file in ("file", "hidden", "locked/deep"):
            (top / "model" / file).write_text(file)
        for path in (top, *top.rglob("*")):
            os.chown(path, 65534, 65534)
        (top / "model" / "file").chmod(0o444)
        done = subprocess.run(
            [
                *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
                *(python, "-c", ORDINARY, name, FAMILY.format(marker, "wait")),
            ],
            env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            check=False,
        )
    assert done.stdout.decode().splitlines()[1:] == [
        "0 [b'65534', b'file', b'locked', b'deep', b'locked', b'new']",
        "timeout",
    ], done.stderr.decode()
    assert marked(marker) == []
