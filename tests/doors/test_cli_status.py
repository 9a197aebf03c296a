"""``cogbuild status``, ``explain`` and ``logs``: how pairs stand, why, and what their adapters said."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from cogbuild.report.live import shortened
from cogbuild.report.tables import page

if TYPE_CHECKING:
    from conftest import Sandbox
    from door import Door

pytest_plugins = ["door"]

FAILING = "#!/bin/sh\necho 'KeyError: vocab_size' >&2\nexit 3\n"
REFUSING = "#!/bin/sh\necho 'no network in here' >&2\nexit 100\n"


def settle(text: str) -> str:
    """Replace IDs and ages, in as many columns."""
    text = re.sub(r"\b[0-9a-f]{12}\b", "ID          ", text)
    return re.sub(r"\b\d+s\b", "Ns", text)


# -- status -----------------------------------------------------------------------------------------------------------


def every_state(box: Sandbox, cogbuild: Door) -> str:
    """Make pairs of every kind; return the older model's ID."""
    box.adapter("count", params={"level": 1})
    box.adapter("bad", FAILING)
    box.adapter("after", needs=["bad"])
    box.adapter("not", REFUSING, api=1)
    box.adapter("gone")
    model = box.add("a").model
    cogbuild("adapt")
    box.adapter("count", params={"level": 2})
    box.configure(adapters=[item for item in box.settings["adapters"] if not item.endswith("gone")])
    box.add("b")
    return model


def test_the_matrix(box: Sandbox, cogbuild: Door) -> None:
    """A mark and an age in each cell, a legend of what occurs, and how many models there are."""
    every_state(box, cogbuild)
    said = cogbuild("status")
    assert settle(said.out) == (
        "model         repo     count  bad   not   after\n"
        "ID            local/b  n      n     n     w\n"
        "ID            local/a  * Ns   ! Ns  - Ns  w\n"
        "- 1 not applicable   ! 1 failed   * 1 stale   n 3 never built   w 2 pending\n"
        "2 models\n"
    )
    assert said.code == 0


def test_the_whole_matrix_has_orphans(box: Sandbox, cogbuild: Door) -> None:
    """With --all, what adapters made that are no longer active joins as a column."""
    every_state(box, cogbuild)
    said = settle(cogbuild("status", "--all", "--adapter", "gone", "--adapter", "count").out)
    assert said == (
        "model         repo     count  gone\n"
        "ID            local/b  n\n"
        "ID            local/a  * Ns   o Ns\n"
        "* 1 stale   n 1 never built   o 1 orphaned\n"
        "2 models\n"
    )


def test_a_narrow_terminal_gets_numbers_then_blocks(
    box: Sandbox, cogbuild: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names that do not fit become numbers with a key; columns that do not fit become further tables."""
    for name in ("a-rather-long-name", "another-long-name", "a-third-long-name"):
        box.adapter(name)
    cogbuild("models", "add", box.model("m"), "--repo", "somebody/with-a-long-name")
    monkeypatch.setenv("COLUMNS", "50")
    assert settle(cogbuild("status").out) == (
        "1 a-rather-long-name   2 another-long-name\n"
        "3 a-third-long-name\n"
        "model         repo                       1  2  3\n"
        "ID            somebody/with-a-long-name  n  n  n\n"
        "n 3 never built\n"
        "1 model\n"
    )
    monkeypatch.setenv("COLUMNS", "41")
    assert settle(cogbuild("status").out) == (
        "1 a-rather-long-name\n"
        "2 another-long-name   3 a-third-long-name\n"
        "model         repo                   1  2\n"
        "ID            somebody/with-a-long…  n  n\n"
        "\n"
        "model         repo                      3\n"
        "ID            somebody/with-a-long-na…  n\n"
        "n 3 never built\n"
        "1 model\n"
    )


def test_pages(box: Sandbox, cogbuild: Door) -> None:
    """Twenty models a page, the newest first; --all has every one."""
    box.adapter("count")
    for number in range(23):
        box.add(f"m{number:02}")
    first, second = cogbuild("status"), cogbuild("status", "--page", 2)
    assert first.out.splitlines()[-1] == "models 1-20 of 23; more with --page N or --all"
    assert second.out.splitlines()[-1] == "models 21-23 of 23"
    assert [line.split()[1] for line in second.out.splitlines()[1:4]] == [
        "local/m02",
        "local/m01",
        "local/m00",
    ]
    assert cogbuild("status", "--all").out.splitlines()[-1] == "23 models"
    assert cogbuild("status", "--page", 3).out == "no models there\n"


def test_the_matrix_as_json(box: Sandbox, cogbuild: Door) -> None:
    """Every pair with its state in words."""
    model = every_state(box, cogbuild)
    found = cogbuild("status", "--json").json
    assert list(found) == ["adapters", "first", "total", "more", "models", "counts", "problems"]
    assert (found["adapters"], found["first"], found["total"], found["more"]) == (
        ["count", "bad", "not", "after"],
        1,
        2,
        False,
    )
    old = found["models"][1]
    assert (old["model"], old["repo"]) == (model, "local/a")
    assert [(pair["adapter"], pair["state"]) for pair in old["pairs"]] == [
        ("count", "stale"),
        ("bad", "failed"),
        ("not", "not applicable"),
        ("after", "pending"),
    ]
    assert old["pairs"][2]["detail"] == "no network in here"
    assert found["counts"] == {"never built": 3, "pending": 2, "stale": 1, "failed": 1, "not applicable": 1}


def test_a_project_without_adapters_says_so(box: Sandbox, cogbuild: Door) -> None:
    """Then there is no matrix; an unknown adapter has none either."""
    assert cogbuild("status").err.startswith("no adapter is active\n")
    box.adapter("count")
    assert cogbuild("status").out == "no models; add one with `cogbuild models add PATH`\n"
    box.add("a")
    said = cogbuild("status", "--adapter", "nix")
    assert (said.err.splitlines()[0], said.code) == ("no adapter is called nix", 2)


def test_colour_is_for_terminals_that_want_it() -> None:
    """NO_COLOR and a pipe turn it off; COLUMNS counts anywhere."""

    class Terminal:
        def isatty(self) -> bool:
            return True

    class Pipe:
        def isatty(self) -> bool:
            return False

    assert page(Terminal(), {}).colour is True  # type: ignore[arg-type] # all that is asked of a stream
    assert page(Terminal(), {"NO_COLOR": "1"}).colour is False  # type: ignore[arg-type]
    assert page(Pipe(), {}).colour is False  # type: ignore[arg-type]
    assert page(Pipe(), {"COLUMNS": "33"}).width == 33  # type: ignore[arg-type]
    assert page(Pipe(), {}).width is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (41, "local/digits-sklearn@8273a0a936b0:archive"),
        (40, "digits-sklearn@8273a0a936b0:archive"),
        (34, "digits-sklearn@8273a0a:archive"),
        (20, "8273a0a:archive"),
        (10, "8273a0a:a…"),
    ],
)
def test_a_pair_in_few_columns(width: int, text: str) -> None:
    """The user goes first, then digits of the ID, then the repo."""
    assert shortened("local/digits-sklearn@8273a0a936b0:archive", width) == text


# -- explain ----------------------------------------------------------------------------------------------------------


def test_a_fresh_pair_is_explained(box: Sandbox, cogbuild: Door) -> None:
    """When it was built, how long it took, by which attempt, and why that was."""
    box.adapter("count", params={"level": 1})
    model = box.add("a").model
    cogbuild("adapt")
    box.adapter("count", params={"level": 2})
    cogbuild("adapt")
    said = cogbuild("explain", model[:8], "count")
    assert said.text == (
        "local/a@ID:count is fresh\n"
        "built     now in T s, by attempt ATTEMPT\n"
        "because   what it is made from changed: param:level 1 → 2\n"
        "artifact  file:///STORE/made.txt\n"
        "seen      now\n"
        "key       ID\n"
        "added     now\n"
    )
    assert box.ran() == ["a count", "a count"]


def test_a_stale_pair_names_the_rows_and_files(box: Sandbox, cogbuild: Door) -> None:
    """Each row with both values; a file's row has the files that hold them, in a form that can be pasted."""
    box.adapter("count", params={"level": 1})
    box.add("a", {"weights.bin": "old"})
    cogbuild("adapt")
    model = box.add("a", {"weights.bin": "new"}).model
    box.adapter("count", params={"level": 2})
    said = cogbuild("explain", model, "count")
    text = re.sub(r"objects/../[0-9a-f]{62}", "OBJECT", said.text).replace("of 18 rows", "of N rows")
    assert text == (
        "local/a@ID:count is stale: never built; 3 of N rows differ from version ID\n"
        "  model:weights.bin  file ID → file ID\n"
        "                     diff .cogbuild/OBJECT .cogbuild/OBJECT\n"
        "  COG_MODEL_ID       ID → ID\n"
        "  param:level        1 → 2\n"
        "key    ID\n"
        "added  now\n"
        "hint: bring it up to date with `cogbuild adapt --model ID --adapter count`\n"
    )
    then, now = re.findall(r"\.cogbuild/objects/../[0-9a-f]{62}", said.out)
    assert [(box.root / "site" / path).read_text() for path in (then, now)] == ["old", "new"]


def test_a_failed_pair_points_to_its_log(box: Sandbox, cogbuild: Door) -> None:
    """How the last attempt ended, where its log is, and how to read it."""
    box.adapter("bad", FAILING)
    model = box.add("a").model
    cogbuild("adapt")
    said = cogbuild("explain", model, "bad")
    assert said.text == (
        "local/a@ID:bad is stale: the last attempt failed: bad failed on local/a@ID after T s\n"
        "tried  now, failed after T s, as attempt 1\n"
        "log    .cogbuild/logs/ATTEMPT.log\n"
        "key    ID\n"
        "added  now\n"
        "hint: read its log with `cogbuild logs ID bad`\n"
    )


def test_restored_work_names_where_it_came_from(box: Sandbox, cogbuild: Door) -> None:
    """The pair whose attempt did the work is named; its log is shown when this pair's is asked for."""
    box.adapter("count", box.counting("count", "echo said >&2; echo x:y"), uses=[], inputs=["weights.bin"])
    model = box.add("a").model
    cogbuild("adapt")
    cogbuild("models", "add", box.model("a"), "--repo", "other/b")
    cogbuild("adapt")
    assert len(box.ran()) == 1
    said = cogbuild("explain", model, "count", "--repo", "other/b")
    assert "restored  now in T s, by attempt ATTEMPT for local/a@ID:count\n" in said.text
    log = cogbuild("logs", model, "count", "--repo", "other/b")
    assert (log.out, re.sub("[0-9a-f]{18}", "ATTEMPT", log.err).partition(",")[0]) == (
        "said\n",
        "attempt ATTEMPT",
    )


def test_a_lost_artifact_is_the_reason(box: Sandbox, cogbuild: Door) -> None:
    """What is known to be gone is said to be."""
    box.adapter("count")
    model = box.add("a").model
    cogbuild("adapt")
    shutil.rmtree(box.data / "artifacts")
    cogbuild("artifacts", "verify")
    said = cogbuild("explain", model, "count")
    assert said.text.startswith("local/a@ID:count is stale: the artifact is gone: ")


def test_years_later(box: Sandbox, cogbuild: Door) -> None:
    """When adapter, directory and cache are gone, what was made and why is still told."""
    directory = box.adapter("count", params={"level": 1})
    live = box.model("a")
    cogbuild("models", "add", "--link", live)
    model = cogbuild("models", "ls", "--json").json["models"][0]["model"]
    cogbuild("adapt")
    box.adapter("count", params={"level": 2})
    cogbuild("adapt")
    box.configure(adapters=[])
    shutil.rmtree(directory)
    shutil.rmtree(live)
    shutil.rmtree(box.data / "cache")
    said = cogbuild("explain", model, "count")
    assert said.err == f"note: the linked model directory {live} is not there\n"
    assert said.text == (
        "local/a@ID:count is not judged: its adapter is no longer active\n"
        "built     now in T s, by attempt ATTEMPT\n"
        "because   what it is made from changed: param:level 1 → 2\n"
        "artifact  file:///STORE/made.txt\n"
        "seen      now\n"
        "key       ID when it was made\n"
        "added     now\n"
    )
    found = cogbuild("explain", model, "count", "--json").json["pairs"][0]
    assert found["outcome"]["manifest"]["param:level"] == "2"
    assert found["outcome"]["manifest"]["COG_REPO_NAME"] == "a"


def test_a_version_that_moved_on_can_still_be_asked_about(box: Sandbox, cogbuild: Door) -> None:
    """The directory holds another version now; the old one's outcome and log are there."""
    box.adapter("count", box.counting("count", "echo said >&2; echo x:y"))
    live = box.model("a")
    cogbuild("models", "add", "--link", live)
    model = cogbuild("models", "ls", "--json").json["models"][0]["model"]
    cogbuild("adapt")
    (live / "weights.bin").write_text("another")
    newer = cogbuild("models", "ls", "--json").json["models"][0]["model"]
    said = cogbuild("explain", model, "count")
    assert said.out.startswith(
        f"local/a@{model[:12]}:count is not judged: its directory holds another version now, {newer[:12]}\n"
    )
    assert cogbuild("logs", model, "count").out == "said\n"
    cogbuild("models", "rm", newer)
    assert cogbuild("logs", model, "count").out == "said\n"


def test_an_adapter_whose_directory_is_away_hinders_no_explanation(box: Sandbox, cogbuild: Door) -> None:
    """Its own pairs are told from the database, those of others are judged as ever; what is wrong is a note."""
    away = box.adapter("card")
    box.adapter("count")
    box.adapter("after", needs=["card"])
    model = box.add("a").model
    cogbuild("adapt")
    away.rename(box.root / "away")
    note = f"note: there is no adapter directory {away}\n"
    said = cogbuild("explain", model, "count")
    assert (said.code, said.out.splitlines()[0]) == (0, f"local/a@{model[:12]}:count is fresh")
    assert said.err.startswith(note)
    for name in ("card", "after"):
        said = cogbuild("explain", model, name)
        assert (said.code, said.err.startswith(note)) == (0, True)
        assert said.out.startswith(f"local/a@{model[:12]}:{name} is not judged: ")
        assert "artifact " in said.out
    assert cogbuild("explain", model, "count", "--json").json["pairs"][0]["verdict"] == "fresh"


def test_adapters_that_need_each_other_hinder_no_explanation(box: Sandbox, cogbuild: Door) -> None:
    """Nothing is judged then, and what was made is told from the database."""
    box.adapter("count")
    model = box.add("a").model
    cogbuild("adapt")
    box.adapter("one", needs=["other"])
    box.adapter("other", needs=["one"])
    said = cogbuild("explain", model, "count")
    assert (said.code, said.err.count("note: ")) == (0, 1)
    assert "artifact " in said.out


def test_explaining_as_json(box: Sandbox, cogbuild: Door) -> None:
    """Each repo's pair with verdict, reasons, rows that moved, outcome and last attempt."""
    box.adapter("count", params={"level": 1})
    model = box.add("a").model
    cogbuild("adapt")
    box.adapter("count", params={"level": 2})
    found = cogbuild("explain", model, "count", "--json").json["pairs"][0]
    assert list(found) == [
        "pair",
        "repo",
        "model",
        "adapter",
        "added",
        "verdict",
        "unjudged",
        "reasons",
        "against",
        "moved",
        "rows",
        "key",
        "outcome",
        "last_attempt",
    ]
    assert (found["verdict"], found["against"]) == ("stale", "its last outcome")
    assert found["moved"] == [
        {"label": "param:level", "before": "1", "after": "2", "path": None, "path_before": None}
    ]
    assert found["outcome"]["how"] == "built"
    assert found["last_attempt"]["attempt"] == found["outcome"]["attempt"]


def test_a_pair_that_never_was_is_refused(box: Sandbox, cogbuild: Door) -> None:
    """An adapter that nobody knows, and one that the model does not want."""
    box.adapter("count")
    box.adapter("other")
    model = box.add("a").model
    cogbuild("models", "set", model, "--adapter", "count")
    said = cogbuild("explain", model, "nix")
    assert (
        said.err
        == "no adapter is called nix\n  known  count, other\nhint: list them with `cogbuild adapters ls`\n"
    )
    said = cogbuild("explain", model, "other")
    assert re.sub("[0-9a-f]{12}", "ID", said.err) == (
        "local/a@ID has no pair with other\n  reason  its model does not want this adapter\n"
    )
    assert said.code == 2


# -- logs -------------------------------------------------------------------------------------------------------------


def test_the_log_that_matters_is_shown(box: Sandbox, cogbuild: Door) -> None:
    """A failed last attempt's; else that of the attempt that made what is there; any other by its number."""
    box.adapter("count", box.counting("count", "echo first >&2; exit 3"))
    model = box.add("a").model
    cogbuild("adapt")
    assert cogbuild("logs", model, "count").out == "first\n"
    box.adapter("count", box.counting("count", "echo second >&2; echo x:y"))
    cogbuild("adapt")
    said = cogbuild("logs", model, "count")
    assert (said.out, re.sub(r"\d+(\.\d)? s", "T s", said.err)) == (
        "second\n",
        "attempt 2 of 2, built after T s, T s ago\n",
    )
    assert cogbuild("logs", model, "count", "--attempt", 1).out == "first\n"
    assert cogbuild("logs", model, "count", "--attempt", -2).out == "first\n"
    assert cogbuild("logs", model, "count", "--follow").out == "second\n"
    said = cogbuild("logs", model, "count", "--attempt", 3)
    assert re.sub("[0-9a-f]{12}", "ID", said.err) == "local/a@ID:count has no attempt 3\n  attempts  2\n"


def test_attempts_are_listed(box: Sandbox, cogbuild: Door) -> None:
    """Number, how it ended, when, how long, and what it came to."""
    box.adapter("bad", FAILING)
    model = box.add("a").model
    assert cogbuild("logs", model, "bad", "--list").out == "no attempts\n"
    cogbuild("adapt")
    head, row = cogbuild("logs", model, "bad", "--list").out.splitlines()
    assert head.split() == ["#", "status", "started", "took", "what", "attempt", "detail"]
    assert re.fullmatch(r"1  failed +\d+ s +\d\.\d s  run   [0-9a-f]{18}  bad failed on local/a@.*", row)
    found = cogbuild("logs", model, "bad", "--list", "--json").json["attempts"]
    assert [(item["number"], item["status"], item["kind"]) for item in found] == [(1, "failed", "run")]
    one = cogbuild("logs", model, "bad", "--json").json
    assert (one["attempt"], one["text"]) == (found[0]["attempt"], "KeyError: vocab_size\n")


def test_control_characters_are_escaped_unless_raw(box: Sandbox, cogbuild: Door) -> None:
    """A log can't move the cursor or colour the terminal; the bytes are kept."""
    box.adapter("count", "#!/bin/sh\nprintf 'a\\033[31mb\\tc\\r\\377\\n\\303\\244\\n' >&2\necho x:y\n")
    model = box.add("a").model
    cogbuild("adapt")
    assert cogbuild("logs", model, "count").out == "a\\x1b[31mb\tc\\r\\xff\nä\n"
    raw = cogbuild("logs", model, "count", "--raw")
    assert "\x1b[31m" in raw.out


def test_an_adapter_that_said_nothing(box: Sandbox, cogbuild: Door) -> None:
    """No log is an answer too; no attempt is refused."""
    box.adapter("count")
    model = box.add("a").model
    assert settle(cogbuild("logs", model, "count").err).endswith(":count has no attempt yet\n")
    cogbuild("adapt")
    said = cogbuild("logs", model, "count")
    assert (said.out, said.code) == ("", 0)
    assert (
        said.err.splitlines()[1] == "no log of it is kept: the adapter said nothing, or the log was collected"
    )


def test_a_model_in_two_repos_has_to_be_chosen(box: Sandbox, cogbuild: Door) -> None:
    """Two pairs have two logs."""
    box.adapter("bad", FAILING)
    model = box.add("a").model
    cogbuild("models", "add", box.model("a"), "--repo", "other/a")
    cogbuild("adapt")
    said = cogbuild("logs", model, "bad")
    assert said.err == (
        f"{model[:12]} is in several repos\n  repos  other/a, local/a\nhint: choose one with --repo USER/NAME\n"
    )
    assert cogbuild("logs", model, "bad", "--repo", "other/a").out == "KeyError: vocab_size\n"


@pytest.mark.slow
def test_a_running_attempt_is_followed_to_its_end(box: Sandbox, cogbuild: Door) -> None:
    """What it says is shown while it runs in another process, and `explain` knows that it does."""
    go = box.root / "go"
    waits = f"echo one >&2; until test -e {go}; do sleep 0.02; done; echo two >&2; echo x:y"
    box.adapter("slow", box.counting("slow", waits))
    model = box.add("a").model
    run = _cogbuild(box, "adapt")
    _until(lambda: box.ran() == ["a slow"])
    _until(lambda: cogbuild("logs", model, "slow").out == "one\n")
    explained = cogbuild("explain", model, "slow")
    assert "and still running, as attempt 1\n" in explained.out
    assert cogbuild("logs", model, "slow", "--list").out.splitlines()[1].split()[1] == "running"
    following = _cogbuild(box, "logs", "--follow", model, "slow")
    assert following.stdout is not None
    assert following.stdout.readline() == "one\n"
    go.touch()
    out, err = following.communicate(timeout=20)
    assert (out, following.returncode) == ("two\n", 0)
    assert err.startswith("attempt 1 of 1, running for ")
    assert run.communicate(timeout=20)[0].endswith("1 built\n")


def _cogbuild(box: Sandbox, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "from cogbuild.cli import main; main()", *arguments],
        cwd=box.root / "site",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _until(holds: object) -> None:
    assert callable(holds)
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
