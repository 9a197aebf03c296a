"""Adapters that flood, fork, hang or pry: what cogbuild as a whole makes of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import peak
from conftest import Sandbox

from cogbuild.errors.adapters_process import ProtectionRefused
from cogbuild.process import Level, Pool

pytestmark = pytest.mark.slow

#: A child in a session of its own, and one whose parents are gone; each has the marker in its command line.
FAMILY = "setsid sh -c 'sleep 60; :' {0} & (setsid sh -c '(sleep 60; :) & sleep 60; :' {0} &)\n"
NEITHER_READ_NOR_SEEN = (Level.NAMESPACES, Level.BUBBLEWRAP)


def skip_without(level: Level) -> None:
    """Skip a test of a level that this machine does not give."""
    with Pool(1, level=level) as pool:
        try:
            assert pool.protection.level == level
        except ProtectionRefused as refused:
            pytest.skip(str(refused))


@pytest.fixture
def marker() -> Iterator[str]:
    """A word that marks the processes of one test."""
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


def until(condition: Callable[[], object]) -> None:
    """Wait, not for long, until *condition* holds."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited for in vain"
        time.sleep(0.02)


# -- floods -------------------------------------------------------------------------------------------------------

FLOODS = {
    "a line": "head -c 400000000 /dev/zero | tr '\\0' x >&2",
    "lines": "yes 'a line as any other, said too often' | head -c 400000000 >&2",
    "both": "yes 'a line as any other, said too often' | head -c 400000000 >&2 & head -c 400000000 /dev/zero & wait",
}


@pytest.mark.parametrize("secret", [False, True], ids=["plain", "with a secret"])
@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_takes_little_memory_and_the_log_says_that_it_was_cut(
    box: Sandbox, flood: str, *, secret: bool
) -> None:
    """400 MB as one line, as many, and on both pipes: under 100 MB in the largest of our processes."""
    box.environ["HF_TOKEN"] = "hf-0123456789-very+secret"
    box.adapter(
        "one", f"#!/bin/sh\n{FLOODS[flood]}\necho x:y\n", env={"secret": ["HF_TOKEN"]} if secret else {}
    )
    box.add("a")
    assert peak(box, "adapt", code=1 if flood == "both" else 0) < 100
    (log,) = (box.data / "logs").iterdir()
    assert log.stat().st_size < 65 << 20
    with log.open("rb") as file:
        file.seek(-200, os.SEEK_END)
        assert file.read().endswith(b"\n[cogbuild] cut here: the log reached its limit of 67108864 bytes\n")


# -- what is left behind ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pipe", ["stdout", "stderr", "both"])
def test_a_grandchild_that_holds_a_pipe_holds_nobody_up(box: Sandbox, marker: str, pipe: str) -> None:
    """The run ends within a second of the script, and the grandchild is gone."""
    closed = {"stdout": "2>/dev/null", "stderr": ">/dev/null", "both": ""}[pipe]
    ended = box.root / "ended"
    script = f"#!/bin/sh\nsetsid sh -c 'sleep 60; :' {marker} {closed} &\necho x:y\ndate +%s.%N > {ended}\n"
    box.adapter("one", script)
    box.add("a")
    assert box.adapt().exit_code == 0
    assert time.time() - float(ended.read_text()) < 1.5  # and a little for a machine that has much to do
    assert marked(marker) == []


def test_a_timeout_leaves_nobody(box: Sandbox, marker: str) -> None:
    """Children in sessions of their own, and those whose parents are gone, end with the script."""
    box.adapter("one", f"#!/bin/sh\n{FAMILY.format(marker)}wait\nsleep 60\n", timeout="1s")
    box.add("a")
    run = box.adapt()
    assert "one took longer than 1.0 s on" in run.error("a one")
    assert marked(marker) == []


@pytest.mark.parametrize("level", list(Level))
def test_none_is_left_when_cogbuild_is_killed(box: Sandbox, marker: str, level: Level) -> None:
    """SIGKILL of the command: no descendant of an adapter survives, and the next run goes on."""
    skip_without(level)
    go = box.root / "go"
    box.adapter("one", f"#!/bin/sh\n[ -e {go} ] || {{ {FAMILY.format(marker)}\nsleep 60; }}\necho x:y\n")
    box.add("a")
    command = [sys.executable, "-m", "cogbuild", "adapt"]
    env = {**os.environ, **box.environ, "COGBUILD_PROTECTION": level}
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=box.root / "site", env=env, stdout=quiet, stderr=quiet) as run:
        until(lambda: len(marked(marker)) >= 2)
        run.kill()
    until(lambda: marked(marker) == [])
    go.touch()
    assert box.adapt().exit_code == 0


# -- how it ended -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 3", "one failed on {model} after"),
        ("kill -SEGV $$", "one was ended by SIGSEGV on {model} after"),
        ("kill -KILL $$", "one was ended by SIGKILL on {model} after"),
        ("sleep 60", "one took longer than 1.0 s on {model} and was ended"),
        ("trap '' TERM; sleep 60", "one took longer than 1.0 s on {model} and was ended"),
    ],
)
def test_reasons_are_told_apart(box: Sandbox, script: str, said: str) -> None:
    """A code, a signal of its own, and the time that was up are three sentences; memory is in test_process_ends.py."""
    box.adapter("one", f"#!/bin/sh\n{script}\n", timeout="1s" if "sleep" in script else "60s")
    model = box.add("a").model
    run = box.adapt()
    assert run.error("a one").startswith(said.format(model=f"local/a@{model[:12]}"))
    assert ("  status  3" in run.error("a one")) == (script == "exit 3")


# -- each other ---------------------------------------------------------------------------------------------------

VICTIM = """#!/bin/sh
echo mine > private
echo theirs > "$COG_OUTPUT_DIR/private"
touch {begun}
while [ ! -e {done} ]; do sleep 0.02; done
cat private "$COG_OUTPUT_DIR/private" >&2
echo x:y
"""
#: Looks for the other everywhere; what it finds goes to its log.
PRIER = """#!/bin/sh
while [ ! -e {begun} ]; do sleep 0.02; done
cat /proc/[0-9]*/environ /proc/*/task/*/environ 2>/dev/null | tr '\\0' '\\n' | grep -a VICTIM_TOKEN | sed 's/^/environment /' >&2
cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -a 'adapters/[v]ictim' | sed 's/^/process /' >&2
ls -d /proc/[0-9]*/root/{data}/* /proc/[0-9]*/cwd/private /proc/[0-9]*/fd/*/cog.db /proc/[0-9]*/fd/*/logs 2>/dev/null |
  grep -v work$ | sed 's/^/proc /' >&2
find {data} -type f ! -path "$COG_OUTPUT_DIR*" ! -path "$PWD/*" ! -name artifacts.jsonl 2>/dev/null | sed 's/^/file /' >&2
find {data} -name private 2>/dev/null | sed 's/^/private /' >&2
cat {data}/cog.db {data}/logs/* 2>/dev/null | head -c 10 >&2
echo planted 2>/dev/null > {data}/planted
[ "$(readlink /proc/self/ns/pid)" = "{outside}" ] || kill -9 -1 2>/dev/null
touch {done}
"""


def pried(box: Sandbox, level: Level, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run both at once at a level; return what the prier found."""
    skip_without(level)
    monkeypatch.setenv("COGBUILD_PROTECTION", level)
    places = {"begun": box.root / "begun", "done": box.root / "done", "data": box.data}
    box.environ["VICTIM_TOKEN"] = "victims-own-token"
    box.adapter("victim", VICTIM.format(**places), env={"pass": ["VICTIM_TOKEN"]})
    box.adapter("prier", PRIER.format(**places, outside=os.readlink("/proc/self/ns/pid")), timeout="30s")
    box.add("a")
    run = box.adapt(jobs=2)
    assert [line for line in run.log if "victim " in line[:10]] == ["a victim mine", "a victim theirs"]
    assert run.results["a victim"].error is None
    return [line.removeprefix("a prier ") for line in run.log if line.startswith("a prier ")]


@pytest.mark.parametrize("level", NEITHER_READ_NOR_SEEN)
def test_adapters_neither_see_nor_end_each_other(
    box: Sandbox, level: Level, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No environment, process, workspace or output of another that runs, and nothing of the data directory."""
    assert pried(box, level, monkeypatch) == []
    assert not (box.data / "planted").exists()


def test_where_nothing_is_hidden_all_is_found(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the weakest level the same prier finds everything, so that finding nothing means something."""
    found = pried(box, Level.SUBREAPER, monkeypatch)
    (box.data / "planted").unlink()
    assert {line.split()[0] for line in found} >= {"environment", "process", "proc", "file", "private"}


def test_what_each_level_means_is_said() -> None:
    """`doctor` has a sentence for every level there is."""
    from cogbuild.report.machine import _MEANING

    assert set(_MEANING) == set(Level)
