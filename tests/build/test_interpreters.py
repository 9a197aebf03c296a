"""The version of what runs a script: asked as the script would ask, and kept only where it belongs to the file's bytes."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from conftest import Sandbox

from cogbuild import interpreter, quiet
from cogbuild.active import active
from cogbuild.errors.adapters import InterpreterSilent

SHELL = """#!/bin/sh
case "$1" in --version) {answer}; exit;; esac
exec /bin/sh "$@"
"""


def called(box: Sandbox, answer: str, name: str = "mysh", file: str | None = None) -> Path:
    """Have an adapter run under *name*, which is, or leads to, a script that answers so; return where it lies."""
    place = box.root / "bin"
    place.mkdir(exist_ok=True)
    box.script(place / (file or name), SHELL.format(answer=answer))
    if file is not None:
        (place / name).symlink_to(file)
    box.environ["PATH"] = f"{place}:{os.environ['PATH']}"
    box.adapter("one", box.counting("one", "echo x:y").replace("#!/bin/sh", f"#!/usr/bin/env {name}"))
    return place


def row(box: Sandbox) -> str:
    """Return the row of the interpreter."""
    with box.project() as project:
        adapter = active(project)["one"]
        return interpreter.interpreter(project, adapter.spec, adapter.script)


def test_it_is_asked_with_the_variables_of_the_adapter(box: Sandbox) -> None:
    """A variable that the script does not get has no part in the answer, one that it declares has."""
    called(box, 'echo "mysh ${MYSH:-1}"')
    box.environ["MYSH"] = "2"
    assert row(box) == "mysh 1"
    box.adapter("one", (box.root / "adapters/one/adapter.sh").read_text(), env={"pass": ["MYSH"]})
    assert row(box) == "mysh 2"


def test_it_is_asked_in_english(box: Sandbox) -> None:
    """A desktop in another language shares work with CI."""
    called(box, 'echo "mysh ${LC_ALL:-$LANG}"')
    box.environ |= {"LANG": "de_DE.UTF-8", "LC_ALL": "de_DE.UTF-8"}
    assert row(box) == "mysh C"


def test_it_is_asked_where_the_project_is(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a manager of versions finds in the directory of whoever calls cogbuild has no part in the answer."""
    called(box, "cat .version")
    (box.root / "site" / ".version").write_text("1.0\n")
    elsewhere = box.root / "site" / "sub"
    elsewhere.mkdir()
    (elsewhere / ".version").write_text("2.0\n")
    monkeypatch.chdir(elsewhere)
    assert row(box) == "1.0"


@pytest.mark.slow  # two runs
def test_it_is_asked_by_the_name_in_the_first_line(box: Sandbox) -> None:
    """One program behind the names of many answers for the one that is called; another version of that counts."""
    version = box.root / "version"
    version.write_text("v18\n")
    called(box, f"case $0 in */node) cat {version};; *) echo mise 2026.1;; esac", "node", "mise")
    box.add("a")
    assert row(box) == "v18"
    assert box.adapt().ran == ["a one"]
    version.write_text("v22\n")
    assert box.adapt().ran == ["a one"]


@pytest.mark.parametrize(
    ("name", "file", "kept"),
    [
        ("sh", "dash", True),
        ("python3", "python3.13t", True),
        ("node", "nodejs", True),
        ("ruby", "ruby3.1", True),
        ("node", "mise", False),
        ("node", "volta-shim", False),
        ("bash", "sh", False),
    ],
)
def test_a_version_is_kept_where_the_file_is_what_it_is_called(
    box: Sandbox, name: str, file: str, *, kept: bool
) -> None:
    """A link to a version of the name called is that program; whatever else it leads to is asked on every run."""
    place = box.root / "bin"
    place.mkdir()
    shutil.copy(os.path.realpath("/bin/sh"), place / file)
    (place / name).symlink_to(file)
    assert (interpreter.version_memo(str(place / name)) is not None) is kept


@pytest.mark.slow  # it waits until files are old enough
@pytest.mark.parametrize(("file", "kept"), [("mysh1.2", True), ("mise", False)])
def test_a_run_with_nothing_to_do_asks_who_may_answer_otherwise(
    box: Sandbox, file: str, *, kept: bool
) -> None:
    """Stats tell that there is nothing to do only where the interpreter's version was kept."""
    place = called(box, "", "mysh", file)
    shutil.copy(os.path.realpath("/bin/sh"), place / file)
    box.add("a")
    assert box.adapt().ran == ["a one"]
    time.sleep(2.1)
    assert box.adapt().ran == []
    assert quiet.fresh_pairs(str(box.data), box.environ) == (1 if kept else None)


def test_an_interpreter_that_does_not_answer(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes too long is named, and its digest does not become its version."""
    place = called(box, "sleep 60")
    monkeypatch.setattr(interpreter, "_PATIENCE", 0.2)
    with pytest.raises(InterpreterSilent) as refused:
        row(box)
    assert str(refused.value) == (
        "the interpreter of adapter one does not say its version\n"
        f"  interpreter  {place}/mysh\n"
        "  reason       it did not end within 0.2 s\n"
        "hint: it has to end by itself when it is called with --version"
    )
    box.script(place / "mysh", SHELL.format(answer="echo mysh 1"))
    assert row(box) == "mysh 1"


def test_an_interpreter_that_is_no_program(box: Sandbox) -> None:
    """The system's own word is the reason."""
    place = called(box, "")
    (place / "mysh").write_bytes(b"\1\2\3")
    with pytest.raises(InterpreterSilent, match="Exec format error"):
        row(box)


@pytest.mark.slow  # a command of its own
def test_examples_are_utf8_in_every_locale(box: Sandbox) -> None:
    """The bytes of $COG_EXAMPLES_FILE do not follow the locale: its key does not."""
    import subprocess
    import sys

    box.adapter(
        "one",
        '#!/bin/sh\ncp "$COG_EXAMPLES_FILE" "$COG_OUTPUT_DIR/e.json"; echo "$COG_OUTPUT_DIR/e.json"\n',
        examples=True,
    )
    box.add("a", {"cog-adapters.yaml": 'examples: [{input: {text: "\\u00e9"}, output: 1}]\n'})
    # Python without its UTF-8 mode, in a locale that is not UTF-8.
    variables = box.environ | {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "cogbuild", "--data-dir", str(box.data), "adapt"]
    subprocess.run(command, env=variables, check=True)
    (made,) = (box.data / "artifacts").rglob("e.json")
    assert "é".encode() in made.read_bytes()
