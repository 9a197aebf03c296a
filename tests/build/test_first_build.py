"""What happens when pairs are built for the first time, and when nothing changed since."""

from __future__ import annotations

import os
import shutil

import pytest
from conftest import Sandbox

from cogbuild.engine import Status


def test_every_model_is_built_by_every_adapter(box: Sandbox) -> None:
    """The first run builds the whole matrix, newest model first, and exits with 0."""
    box.adapter("one")
    box.adapter("two")
    box.add("a")
    box.add("b")
    run = box.adapt()
    assert run.ran == ["b one", "b two", "a one", "a two"]
    assert run.exit_code == 0
    assert box.artifact(run, "a one").read_text() == "aone\n"


def test_nothing_runs_twice(box: Sandbox) -> None:
    """A second run starts nothing and counts everything as fresh."""
    box.adapter("one")
    box.add("a")
    box.adapt()
    again = box.adapt()
    assert again.ran == []
    assert again.counts[Status.FRESH] == 1


def test_touching_files_rebuilds_nothing(box: Sandbox) -> None:
    """New times with the old content make no work, in a linked model and in an adapter."""
    adapter = box.adapter("one")
    box.configure(models=[str(box.model("a"))])
    assert box.adapt().ran == ["a one"]
    os.utime(box.model("a") / "weights.bin", (1, 1))
    os.utime(adapter / "adapter.sh", (1, 1))
    assert box.adapt().ran == []


def test_a_new_adapter_builds_what_is_missing_newest_first(box: Sandbox) -> None:
    """An adapter that joins later is run on every past model and nothing else is."""
    box.adapter("one")
    for name in "abc":
        box.add(name)
    box.adapt()
    box.adapter("two")
    assert box.adapt().ran == ["c two", "b two", "a two"]


def test_a_new_model_is_the_only_one_planned(box: Sandbox) -> None:
    """Only the new model's pairs are judged; the rest is known to be fresh without being looked at."""
    box.adapter("one")
    for name in "abc":
        box.add(name)
    box.adapt()
    box.add("d")
    run = box.adapt()
    assert run.ran == ["d one"]
    assert len(run.plan.eids) == 1


def test_same_content_is_one_model_in_two_repos(box: Sandbox) -> None:
    """The same tree has the same ID; each repo has its own pairs."""
    box.adapter("one")
    first = box.add("a", repo="u/x")
    second = box.add("a", repo="u/y")
    assert first.model == second.model
    assert sorted(box.adapt().ran) == ["x one", "y one"]


def test_work_is_shared_across_repos_by_an_adapter_that_uses_little(box: Sandbox) -> None:
    """An adapter that is passed no variables does the same content once; the other repo is restored."""
    box.adapter(
        "one", box.counting("one", 'cp weights.bin "$COG_OUTPUT_DIR/w"; echo "$COG_OUTPUT_DIR/w"'), uses=[]
    )
    box.add("a", repo="u/x")
    box.add("a", repo="u/y")
    run = box.adapt()
    assert len(run.ran) == 1
    assert sorted(result.status for result in run.results.values()) == [Status.BUILT, Status.RESTORED]


def test_inputs_share_work_across_versions_that_differ_elsewhere(box: Sandbox) -> None:
    """A version that differs only in files that the adapter never sees is restored from the last one."""
    script = box.counting("one", 'ls > "$COG_OUTPUT_DIR/l"; echo "$COG_OUTPUT_DIR/l"')
    box.adapter("one", script, uses=[], inputs=["**", "!docs/**"])
    box.add("a", {"docs/x.md": "1"})
    run = box.adapt()
    assert box.artifact(run, "a one").read_text() == "cog.yaml\npredict.py\nweights.bin\n"
    box.add("a", {"docs/x.md": "2"})
    again = box.adapt()
    assert again.ran == []
    assert again.status("a one") is Status.RESTORED


def test_deleting_the_cache_reruns_nothing(box: Sandbox) -> None:
    """The cache holds no outcome: without it everything that is fresh stays fresh."""
    box.adapter("one")
    box.add("a")
    box.adapt()
    shutil.rmtree(box.data / "cache")
    assert box.adapt().ran == []


def test_forty_hex_digits_whatever_the_order_and_times(box: Sandbox) -> None:
    """The ID is of content alone: times and the order of arrival do not move it."""
    first = box.add("a")
    shutil.rmtree(box.root / "models" / "a")
    second = box.add("a")
    os.utime(box.root / "models" / "a" / "cog.yaml", (5, 5))
    third = box.add("a")
    assert len(first.model) == 40
    assert first.model == second.model == third.model
    assert not third.new


@pytest.mark.parametrize("named", ["file:{root}/store", "file://{root}/store", "file:store"])
def test_an_artifact_store_elsewhere(box: Sandbox, named: str) -> None:
    """With ``artifact_store: file:…`` published files lie there, absolute or beside the settings file."""
    box.configure(artifact_store=named.format(root=box.root / "site"))
    box.adapter("one")
    box.add("a")
    run = box.adapt()
    assert box.artifact(run, "a one").is_relative_to(box.root / "site" / "store")
    assert not (box.data / "artifacts").exists()
    assert box.adapt().results == {}
