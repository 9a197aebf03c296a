"""The program begins and ends quickly, and nothing is lost by that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = "import sys; sys.argv[0] = 'cogbuild'; {before}; from cogbuild.__main__ import console; console()"


def run(*arguments: str, before: str = "pass", cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the program as the console script does."""
    command = [sys.executable, "-c", PROGRAM.format(before=before), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "code", "out"),
    [(["--version"], 0, "cogbuild 0.1.0\n"), (["status"], 2, ""), (["no-such-command"], 2, "")],
)
def test_the_exit_code_and_all_output_arrive(
    tmp_path: Path, arguments: list[str], code: int, out: str
) -> None:
    """Both streams are pipes here, which Python holds back until they are flushed."""
    done = run(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, out)
    assert bool(done.stderr) == (code != 0)


def test_what_registered_itself_for_the_end_is_run(tmp_path: Path) -> None:
    """Handlers of ``atexit`` are called, in the usual order, and may still print."""
    before = "import atexit; atexit.register(print, 'last'); atexit.register(print, 'first')"
    assert run("--version", before=before, cwd=tmp_path).stdout.splitlines()[1:] == ["first", "last"]


def test_a_thread_that_still_works_is_waited_for(tmp_path: Path) -> None:
    """Only a process with nothing else under way ends at once."""
    before = "import threading, time; threading.Timer(0.3, print, ['done']).start()"
    assert run("--version", before=before, cwd=tmp_path).stdout.splitlines()[1:] == ["done"]


def test_a_profiler_gets_its_result(tmp_path: Path) -> None:
    """Under a profiler the process ends the long way, or the profile would be lost."""
    command = [sys.executable, "-m", "cProfile", "-m", "cogbuild", "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "function calls" in done.stdout


def test_a_reader_that_has_seen_enough_is_no_trouble(tmp_path: Path) -> None:
    """A pipe that is closed early ends the program without a traceback."""
    line = f"{sys.executable} -m cogbuild --help | head -n 1"
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: ")
    assert "Traceback" not in done.stderr
