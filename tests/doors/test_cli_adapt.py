"""``cogbuild adapt``: what runs, what is said, how it ends."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Sandbox
    from door import Door

pytest_plugins = ["door"]

FAILING = '#!/bin/sh\necho "KeyError: vocab_size" >&2\nexit 3\n'
REFUSING = '#!/bin/sh\necho "no network in here" >&2\nexit 100\n'


def test_two_models_are_built_and_told_of(box: Sandbox, cogbuild: Door) -> None:
    """Each pair that is built is a line with its artifact, and the last line has the totals."""
    box.adapter("count")
    box.add("a")
    box.add("b")
    said = cogbuild("adapt", "-j", 1)
    assert box.ran() == ["b count", "a count"]
    assert said.code == 0
    assert said.text == (
        "built    local/b@ID:count  T s\n"
        "  file:///STORE/made.txt\n"
        "built    local/a@ID:count  T s\n"
        "  file:///STORE/made.txt\n"
        "2 built\n"
    )
    assert (
        re.sub(r"@[0-9a-f]{12}", "", said.err) == "local/b:count: never built\nlocal/a:count: never built\n"
    )


def test_nothing_to_do_runs_nothing(box: Sandbox, cogbuild: Door) -> None:
    """A second run says how many pairs are fresh and runs none."""
    box.adapter("count")
    box.add("a")
    cogbuild("adapt")
    again = cogbuild("adapt")
    assert box.ran() == ["a count"]
    assert (again.out, again.err, again.code) == ("1 fresh\n", "", 0)


def test_one_failure_hides_nothing(box: Sandbox, cogbuild: Door) -> None:
    """A failed pair, its log, and a pair that it blocks are told of; the others are built; the exit code is 1."""
    box.adapter("bad", FAILING)
    box.adapter("after", needs=["bad"])
    box.adapter("count")
    box.adapter("not", REFUSING, api=1)
    box.add("a")
    said = cogbuild("adapt", "-j", 1)
    assert box.ran() == ["a count"]
    assert said.code == 1
    assert said.text.endswith(
        "bad failed on local/a@ID after T s\n"
        "  log      .cogbuild/logs/ATTEMPT.log\n"
        "  status   3\n"
        "  it said  KeyError: vocab_size\n"
        "blocked local/a@ID:after: needs bad, which failed: bad failed on local/a@ID after T s\n"
        "1 built, 1 not applicable, 1 failed, 1 blocked\n"
    )
    assert "not applicable local/a@ID:not: no network in here\n" in said.text
    assert "local/a@ID:bad | KeyError: vocab_size\n" in settle(said.err)


def settle(text: str) -> str:
    """Replace IDs."""
    return re.sub(r"@[0-9a-f]{12}", "@ID", text)


def test_a_dry_run_says_why_and_writes_nothing(box: Sandbox, cogbuild: Door) -> None:
    """A dry run names each pair with its reasons; neither the adapter nor the database's contents move."""
    box.adapter("count", params={"level": 1})
    box.add("a")
    cogbuild("adapt")
    box.adapter("count", params={"level": 2})
    box.adapter("more", needs=["count"])
    first = cogbuild("adapt", "--dry-run")
    assert first.text == (
        "run      local/a@ID:count: what it is made from changed:\n"
        "           param:level  1 → 2\n"
        "wait     local/a@ID:more: waits for count\n"
        "1 to run, 1 to judge when what they need has ended\n"
    )
    assert cogbuild("adapt", "--dry-run").out == first.out
    assert (box.ran(), first.code) == (["a count"], 0)


def test_a_dry_run_as_json(box: Sandbox, cogbuild: Door) -> None:
    """The same by name: verdict, reasons with both values, key."""
    box.adapter("count", params={"level": 1})
    model = box.add("a").model
    cogbuild("adapt")
    box.adapter("count", params={"level": 2})
    said = cogbuild("adapt", "--dry-run", "--json").json
    key = said["results"][0].pop("key")
    assert len(key) == 64
    assert said == {
        "results": [
            {
                "pair": f"local/a@{model[:12]}:count",
                "repo": "local/a",
                "model": model,
                "adapter": "count",
                "verdict": "stale",
                "reasons": [
                    {
                        "code": "changed",
                        "text": "what it is made from changed",
                        "label": None,
                        "before": None,
                        "after": None,
                    },
                    {
                        "code": "row",
                        "text": "its last outcome",
                        "label": "param:level",
                        "before": "1",
                        "after": "2",
                    },
                ],
            }
        ],
        "summary": {
            "fresh": 0,
            "restorable": 0,
            "untested": 0,
            "stale": 1,
            "pending": 0,
            "blocked": 0,
            "not applicable": 0,
        },
        "problems": [],
    }


def test_a_run_as_json(box: Sandbox, cogbuild: Door) -> None:
    """One object with results, totals, problems and the exit code; logs stay on stderr."""
    box.adapter("bad", FAILING)
    box.adapter("count")
    model = box.add("a").model
    said = cogbuild("adapt", "--json", "-j", 1)
    assert said.code == 1
    found = said.json
    assert list(found) == ["results", "summary", "problems", "notes", "error", "exit_code"]
    results = {item["adapter"]: item for item in found["results"]}
    assert list(results["count"]) == [
        "pair",
        "repo",
        "model",
        "adapter",
        "status",
        "seconds",
        "artifacts",
        "reason",
        "reasons",
        "error",
        "log",
    ]
    assert (results["count"]["model"], results["count"]["status"]) == (model, "built")
    artifact = results["count"]["artifacts"][0]
    assert Path(artifact["uri"].removeprefix("file://")).read_text() == "acount\n"
    assert results["bad"]["error"]["facts"]["it_said"] == "KeyError: vocab_size"
    assert found["summary"] == {
        "built": 1,
        "restored": 0,
        "tested": 0,
        "fresh": 0,
        "not applicable": 0,
        "failed": 1,
        "blocked": 0,
        "cancelled": 0,
    }
    assert (found["problems"], found["error"], found["exit_code"]) == ([], None, 1)
    assert "KeyError" in said.err


def test_only_what_is_chosen_runs(box: Sandbox, cogbuild: Door) -> None:
    """``--model``, ``--repo``, ``--adapter`` and ``--force`` choose; what is chosen needs nothing else."""
    box.adapter("one")
    box.adapter("two")
    model = box.add("a").model
    box.add("b")
    cogbuild("adapt", "--model", model[:7], "--adapter", "one")
    assert box.ran() == ["a one"]
    cogbuild("adapt", "--repo", "local/b", "--adapter", "two")
    assert box.ran()[1:] == ["b two"]
    said = cogbuild("adapt", "--model", model, "--adapter", "one", "--force")
    assert box.ran()[2:] == ["a one"]
    assert said.out.endswith("1 built\n")


def test_an_adapter_from_a_directory_joins(box: Sandbox, cogbuild: Door) -> None:
    """``--adapter-dir`` brings an adapter that the settings do not name."""
    directory = box.adapter("guest", activate=False)
    box.add("a")
    said = cogbuild("adapt", "--adapter-dir", os.path.relpath(directory))
    assert (box.ran(), said.code) == (["a guest"], 0)


def test_a_new_version_is_compared_with_the_one_before(box: Sandbox, cogbuild: Door) -> None:
    """The line says what was never built, with what it is compared, and which row differs."""
    box.adapter("count", uses=[])
    box.add("a", {"notes.txt": "one"})
    cogbuild("adapt")
    box.add("a", {"notes.txt": "two"})
    said = re.sub(r"\b[0-9a-f]{12}\b", "ID", cogbuild("adapt").err)
    assert said == (
        "local/a@ID:count: never built, compared with version ID: model:notes.txt file ID → file ID\n"
    )


def test_fail_fast_begins_no_more(box: Sandbox, cogbuild: Door) -> None:
    """After the first failure nothing begins, and what was not begun is not counted as fresh."""
    box.adapter("bad", box.counting("bad", "exit 3"))
    for name in "abc":
        box.add(name)
    said = cogbuild("adapt", "--fail-fast", "-j", 1)
    assert box.ran() == ["c bad"]
    assert (said.out.splitlines()[-1], said.code) == ("1 failed, 2 cancelled", 1)


def test_a_live_directory_that_is_gone_is_a_problem_of_its_own(box: Sandbox, cogbuild: Door) -> None:
    """The other models are built; the missing one is named; the exit code is 2."""
    box.adapter("count")
    box.add("a")
    live = box.model("b")
    cogbuild("models", "add", "--link", live)
    cogbuild("adapt")
    shutil.rmtree(live)
    said = cogbuild("adapt")
    assert said.code == 2
    assert said.text == (
        f"the linked model directory {box.root}/models/b is not there\n"
        "  model  ID\n"
        "hint: bring it back, or let go of it with `cogbuild models rm ID`\n"
        "2 fresh\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--adapter", "onx"],
            "no adapter is called onx\n  active  count\nhint: list them with `cogbuild adapters ls`\n",
        ),
        (
            ["--model", "123"],
            (
                "no model has the ID 123\n  expected  7 to 40 hex digits of its ID\n"
                "hint: list the models with `cogbuild models ls`\n"
            ),
        ),
    ],
)
def test_what_is_not_there_is_refused(
    box: Sandbox, cogbuild: Door, arguments: list[str], message: str
) -> None:
    """A name that means nothing is told of on stderr, with exit code 2."""
    box.adapter("count")
    box.add("a")
    said = cogbuild("adapt", *arguments)
    assert (said.out, said.err, said.code) == ("", message, 2)


def test_outside_of_a_project(tmp_path: Path, cogbuild: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no project is, the way to one is told."""
    (tmp_path / "nowhere").mkdir()
    monkeypatch.chdir(tmp_path / "nowhere")
    said = cogbuild("adapt")
    assert said.err.startswith("there is no cogbuild project here or above\n")
    assert said.code == 2


def _started(box: Sandbox, *, until: Path) -> subprocess.Popen[str]:
    run = subprocess.Popen(
        [sys.executable, "-c", "from cogbuild.cli import main; main()", "adapt", "-j", "1"],
        cwd=box.root / "site",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 20
    while not until.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return run


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_keeps_what_is_finished(box: Sandbox, number: signal.Signals, code: int) -> None:
    """The finished pair stays, the running adapter ends, the summary is printed, and the exit code says which signal."""
    at_it = box.root / "at-it"
    box.adapter(
        "count", box.counting("count", f"test $COG_REPO_NAME = b || {{ touch {at_it}; sleep 60; }}\necho a:b")
    )
    for name in "cab":
        box.add(name)
    run = _started(box, until=at_it)
    run.send_signal(number)
    out, err = run.communicate(timeout=20)
    assert (run.returncode, "Traceback" in err) == (code, False)
    assert out.splitlines()[-1] == "1 built, 2 cancelled"
    named = [line.partition("/")[2][0] for line in out.splitlines() if line.startswith("cancelled")]
    assert named == ["a"], "what was never begun is counted, not listed"
    assert box.ran() == ["b count", "a count"]


def test_a_run_with_nothing_to_do_imports_little(box: Sandbox, cogbuild: Door) -> None:
    """Nothing to do needs neither doit, pydantic and YAML, nor what draws and caches."""
    box.adapter("count")
    box.add("a")
    cogbuild("adapt")
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "from cogbuild.cli import main; main()", "adapt"],
        cwd=box.root / "site",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1 fresh\n"
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    heavy = {"asyncio", "diskcache", "doit", "multiprocessing", "pydantic", "rich", "yaml"}
    assert imported & heavy == set()
