"""Whatever an adapter prints, no view of it commands the terminal; the file keeps the bytes as they came."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys

import pytest
from commands import Said, cogbuild
from conftest import Sandbox

from cogbuild.errors import printable

pytestmark = pytest.mark.slow

#: What commands terminals, hides text or is no text: as bytes.
HOSTILE = {
    "colour": b"\x1b[31mred",
    "title": b"\x1b]0;owned\x07",
    "c1": "\x9b2J".encode(),
    "return": b"long line\rshort",
    "backspace": b"secret\x08\x08\x08\x08\x08\x08public",
    "nul": b"a\0b",
    "delete": b"\x7f",
    "latin": b"caf\xe9",
    "half": b"\xed\xa0\x80",
    "overlong": b"\xc0\xaf",
    "right-to-left": "a\u202egnp.exe\u2066b".encode(),
    "line-separator": "one\u2028two\u2029three\u0085four".encode(),
    "invisible": "a\u200bb\ufeffc\u00adz".encode(),
    "tag": "\U000e0041".encode(),
    "cut": b"\xe2\x80",
}
LINE = b" ".join(HOSTILE.values())
ENDINGS = {"failed": "exit 1", "not applicable": "exit 100", "built": "echo x:y"}


def safe(said: Said) -> str:
    """Return what was said, having looked that nothing of it does anything."""
    text = said.text
    bad = {char for char in text if not char.isprintable() and char != "\n"}
    assert not bad, (bad, text)
    return text


def prepared(box: Sandbox, ending: str) -> str:
    """Make a pair whose adapter says the line; return the model's ID."""
    (box.root / "said").write_bytes(LINE)
    box.adapter("one", f"#!/bin/sh\ncat {box.root}/said >&2\n{ending}\n", api=1)
    return box.add("a").model


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_view_shows_control_characters(box: Sandbox, ending: str) -> None:
    """Lines of a run, its summary, `logs`, `explain`, `status`, `show` and all their JSON are harmless."""
    model = prepared(box, ENDINGS[ending])
    shown = safe(cogbuild(box, "adapt"))
    assert printable(LINE) in shown
    assert (printable(LINE.decode("utf-8", "replace")) in shown) == (ending == "not applicable")
    log = cogbuild(box, "logs", model[:8], "one")
    assert log.out.decode() == printable(LINE)
    safe(log)
    for words in (
        ("logs", model[:8], "one", "--list"),
        ("explain", model[:8], "one"),
        ("status",),
        ("models", "show", model[:8]),
        ("artifacts", "ls"),
        ("cache", "ls"),
    ):
        safe(cogbuild(box, *words))
        json.loads(safe(cogbuild(box, *words, "--json")))
    said = json.loads(safe(cogbuild(box, "logs", model[:8], "one", "--json")))
    assert said["text"] == LINE.decode("utf-8", "replace")
    assert cogbuild(box, "logs", model[:8], "one", "--raw").out == LINE


def test_json_of_a_run_is_harmless(box: Sandbox) -> None:
    """`adapt --json`, with what the adapter says on stderr and an error that quotes it."""
    prepared(box, "printf '\\033[31m\\302\\2332J \\377'")
    said = cogbuild(box, "adapt", "--json")
    safe(said)
    error = json.loads(said.out)["results"][0]["error"]
    assert error["error"] == "ArtifactLineNotText"
    assert error["facts"]["printed"] == "\\x1b[31m\\x9b2J \\xff"


def test_the_file_keeps_the_bytes(box: Sandbox) -> None:
    """The log is what was written, to the last byte."""
    prepared(box, "exit 1")
    cogbuild(box, "adapt")
    (log,) = (box.data / "logs").iterdir()
    assert log.read_bytes() == LINE


def test_the_live_display_is_harmless(box: Sandbox) -> None:
    """On a terminal only the display's own control sequences are written."""
    prepared(box, "sleep 0.4; exit 1")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "cogbuild", "adapt"]
    env = {**os.environ, **box.environ, "TERM": "xterm", "COLUMNS": "300"}
    with subprocess.Popen(
        command, cwd=box.root / "site", stdin=theirs, stdout=theirs, stderr=theirs, env=env
    ) as run:
        os.close(theirs)
        written = b""
        while select.select([ours], [], [], 20)[0]:
            try:
                written += os.read(ours, 1 << 16)
            except OSError:
                break
        os.close(ours)
    assert run.returncode == 1
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode().replace("\r\n", "\n"))
    bad = {char for char in text if not char.isprintable() and char not in "\n\r"}
    assert not bad, (bad, text)
    assert b"\x1b[31mred" not in written
    assert "\\x1b[31mred" in text


MEDIA = {
    "escape": '"\\u001b[31m"',
    "half a character": '"\\ud800"',
    "right to left": '"\\u202e"',
}


@pytest.mark.parametrize("field", ["name", "uri", "media_type"])
@pytest.mark.parametrize("value", MEDIA)
def test_artifacts_are_not_named_by_control_characters(box: Sandbox, field: str, value: str) -> None:
    """What is recorded and shown of an artifact is text: other names are refused in words."""
    row = {"name": '"a"', "uri": '"x:y"', "media_type": '"a/b"', field: MEDIA[value]}
    pairs = ", ".join(f'"{key}": {text}' for key, text in row.items())
    (box.root / "rows").write_text("{" + pairs + "}")
    box.adapter("one", f'#!/bin/sh\ncat {box.root}/rows > "$COG_ARTIFACTS_FILE"\n')
    box.add("a")
    said = cogbuild(box, "adapt")
    assert said.code == 1
    assert "wrote a line into $COG_ARTIFACTS_FILE that can't be read" in safe(said)


@pytest.mark.parametrize("value", ["\\033[31m", "\\302\\2332J", "\\342\\200\\256"])
def test_a_uri_with_control_characters_is_refused(box: Sandbox, value: str) -> None:
    """A URI that would do something to a terminal is no URI."""
    box.adapter("one", f"#!/bin/sh\nprintf 'x:{value}'\n")
    box.add("a")
    said = cogbuild(box, "adapt")
    assert said.code == 1
    assert "printed something that is no artifact URI" in safe(said)
