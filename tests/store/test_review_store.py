"""What a review found wrong with the stores: each kept as the test that showed it."""

from __future__ import annotations

import os
import threading

import pytest
from conftest import Sandbox

from cogbuild import library
from cogbuild.active import active
from cogbuild.damage import verify as verify_model
from cogbuild.database import pairs
from cogbuild.engine import Status
from cogbuild.planner import Planner


def test_a_damaged_artifact_is_put_right_by_making_it_again(box: Sandbox) -> None:
    """Cut short behind our back; --force makes the same bytes: what is in the store is whole again."""
    box.adapter("one")
    box.add("a")
    made = box.artifact(box.adapt(), "a one")
    whole = made.read_bytes()
    made.chmod(0o644)
    made.write_bytes(b"")
    try:
        assert box.adapt(force=True).status("a one") is Status.BUILT
        assert made.read_bytes() == whole
    finally:
        made.chmod(0o644)
        made.write_bytes(whole)


def test_a_damaged_artifact_that_is_needed_is_made_again(box: Sandbox) -> None:
    """A pair needs an artifact that was cut short: it is made again, and the pair is not blocked for ever."""
    box.adapter("low")
    box.adapter("upper", needs=["low"])
    box.add("a")
    made = box.artifact(box.adapt(), "a low")
    whole = made.read_bytes()
    made.chmod(0o644)
    made.write_bytes(b"")
    box.adapter("upper", needs=["low"], epoch=2)
    try:
        box.adapt()
        assert box.adapt().exit_code == 0
    finally:
        made.chmod(0o644)
        made.write_bytes(whole)
        box.adapt()


@pytest.mark.parametrize("target", ["file", "directory"])
def test_a_printed_symlink_is_published_as_what_it_names(box: Sandbox, target: str) -> None:
    """`latest -> v1` printed: the bytes of v1 are published, or the line is refused; never a link to nothing."""
    make = "echo 1 > v1" if target == "file" else "mkdir v1; echo 1 > v1/x"
    box.adapter(
        "one",
        box.counting("one", f'cd "$COG_OUTPUT_DIR"; {make}; ln -s v1 latest; echo "$COG_OUTPUT_DIR/latest"'),
    )
    box.add("a")
    run = box.adapt()
    try:
        if run.status("a one") is Status.BUILT:
            assert box.artifact(run, "a one").exists()
        else:
            assert run.status("a one") is Status.FAILED
    finally:
        with box.project() as project:
            for outcome in pairs.outcomes(project.con).values():
                if not project.objects.artifact(outcome.artifacts[0].digest or "", "latest").exists():
                    eid, aid = outcome.eid, outcome.aid
                    project.database.write(lambda con: pairs.drop_outcome(con, eid, aid))  # noqa: B023


@pytest.mark.parametrize("make", ["mkfifo", "loop"])
def test_a_printed_thing_that_is_no_file_is_refused(box: Sandbox, make: str) -> None:
    """A FIFO or a link to itself in the output directory fails the pair in words."""
    how = {"mkfifo": "mkfifo x", "loop": "ln -s x x"}[make]
    box.adapter("one", box.counting("one", f'cd "$COG_OUTPUT_DIR"; {how}; echo "$COG_OUTPUT_DIR/x"'))
    box.adapter("two")
    box.add("a")
    run = box.adapt()
    assert run.status("a one") is Status.FAILED
    assert run.status("a two") is Status.BUILT


def test_gc_leaves_an_artifact_whatever_it_is_called(box: Sandbox) -> None:
    """A published file called .tmp-x is an artifact like any other."""
    from cogbuild.housekeeping.collecting import collect

    box.adapter(
        "one", box.counting("one", 'echo 1 > "$COG_OUTPUT_DIR/.tmp-x"; echo "$COG_OUTPUT_DIR/.tmp-x"')
    )
    box.add("a")
    made = box.artifact(box.adapt(), "a one")
    with box.project() as project:
        collect(project)
    there = made.exists()
    if not there:
        made.write_text("1\n")
    assert there


def test_verify_takes_away_every_sealed_tree_with_the_damaged_file(box: Sandbox) -> None:
    """An adapter that narrows inputs never builds on bytes that `models verify` has found damaged."""
    script = box.counting("one", 'cat weights.bin > "$COG_OUTPUT_DIR/w"; echo "$COG_OUTPUT_DIR/w"')
    box.adapter("one", script, inputs=["weights.bin"])
    added = box.add("a")
    assert box.artifact(box.adapt(), "a one").read_text() == "a"
    with box.project() as project:
        entry = library.find(project, added.model)[0]
        item = library.tree_of(project, entry.tree).get("weights.bin")
        assert item is not None
        at = project.objects.path(item.value)
        at.chmod(0o644)
        at.write_text("b")
        at.chmod(0o444)
        assert verify_model(project, entry)
    box.add("a")
    assert box.artifact(box.adapt(force=True), "a one").read_text() == "a"


def test_threads_that_find_the_cache_damaged_together(box: Sandbox) -> None:
    """All of them count it as empty; none fails because another has set it aside already."""
    box.adapter("one")
    box.add("a")
    box.adapt()
    errors: list[BaseException] = []
    for _ in range(20):
        with box.project() as project:
            project.cache.directory.mkdir(parents=True, exist_ok=True)
            for path in project.cache.directory.glob("*"):
                path.unlink()
            (project.cache.directory / "cache.db").write_bytes(os.urandom(8192))
            gate = threading.Barrier(6)

            def ask(cache: object = project.cache, gate: threading.Barrier = gate) -> None:
                gate.wait()
                try:
                    cache.get("0" * 64)  # type: ignore[attr-defined]
                except BaseException as trouble:  # noqa: BLE001 - counted
                    errors.append(trouble)

            threads = [threading.Thread(target=ask) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert errors == []


def test_a_forced_plan_keeps_no_declaration_of_every_model(box: Sandbox) -> None:
    """`adapt --force` holds numbers of models, not their rows."""
    import tracemalloc

    box.adapter("one")
    for number in range(30):
        box.add("a", {"weights.bin": str(number), "cog.yaml": _long(number)})
    with box.project() as project:
        from cogbuild.planner import Selection

        planner = Planner(project, active(project))
        planner.plan()
        tracemalloc.start()
        plan = planner.plan(Selection(force=True))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(plan.eids) == 30
    assert peak < 300_000, peak


def _long(number: int) -> str:
    packages = "".join(f"    - package-{number}-{item}==1.0\n" for item in range(800))
    return f'build:\n  python_version: "3.11"\n  python_packages:\n{packages}predict: predict.py:Predictor\n'
