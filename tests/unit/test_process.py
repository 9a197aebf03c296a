"""One command at each level of protection: how it starts, what it gets, what it says and how it ended."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cogbuild.errors.adapters_process import ProtectionRefused, ProtectionUnknown
from cogbuild.process import Command, Ended, Level, Pool, Reason, capture, protection
from cogbuild.process.lines import PIECE, Lines

if TYPE_CHECKING:
    from collections.abc import Iterator

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}


@pytest.fixture(scope="module", params=list(Level))
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    """Make a pool at each level that this machine gives."""
    with Pool(2, level=request.param) as pool:
        try:
            assert pool.protection.level == request.param
        except ProtectionRefused as refused:
            pytest.skip(str(refused))
        yield pool


def script(at: Path, text: str, mode: int = 0o755) -> Path:
    """Write a script."""
    path = at / "script"
    path.write_text(text)
    path.chmod(mode)
    return path


def sh(
    pool: Pool,
    at: Path,
    text: str,
    *,
    log: io.BytesIO | None = None,
    lines: list[bytes] | None = None,
    **options: float,
) -> Ended:
    """Run a shell script in *at*."""
    command = Command(("sh", "-c", text), ENVIRONMENT, at, **options)  # type: ignore[arg-type]  # numbers only
    return pool.run(command, log=log, on_line=None if lines is None else lines.append)


# Endings


def test_exit_code_and_output_come_back(pool: Pool, tmp_path: Path) -> None:
    """A command that ends by itself gives its code, its stdout, its log and its last line."""
    log, lines = io.BytesIO(), list[bytes]()
    ended = sh(
        pool,
        tmp_path,
        r"echo made; printf 'one\ntwo\n\n  \n' >&2; exit 3",
        log=log,
        lines=lines,
        timeout=10.0,
    )
    assert (ended.reason, ended.code, ended.signal) == (Reason.EXIT, 3, None)
    assert (ended.stdout, ended.stdout_cut, ended.last_line, ended.log_bytes) == (b"made\n", 0, b"two", 12)
    assert log.getvalue() == b"one\ntwo\n\n  \n"
    assert lines == [b"one", b"two", b"", b"  "]
    assert 0 < ended.seconds < 10
    assert 0 < ended.cpu_seconds < 10
    assert 1 << 20 < ended.max_rss < 1 << 30


def test_signal_of_its_own_is_named(pool: Pool, tmp_path: Path) -> None:
    """A command that a signal ended says which, and that it was not memory."""
    ended = sh(pool, tmp_path, "kill -SEGV $$")
    assert (ended.reason, ended.code, ended.signal) == (Reason.SIGNAL, None, signal.SIGSEGV)
    ended = sh(pool, tmp_path, "kill -KILL $$")
    assert (ended.reason, ended.signal) == (Reason.SIGNAL, signal.SIGKILL)


def test_timeout_lets_the_script_end_itself(pool: Pool, tmp_path: Path) -> None:
    """At the timeout the script gets SIGTERM and may still clean up."""
    began = time.monotonic()
    ended = sh(pool, tmp_path, "trap 'echo bye; exit 7' TERM; sleep 60 & wait", timeout=0.2)
    assert (ended.reason, ended.code, ended.stdout) == (Reason.TIMEOUT, 7, b"bye\n")
    assert time.monotonic() - began < 2


def test_timeout_kills_after_the_grace(pool: Pool, tmp_path: Path) -> None:
    """A script that ignores SIGTERM is killed when its grace is over."""
    ended = sh(pool, tmp_path, "trap '' TERM; while :; do sleep 60; done", timeout=0.1, grace=0.1)
    assert (ended.reason, ended.signal) == (Reason.TIMEOUT, signal.SIGKILL)
    assert ended.detail == "did not end when asked to and was killed"
    assert ended.seconds < 2


# Not started


def not_started(pool: Pool, at: Path, *argv: str) -> str:
    """Run what can't be started; return why."""
    ended = pool.run(Command(argv, ENVIRONMENT, at))
    assert ended.reason is Reason.NOT_STARTED
    assert ended.errno is not None
    assert not ended.view_failed
    return ended.detail


def test_what_can_not_be_started_says_why(pool: Pool, tmp_path: Path) -> None:
    """A program that is missing, not executable or of no kind, and a missing interpreter, are told apart."""
    path = script(tmp_path, "#!/no/such/interpreter -x\n")
    assert not_started(pool, tmp_path, str(path)) == (
        f"{path} asks for an interpreter that is not there: /no/such/interpreter -x"
    )
    script(tmp_path, "#!/bin/sh\n", 0o644)
    assert not_started(pool, tmp_path, str(path)) == f"{path} is not executable"
    script(tmp_path, "echo no first line\n")
    assert (
        not_started(pool, tmp_path, str(path))
        == f"{path} is neither a native program nor does it begin with #!"
    )
    path.unlink()
    assert not_started(pool, tmp_path, str(path)) == f"{path}: No such file or directory"
    assert not_started(pool, tmp_path, "no-such-program") == "no-such-program: not found in PATH"


def test_missing_directory_is_not_started(pool: Pool, tmp_path: Path) -> None:
    """A working directory that is not there is named."""
    ended = pool.run(Command(("true",), ENVIRONMENT, tmp_path / "gone"))
    assert (ended.reason, ended.detail) == (
        Reason.NOT_STARTED,
        f"{tmp_path / 'gone'}: No such file or directory",
    )


# What it gets


def test_environment_is_exact(pool: Pool, tmp_path: Path) -> None:
    """The command's variables are those given, whatever bytes they hold, and no others."""
    given = {"PATH": "/usr/bin:/bin", "EMPTY": "", "ODD": os.fsdecode(b"a\nb=\xff")}
    ended = pool.run(Command(("env", "-0"), given, tmp_path))
    assert sorted(ended.stdout.split(b"\0")[:-1]) == sorted(
        os.fsencode(f"{name}={value}") for name, value in given.items()
    )


def test_no_descriptor_but_three(pool: Pool, tmp_path: Path) -> None:
    """The command inherits no open file, not even one that would pass through an exec."""
    leak = os.open(tmp_path, os.O_RDONLY)
    try:
        os.set_inheritable(leak, True)
        ended = pool.run(Command(("ls", "/proc/self/fd"), ENVIRONMENT, tmp_path))
    finally:
        os.close(leak)
    assert ended.stdout == b"0\n1\n2\n3\n"  # 3 is the directory that ls itself has open


def test_process_starts_clean(pool: Pool, tmp_path: Path) -> None:
    """No stdin, umask 022, default signals, a session of its own, no way to gain rights."""
    ended = sh(
        pool,
        tmp_path,
        "cat; umask; pwd; grep -E '^(SigBlk|SigIgn|NoNewPrivs)' /proc/self/status; cut -d' ' -f6 /proc/self/stat",
    )
    mask, directory, blocked, ignored, privileges, session = ended.stdout.decode().splitlines()
    assert (mask, directory) == ("0022", str(tmp_path))
    assert (blocked.split()[1], privileges.split()[1]) == ("0" * 16, "1")
    assert int(ignored.split()[1], 16) & 0x7FFFFFFF == 0  # 32 and 33 belong to the C library
    assert int(session) != os.getsid(0)


# Pipes


def test_flood_and_long_line_are_bounded(pool: Pool, tmp_path: Path) -> None:
    """Of a flood on both pipes the first bytes of stdout and pieces of the line are kept, all of it is counted."""
    size = 20_000_000
    pieces = list[int]()
    ended = pool.run(
        Command(
            ("sh", "-c", f"head -c {size} /dev/zero >&2 & head -c {size} /dev/zero; wait"),
            ENVIRONMENT,
            tmp_path,
        ),
        on_line=lambda line: pieces.append(len(line)),
    )
    assert ended.stdout == bytes(64 << 10)
    assert ended.stdout_cut == size - (64 << 10)
    assert ended.log_bytes == size == sum(pieces)
    assert max(pieces) == PIECE


def test_log_is_cut_at_its_limit(pool: Pool, tmp_path: Path) -> None:
    """A log that reaches its limit ends with a line that says so; no more is shown either, but the last words are known."""
    log, lines = io.BytesIO(), list[bytes]()
    ended = sh(
        pool, tmp_path, "head -c 300000 /dev/zero >&2; echo end >&2", log=log, lines=lines, log_limit=100_000
    )
    assert log.getvalue() == (
        bytes(100_000) + b"\n[cogbuild] cut here: the log reached its limit of 100000 bytes\n"
    )
    assert ended.log_bytes == 300_004
    assert ended.last_line.endswith(b"end")
    assert sum(map(len, lines[:-1])) <= 100_000
    assert lines[-1] == b"[cogbuild] cut here: the log reached its limit of 100000 bytes"


def test_grandchild_that_holds_the_pipes_holds_nothing_up(pool: Pool, tmp_path: Path) -> None:
    """What is left in the background with both pipes open delays the end by half a second, and is ended."""
    began = time.monotonic()
    ended = sh(pool, tmp_path, "sleep 60 & echo done")
    assert (ended.reason, ended.code, ended.stdout) == (Reason.EXIT, 0, b"done\n")
    assert ended.seconds < 0.4
    assert time.monotonic() - began < 1


def test_last_words_of_a_background_child_are_heard(pool: Pool, tmp_path: Path) -> None:
    """Output that arrives shortly after the script's own end still counts."""
    assert sh(pool, tmp_path, "(sleep 0.1; echo late) & exit 0").stdout == b"late\n"


def test_error_of_the_listener_ends_the_command(pool: Pool, tmp_path: Path) -> None:
    """What on_line raises is raised by run, and the pool goes on."""

    def refuse(line: bytes) -> None:
        raise KeyError(line)

    command = Command(("sh", "-c", "echo x >&2; sleep 60"), ENVIRONMENT, tmp_path)
    began = time.monotonic()
    with pytest.raises(KeyError):
        pool.run(command, on_line=refuse)
    assert time.monotonic() - began < 5
    assert sh(pool, tmp_path, "exit 4").code == 4


def test_lines_are_cut_and_joined() -> None:
    """Lines come whole however the stream is cut, long ones in pieces, and the last one that says something stays."""
    seen = list[bytes]()
    lines = Lines(seen.append)
    for part in (b"a", b"b\r\nc\n", b"\n", b"x" * (PIECE + 1), b"\n", b" \n\n", b"end"):
        lines.feed(part)
    assert lines.last == b"end"
    lines.close()
    assert seen == [b"ab", b"c", b"", b"x" * PIECE, b"x", b" ", b"", b"end"]


# Levels


def test_protection_names_a_level_that_works() -> None:
    """What protection() finds can be forced, and each stronger level has its reason."""
    found = protection()
    stronger = list(Level)[: list(Level).index(found.level)]
    assert set(stronger) <= set(found.notes)
    with Pool(1, level=found.level) as pool:
        assert pool.protection.level == found.level


def test_variable_forces_a_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """COGBUILD_PROTECTION chooses, and a name that is none is refused with those that are."""
    monkeypatch.setenv("COGBUILD_PROTECTION", "subreaper")
    assert protection().level is Level.SUBREAPER
    monkeypatch.setenv("COGBUILD_PROTECTION", "armour")
    with pytest.raises(ProtectionUnknown) as caught:
        protection()
    assert str(caught.value) == (
        "COGBUILD_PROTECTION names no protection: armour\n"
        "  known  namespaces, bubblewrap, cgroup, subreaper\n"
        "hint: unset it, or name one of those known"
    )


def test_level_that_is_not_to_be_had_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forcing a level that the machine does not give is an error with the reason."""
    monkeypatch.setenv("PATH", "/nowhere")
    with Pool(1, level=Level.BUBBLEWRAP) as pool, pytest.raises(ProtectionRefused) as caught:
        pool.run(Command(("true",), ENVIRONMENT, Path("/")))
    assert str(caught.value) == (
        "this machine does not give the protection bubblewrap\n"
        "  reason  bwrap is not installed\n"
        "hint: run `cogbuild doctor` to see what it gives, and why not more"
    )


# Our own tools


def test_capture_keeps_both_streams() -> None:
    """A tool's code, stdout and stderr come back, and its lines as they come."""
    lines = list[bytes]()
    done = capture(["sh", "-c", "echo out; echo err >&2; exit 5"], on_line=lines.append)
    assert (done.code, done.stdout, done.stderr, done.timed_out) == (5, b"out\n", b"err\n", False)
    assert lines == [b"err"]


def test_capture_passes_environment_and_directory(tmp_path: Path) -> None:
    """A tool runs where and with what it is told."""
    done = capture(["sh", "-c", 'echo "$X $PWD"'], env={"X": "1", "PATH": "/bin:/usr/bin"}, cwd=tmp_path)
    assert done.stdout == f"1 {tmp_path}\n".encode()


def test_capture_is_bounded_and_not_held_up() -> None:
    """Output past the limit is dropped, and a background child delays the end by half a second at most."""
    began = time.monotonic()
    done = capture(["sh", "-c", "sleep 60 & head -c 1000000 /dev/zero"], limit=1000)
    assert (done.code, len(done.stdout)) == (0, 1000)
    assert time.monotonic() - began < 2


def test_capture_of_a_missing_tool_is_an_os_error() -> None:
    """A tool that is not there is the caller's to explain."""
    with pytest.raises(FileNotFoundError):
        capture(["/no/such/tool"])


def test_import_starts_nothing_heavy() -> None:
    """Importing the module brings neither subprocess nor the pool."""
    code = "import sys, cogbuild.process as p; p.Command; print('subprocess' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"False\n"


@pytest.mark.parametrize("cut", [1, 2, 3, 7])
def test_a_line_that_is_written_over_for_long_says_what_it_says_in_the_end(
    cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A progress bar: its state is told once a second, and then the last one; wherever what is written is cut."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    heard: list[bytes] = []
    taken = Lines(heard.append)
    said = b"begin\r\n" + b"".join(b"\r %3d%%" % percent for percent in range(0, 101, 5)) + b"\nend\n"
    for start in range(0, len(said), cut):
        taken.feed(said[start : start + cut])
        now[0] += cut * 0.05
    taken.close()
    assert (heard[0], heard[-2:]) == (b"begin", [b" 100%", b"end"])
    states = heard[1:-2]
    assert states == sorted(set(states))
    assert set(states) <= {b" %3d%%" % percent for percent in range(0, 101, 5)}
    assert 4 <= len(states) <= 7  # 126 bytes at 20 bytes a second


def test_a_line_that_is_written_over_at_once_is_handed_on_whole() -> None:
    """What it hides on a terminal is seen where control characters are escaped."""
    heard: list[bytes] = []
    taken = Lines(heard.append)
    for data in (b"long line\r", b"short\n", b"a\rb", b"\r\nc"):
        taken.feed(data)
    taken.close()
    assert heard == [b"long line\rshort", b"a\rb", b"c"]
