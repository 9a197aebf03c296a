"""How far an artifact is from its model: said by the script or its test, kept with the artifact, counted for nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import Sandbox

from cogbuild.database import pairs
from cogbuild.database.pairs import Fidelity
from cogbuild.engine import Status

ROW: dict[str, Any] = {
    "runtime": "rt 1.0",
    "absolute": 1.5e-07,
    "relative": 3e-06,
    "examples": 3,
    "outputs": 4,
}
SEEN = Fidelity("rt 1.0", 1.5e-07, 3e-06, 3, 4)
MAKE = 'echo a > "$COG_OUTPUT_DIR/a"; echo a\n'


def says(*rows: dict[str, Any]) -> str:
    """Return shell that reports *rows*."""
    return "".join(f"printf '%s\\n' '{json.dumps(row)}' >> \"$COG_FIDELITY_FILE\"\n" for row in rows)


def kept(box: Sandbox) -> list[dict[str, Fidelity | None]]:
    """Return what is known of each outcome's artifacts, by name."""
    with box.project() as project:
        outcomes = pairs.outcomes(project.con).values()
    return [{item.name: item.fidelity for item in outcome.artifacts} for outcome in outcomes]


def test_what_a_script_measured_stays_with_the_artifact(box: Sandbox) -> None:
    """The last line counts; what is restored from the cache has the numbers again."""
    script = "#!/bin/sh\n" + MAKE + says({"artifact": "", **ROW, "absolute": 1}, ROW)
    box.adapter("one", script, uses=[])
    box.add("a")
    box.add("b", {"weights.bin": "a"})
    run = box.adapt()
    assert {run.status("a one"), run.status("b one")} == {Status.BUILT, Status.RESTORED}
    assert kept(box) == [{"": SEEN}, {"": SEEN}]


def test_one_named_artifact_needs_no_name_and_several_do(box: Sandbox) -> None:
    """Of several artifacts each has its own numbers, or none."""
    listed = "".join(
        f'echo \'{{"name": "{name}", "uri": "x:{name}"}}\' >> "$COG_ARTIFACTS_FILE"\n' for name in ("e", "d")
    )
    box.adapter("one", "#!/bin/sh\n" + listed + says({"artifact": "d", **ROW}))
    box.add("a")
    assert box.adapt().status("a one") is Status.BUILT
    assert kept(box) == [{"e": None, "d": SEEN}]
    box.adapter("one", "#!/bin/sh\n" + listed.splitlines()[0] + "\n" + says(ROW))
    assert box.adapt().status("a one") is Status.BUILT
    assert kept(box) == [{"e": SEEN}]


def test_a_test_measures_too_and_one_that_says_nothing_takes_nothing_away(box: Sandbox) -> None:
    """The key does not know of it, and what needs the artifact stays fresh."""
    box.adapter("one", "#!/bin/sh\n" + MAKE, test="#!/bin/sh\n" + says(ROW))
    box.add("a")
    box.adapt()
    key = box.look("a", "one").key
    assert kept(box) == [{"": SEEN}]
    box.adapter("one", "#!/bin/sh\n" + MAKE, test="#!/bin/sh\n" + says({**ROW, "examples": 5}))
    assert box.adapt().status("a one") is Status.TESTED
    assert kept(box) == [{"": SEEN._replace(examples=5)}]
    box.adapter("one", "#!/bin/sh\n" + MAKE, test="#!/bin/sh\nexit 0\n")
    assert box.adapt().status("a one") is Status.TESTED
    assert kept(box) == [{"": SEEN._replace(examples=5)}]
    assert box.look("a", "one").key == key


def test_what_one_run_wrote_is_not_the_next_ones(box: Sandbox) -> None:
    """A run that measures nothing finds no file of the run before it."""
    box.adapter("one", "#!/bin/sh\n" + MAKE + f'[ "$COG_REPO_NAME" = b ] && exit 0\n{says(ROW)}')
    box.add("a")
    box.add("b")
    box.adapt()
    assert sorted(map(str, kept(box))) == sorted([str({"": SEEN}), str({"": None})])


def test_a_secret_in_the_runtime_is_taken_out(box: Sandbox) -> None:
    """Also of what is kept with the artifact."""
    box.environ |= {"HF_TOKEN": "hunter22hunter22"}
    row = {**ROW, "runtime": "rt hunter22hunter22"}
    box.adapter("one", "#!/bin/sh\n" + MAKE + says(row), env={"secret": ["HF_TOKEN"]})
    box.add("a")
    box.adapt()
    assert kept(box) == [{"": SEEN._replace(runtime="rt [secret HF_TOKEN]")}]


SHAPE = "an object with artifact, runtime, absolute, relative, examples, outputs was expected"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("nonsense", "not JSON: Expecting value: line 1 column 1 (char 0)"),
        ("[" * 100_000, "it nests too deeply"),
        ("[1]", SHAPE),
        (json.dumps({**ROW, "more": 1}), SHAPE),
        (json.dumps({**ROW, "artifact": "x"}), "no artifact is called 'x'"),
        (json.dumps({**ROW, "artifact": 1}), "artifact is no text"),
        (json.dumps({**ROW, "runtime": ["x"]}), "runtime is no text"),
        (json.dumps({**ROW, "runtime": "a\u001bb"}), "runtime is no text"),
        (json.dumps({**ROW, "runtime": "a" * 201}), "runtime is empty or longer than 200 characters"),
        (json.dumps({**ROW, "absolute": float("nan")}), "NaN is no number"),
        (json.dumps(ROW).replace("1.5e-07", "1e999"), "absolute is no number from 0 on"),
        (json.dumps({**ROW, "relative": -1}), "relative is no number from 0 on"),
        (json.dumps({**ROW, "relative": 10**400}), "relative is no number from 0 on"),
        (json.dumps({**ROW, "examples": True}), "examples is no count"),
        (json.dumps({**ROW, "outputs": 1.0}), "outputs is no count"),
    ],
    ids=str.split("text deep list more unknown number runtime escape long nan huge below int bool float"),
)
def test_a_line_that_cannot_be_read(box: Sandbox, line: str, reason: str) -> None:
    """The pair fails, and the error names the line."""
    (box.root / "line").write_text(line)
    box.adapter("one", f'#!/bin/sh\n{MAKE}cat {box.root / "line"} > "$COG_FIDELITY_FILE"\n')
    model = box.add("a").model
    error = box.adapt().error("a one")
    head, *rows = error.splitlines()
    assert head == (
        "one or its test wrote a line into $COG_FIDELITY_FILE that can't be read on local/a@" + model[:12]
    )
    assert f"  reason  {reason}" in rows
    assert "  line    1" in rows
    assert rows[-1] == "hint: let `report_fidelity` of the kit write it, or see docs/adapters.md"
    assert kept(box) == []


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ('mkfifo "$COG_FIDELITY_FILE"', "it is no file any more"),
        ('ln -s /etc/passwd "$COG_FIDELITY_FILE"', "Too many levels of symbolic links"),
        ('truncate -s 100M "$COG_FIDELITY_FILE"', "it is larger than 1 MiB"),
        ("printf '\\377' > \"$COG_FIDELITY_FILE\"", "it is not UTF-8"),
    ],
    ids=["fifo", "link", "large", "bytes"],
)
def test_something_else_in_its_place(box: Sandbox, script: str, reason: str) -> None:
    """Nothing waits, nothing else is read, and the pair fails in words."""
    box.adapter("one", f"#!/bin/sh\n{MAKE}{script}\n")
    box.add("a")
    assert f"  reason  {reason}" in box.adapt().error("a one").splitlines()
