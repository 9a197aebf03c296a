"""What happens when an adapter, a model, a setting or the environment changed."""

from __future__ import annotations

from conftest import Sandbox

from cogbuild.active import active
from cogbuild.database import feed
from cogbuild.engine import Status
from cogbuild.planner import Planner
from cogbuild.verdict import Kind


def labels(box: Sandbox, repo: str, adapter: str) -> list[str | None]:
    """Return the rows that moved."""
    return [reason.label for reason in box.look(repo, adapter).verdict.reasons if reason.label]


def test_an_edited_adapter_runs_again_on_every_model(box: Sandbox) -> None:
    """A changed script makes its pairs stale and no other adapter's."""
    box.adapter("one")
    box.adapter("two")
    box.add("a")
    box.add("b")
    box.adapt()
    box.adapter("one", box.counting("one", 'echo v2 > "$COG_OUTPUT_DIR/x"; echo "$COG_OUTPUT_DIR/x"'))
    assert labels(box, "a", "one") == ["adapter:adapter.sh"]
    assert box.adapt().ran == ["b one", "a one"]


def test_an_adapter_put_back_is_restored_without_running(box: Sandbox) -> None:
    """Edit, run, put back: the old artifacts come back from the cache, and the plan sees all of them."""
    box.adapter("one")
    box.add("a")
    first = box.adapt()
    box.adapter("one", box.counting("one", 'echo v2 > "$COG_OUTPUT_DIR/x"; echo "$COG_OUTPUT_DIR/x"'))
    box.adapt()
    box.adapter("one")
    back = box.adapt()
    assert back.ran == []
    assert back.status("a one") is Status.RESTORED
    assert back.results["a one"].uris == first.results["a one"].uris


def test_description_timeout_retries_and_readme_do_not_count(box: Sandbox) -> None:
    """What does not reach the process makes no work."""
    directory = box.adapter("one")
    box.add("a")
    box.adapt()
    box.adapter("one", description="better", timeout="5m", retries=1)
    (directory / "README.md").write_text("words")
    assert box.adapt().ran == []


def test_a_parameter_counts_and_is_named_with_both_values(box: Sandbox) -> None:
    """Another value of a parameter rebuilds; the reason says from what to what."""
    box.adapter("one", params={"level": 1})
    box.add("a")
    box.adapt()
    box.adapter("one", params={"level": 2})
    moved = [reason for reason in box.look("a", "one").verdict.reasons if reason.label]
    assert [(item.label, item.before, item.after) for item in moved] == [("param:level", "1", "2")]
    run = box.adapt()
    assert run.ran == ["a one"]
    assert box.artifact(run, "a one").read_text() == "aone 2\n"


def test_epoch_and_hashed_variables_count(box: Sandbox) -> None:
    """Raising the epoch or changing a variable under env: hash rebuilds."""
    box.adapter("one", env={"hash": ["CUDA_HOME"]})
    box.add("a")
    box.adapt()
    box.environ["CUDA_HOME"] = "/opt/cuda"
    assert labels(box, "a", "one") == ["env:CUDA_HOME"]
    assert box.adapt().ran == ["a one"]
    box.adapter("one", env={"hash": ["CUDA_HOME"]}, epoch=2)
    assert labels(box, "a", "one") == ["epoch"]


def test_an_edited_linked_model_is_a_new_version(box: Sandbox) -> None:
    """A file that changed in a live directory is named; putting it back makes nothing run."""
    box.adapter("one")
    box.configure(models=[str(box.model("a"))])
    box.adapt()
    box.model("a", {"predict.py": "class Predictor:\n    pass\n"})
    assert "model:predict.py" in labels(box, "a", "one")
    assert box.adapt().ran == ["a one"]
    box.model("a")
    assert box.adapt().ran == []


def test_a_live_directory_that_is_gone_stops_nothing_else(box: Sandbox) -> None:
    """The missing directory is a problem of its own; other models are built, and the exit code says 2."""
    import shutil

    box.adapter("one")
    box.configure(models=[str(box.model("a")), str(box.model("b"))])
    box.adapt()
    shutil.rmtree(box.root / "models" / "a")
    box.model("b", {"weights.bin": "new"})
    run = box.adapt()
    assert run.ran == ["b one"]
    assert run.exit_code == 2
    assert [type(item.error).__name__ for item in run.plan.problems] == ["LinkedDirectoryGone"]
    assert list(run.results) == ["b one"]
    box.model("a")


def test_narrowed_inputs_hide_and_do_not_count_the_rest(box: Sandbox) -> None:
    """In a linked model, too, the workspace holds only what inputs admit."""
    script = box.counting("one", 'ls -A > "$COG_OUTPUT_DIR/l"; echo "$COG_OUTPUT_DIR/l"')
    box.adapter("one", script, uses=[], inputs=["*.yaml", "predict.py"])
    directory = box.model("a", {"big/data.bin": "1", ".git/config": "x"})
    box.configure(models=[str(directory)])
    run = box.adapt()
    assert box.artifact(run, "a one").read_text() == "cog.yaml\npredict.py\n"
    box.model("a", {"big/data.bin": "2"})
    assert box.adapt().ran == []


def test_wishes_of_a_model_choose_adapters_and_parameters(box: Sandbox) -> None:
    """``cog-adapters.yaml`` is no part of the tree; its adapters and params hold for the model."""
    box.adapter("one", params={"level": 1})
    box.adapter("two")
    plain = box.add("a")
    wished = box.add(
        "b", {"cog-adapters.yaml": "adapters: [one]\nparams: {one: {level: 7}}\n", "weights.bin": "a"}
    )
    assert plain.model == wished.model
    run = box.adapt()
    assert sorted(run.ran) == ["a one", "a two", "b one"]
    assert box.artifact(run, "b one").read_text() == "aone 7\n"


def test_force_runs_what_is_fresh(box: Sandbox) -> None:
    """A forced pair runs although nothing changed."""
    box.adapter("one")
    box.add("a")
    box.adapt()
    assert box.adapt(force=True).ran == ["a one"]
    assert box.look("a", "one").verdict.kind is Kind.FRESH


def test_a_prefix_of_the_id_names_the_model(box: Sandbox) -> None:
    """Seven digits are enough, and only that model's pairs are built."""
    box.adapter("one")
    box.add("a")
    chosen = box.add("b")
    assert box.adapt(chosen.model[:7]).ran == ["b one"]
    assert box.adapt().ran == ["a one"]


def test_a_forgotten_pair_stays_forgotten_while_it_is_blocked(box: Sandbox) -> None:
    """What was asked to be done anew is done anew, also when a failing need came in between."""
    box.adapter("low", box.counting("low", 'echo 1 > "$COG_OUTPUT_DIR/p"; echo "$COG_OUTPUT_DIR/p"'))
    box.adapter("upper", needs=["low"])
    box.add("a")
    box.adapt()
    with box.project() as project:
        aid = feed.adapter_id(project.con, "upper")
        assert aid is not None
        project.database.write(lambda con: feed.add_pending(con, aid, [1], "forgotten"))
    box.adapter("low", box.counting("low", "exit 1"))
    assert box.adapt().status("a upper") is Status.BLOCKED
    box.adapter("low", box.counting("low", 'echo 1 > "$COG_OUTPUT_DIR/p"; echo "$COG_OUTPUT_DIR/p"'))
    assert box.adapt().ran == ["a upper"]


def test_two_versions_of_an_adapter_at_once_hide_nothing_from_each_other(box: Sandbox) -> None:
    """One process plans with an edited adapter while another judges with the old one: the edit is still built."""
    box.adapter("one")
    box.add("a")
    box.adapt()
    with box.project() as old:
        planner = Planner(old, active(old))
        box.adapter("one", box.counting("one", 'echo 2 > "$COG_OUTPUT_DIR/p"; echo "$COG_OUTPUT_DIR/p"'))
        with box.project() as new:
            Planner(new, active(new)).plan()  # lists the pair and moves the mark to the edit's context
        plan = planner.plan()
        plan.eids, plan.candidates = [1], {"one": {1}}
        with box.project() as new:
            Planner(new, active(new)).plan()
        assert list(plan) == []  # fresh, as the old version sees it
    assert box.adapt().ran == ["a one"]
