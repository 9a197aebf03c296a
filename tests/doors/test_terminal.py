"""What a run looks like on a terminal: a line per running pair, nothing left of it at the end."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Sandbox

COGBUILD = [sys.executable, "-c", "from cogbuild.cli import main; main()", "adapt", "-j", "2"]
SLOW = "#!/bin/sh\nprintf 'step one \\033[31mred\\n' >&2\nsleep 0.5\necho x:y\n"


def on_a_terminal(box: Sandbox, command: list[str], *, columns: int = 80, **environ: str) -> tuple[str, int]:
    """Run *command* with a terminal as stdin, stdout and stderr; return all that it wrote and its exit code."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns), **environ}
    run = subprocess.Popen(
        command, cwd=box.root / "site", stdin=theirs, stdout=theirs, stderr=theirs, env=env, close_fds=True
    )
    os.close(theirs)
    written = b""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 0.05)[0]:
            try:
                written += os.read(ours, 1 << 16)
            except OSError:  # the last descriptor of the other end is closed
                break
    os.close(ours)
    return written.decode().replace("\r\n", "\n"), run.wait(timeout=10)


def plain(text: str) -> str:
    """Return what is left of a terminal's output without its control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.mark.slow
def test_running_pairs_are_shown_while_they_run(box: Sandbox) -> None:
    """Time, pair and last log line, its control characters escaped, and a total; then the results and the summary."""
    box.adapter("slow", SLOW)
    box.add("a")
    box.add("b")
    written, code = on_a_terminal(box, COGBUILD)
    shown = plain(written)
    assert code == 0
    assert re.search(r"\n? +0 s  local/a@[0-9a-f]{12}:slow  step one \\x1b\[31mred", shown)
    assert re.search(r"0 of 2 done, 2 running, [01] s", shown)
    assert "\x1b[31mred" not in written
    assert shown.endswith("2 built\n")
    assert len(re.findall(r"built    local/[ab]@[0-9a-f]{12}:slow  \d\.\d s\n  x:y\n", shown)) == 2


@pytest.mark.slow
def test_few_columns_and_no_colour(box: Sandbox) -> None:
    """In 40 columns no line is longer, and NO_COLOR leaves colours out."""
    box.adapter("slow", SLOW)
    box.add("a-rather-long-name-of-a-model")
    written, code = on_a_terminal(box, COGBUILD, columns=40, NO_COLOR="1")
    assert code == 0
    assert re.search(r"0 s  [0-9a-f]{7}:slow  step one", plain(written))
    assert not re.search(r"\x1b\[3\d", written)


def test_nothing_to_do_draws_nothing(box: Sandbox) -> None:
    """A terminal gets one line then, too."""
    box.adapter("count")
    box.add("a")
    box.adapt()
    assert on_a_terminal(box, COGBUILD) == ("1 fresh\n", 0)


@pytest.mark.slow
def test_doit_draws_where_all_tasks_are_pairs(box: Sandbox) -> None:
    """With a task of the user's own in the run, plain lines keep clear of what that writes."""
    box.adapter("slow", SLOW)
    box.add("a")
    site = box.root / "site"
    (site / "doit.cfg").write_text("[GLOBAL]\nloader = cogbuild\n")
    (site / "dodo.py").write_text("")
    doit = [sys.executable, "-m", "doit"]
    shown = plain(on_a_terminal(box, doit)[0])
    assert re.search(r"0 of 1 done, 1 running, [01] s", shown)
    shown = plain(on_a_terminal(box, [*doit, "-a", "adapt:*:slow"])[0])
    assert re.search(r"0 of 1 done, 1 running, [01] s", shown)
    (site / "dodo.py").write_text("def task_mine():\n    return {'actions': ['echo mine']}\n")
    box.add("b")
    shown = plain(on_a_terminal(box, doit)[0])
    assert "running" not in shown
    assert re.search(r"local/b@[0-9a-f]{12}:slow \| step one \\x1b\[31mred\n", shown)
    assert "mine\n" in shown
