"""Adapters that can't be used are refused before anything runs, each in its own words (exit 2)."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from conftest import Sandbox

from cogbuild.active import active
from cogbuild.errors import CogbuildError
from cogbuild.errors.adapters import NoAdapters, UnknownAdapter
from cogbuild.planner import Planner, Selection

SHIPPED = Path(__file__).resolve().parents[2] / "adapters"


def refusal(box: Sandbox) -> str:
    """Return the message with which the run is refused, the sandbox's path cut out."""
    with pytest.raises(CogbuildError) as caught:
        box.adapt()
    assert caught.value.exit_code == 2
    assert box.ran() == []
    return str(caught.value).replace(str(box.root), "…")


def test_script_missing(box: Sandbox) -> None:
    """The file and where it was named are shown."""
    (box.adapter("one") / "adapter.sh").unlink()
    assert refusal(box) == (
        "adapter one names a file that is not there\n"
        "  file      …/adapters/one/adapter.sh\n"
        "  named in  …/adapters/one/cog-adapter.yaml, script:"
    )


def test_test_missing(box: Sandbox) -> None:
    """The same for the test."""
    (box.adapter("one", test="#!/bin/sh\n") / "test.sh").unlink()
    assert refusal(box).endswith("cog-adapter.yaml, test:")


def test_script_not_executable(box: Sandbox) -> None:
    """The remedy can be pasted."""
    (box.adapter("one") / "adapter.sh").chmod(0o644)
    assert refusal(box) == (
        "the script of adapter one is not executable\n"
        "  script  …/adapters/one/adapter.sh\n"
        "hint: chmod +x …/adapters/one/adapter.sh"
    )


def test_script_without_an_interpreter(box: Sandbox) -> None:
    """A first line that says nothing, and one that names what is not there."""
    box.adapter("one", "echo x\n")
    assert refusal(box).startswith(
        "the script of adapter one says no interpreter\n  script  …/adapters/one/adapter.sh\n"
    )
    box.adapter("one", "#!/opt/none/bin/python\n")
    assert refusal(box) == (
        "the script of adapter one names an interpreter that is not there\n"
        "  script       …/adapters/one/adapter.sh\n"
        "  interpreter  /opt/none/bin/python\n"
        "hint: install it, or correct the script's first line"
    )
    box.adapter("one", "#!/usr/bin/env no-such-program\n")
    assert "  interpreter  no-such-program\n" in refusal(box)


def test_script_from_windows(box: Sandbox) -> None:
    """A first line that ends in CR LF names a program that is not there; the remedy can be pasted."""
    directory = box.adapter("one", "#!/bin/sh\n")
    (directory / "adapter.sh").write_bytes(b"#!/bin/sh\r\necho a:b\r\n")
    assert refusal(box) == (
        "the lines of adapter one's script end as on Windows, so its interpreter is not found\n"
        "  script  …/adapters/one/adapter.sh\n"
        "hint: sed -i 's/\\r$//' …/adapters/one/adapter.sh"
    )


def test_a_symlink_that_leads_out(box: Sandbox) -> None:
    """What lies elsewhere does not count, so it is not to be read from there."""
    (box.adapter("one") / "lib").symlink_to("../lib")
    assert refusal(box) == (
        "the symlink lib leads out of the adapter's directory\n"
        "  target     ../lib\n"
        "  directory  …/adapters/one\n"
        "hint: put a copy of the file itself there: what lies outside does not count and may not be there for the script"
    )


def test_a_special_file(box: Sandbox) -> None:
    """It is named, and not opened."""
    os.mkfifo(box.adapter("one") / "pipe")
    assert refusal(box) == (
        "pipe is a FIFO; an adapter's directory holds files, directories and symlinks only\n"
        "  directory  …/adapters/one\n"
        "hint: remove it"
    )


def test_two_adapters_of_one_name(box: Sandbox) -> None:
    """Both directories are named."""
    box.adapter("one")
    other = box.adapter("two")
    (other / "cog-adapter.yaml").write_text("name: one\nscript: adapter.sh\n")
    assert refusal(box) == (
        "two adapters are called one\n"
        "  first   …/adapters/one\n"
        "  second  …/adapters/two\n"
        "hint: give one another name: in its cog-adapter.yaml"
    )


def test_needs_in_a_circle(box: Sandbox) -> None:
    """The circle is shown as a chain."""
    box.adapter("one", needs=["two"])
    box.adapter("two", needs=["three"])
    box.adapter("three", needs=["one"])
    first, second = refusal(box).splitlines()
    assert first == "adapters need each other in a circle"
    chain = second.removeprefix("  circle  ").split(" → ")
    assert chain[0] == chain[-1]
    assert sorted(chain[1:]) == ["one", "three", "two"]
    needs = {"one": "two", "two": "three", "three": "one"}
    assert all(needs[above] == below for above, below in itertools.pairwise(chain))


def test_needs_nobody(box: Sandbox) -> None:
    """A need that no active adapter meets is named with the remedy."""
    box.adapter("one", needs=["ghost"])
    assert refusal(box) == (
        "adapter one needs ghost, and no active adapter is called so\n"
        "  declared in  …/adapters/one/cog-adapter.yaml\n"
        "hint: add ghost to adapters: in cogbuild.yaml, or take it from needs:"
    )


def test_unknown_builtin_and_no_declaration(box: Sandbox) -> None:
    """A shipped adapter that is not there lists those that are; a bare directory is no adapter."""
    box.configure(adapters=["builtin:onyx"])
    shipped = sorted(path.parent.name for path in SHIPPED.glob("*/cog-adapter.yaml"))
    assert "archive" in shipped
    assert refusal(box) == f"cogbuild ships no adapter called onyx\n  shipped  {', '.join(shipped)}"
    (box.root / "bare").mkdir()
    box.configure(adapters=[str(box.root / "bare")])
    assert refusal(box).startswith("…/bare is not an adapter: it has no cog-adapter.yaml\n")


def test_no_adapters_and_unknown_ones(box: Sandbox) -> None:
    """A plan for nobody, or for a name that is misspelt."""
    box.add("a")
    with pytest.raises(NoAdapters):
        box.adapt()
    box.adapter("onnx")
    with box.project() as project, pytest.raises(UnknownAdapter) as caught:
        Planner(project, active(project)).plan(Selection(adapters=("onx",)))
    assert str(caught.value) == (
        "no adapter is called onx\n  closest  onnx\n  active   onnx\nhint: list them with `cogbuild adapters ls`"
    )


@pytest.mark.parametrize(
    "text", ["name: one\nscript: adapter.sh\ncolour: red\n", "name: one\nscript: [1]\n", "name: [\n"]
)
def test_a_wrong_declaration_names_file_and_line(box: Sandbox, text: str) -> None:
    """Unknown keys, mistyped values and broken YAML are refused with the place."""
    (box.adapter("one") / "cog-adapter.yaml").write_text(text)
    message = refusal(box)
    assert "…/adapters/one/cog-adapter.yaml" in message
    assert "line" in message
