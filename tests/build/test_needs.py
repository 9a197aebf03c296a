"""Chains of adapters: order, early cutoff, blocking, what is passed on."""

from __future__ import annotations

import pytest
from conftest import Sandbox

from cogbuild.active import active
from cogbuild.engine import Status
from cogbuild.planner import Planner
from cogbuild.tasks.running import Run

PRODUCER = (
    'printf %s "$COG_PARAM_SALT" >/dev/null; echo fixed > "$COG_OUTPUT_DIR/p"; echo "$COG_OUTPUT_DIR/p"'
)
CONSUMER = 'cat "${COG_ARTIFACT_LOW#file://}" > "$COG_OUTPUT_DIR/c"; echo "$COG_OUTPUT_DIR/c"'


def chain(box: Sandbox, salt: str = "1", producer: str = PRODUCER) -> None:
    """Write two adapters, of which the upper needs the lower."""
    box.adapter("upper", box.counting("upper", CONSUMER), needs=["low"])
    box.adapter("low", box.counting("low", producer), params={"salt": salt})


def test_a_needed_adapter_runs_first_and_its_artifact_is_passed(box: Sandbox) -> None:
    """The order of declaration does not matter; the URI arrives in COG_ARTIFACT_LOW."""
    chain(box)
    box.add("a")
    run = box.adapt()
    assert run.ran == ["a low", "a upper"]
    assert box.artifact(run, "a upper").read_text() == "fixed\n"


def test_selecting_a_pair_selects_what_it_needs(box: Sandbox) -> None:
    """Naming the upper adapter alone builds the lower one too."""
    chain(box)
    box.add("a")
    assert box.adapt(adapters=("upper",)).ran == ["a low", "a upper"]


def test_a_needed_artifact_with_the_same_bytes_stops_the_rebuild_there(box: Sandbox) -> None:
    """Early cutoff: the lower one ran again, its bytes are the same, the upper one stays fresh."""
    chain(box)
    box.add("a")
    box.adapt()
    chain(box, salt="2")
    assert box.adapt().ran == ["a low"]


def test_a_needed_artifact_that_moved_rebuilds_what_needs_it(box: Sandbox) -> None:
    """Other bytes below make the pair above run, in the same run."""
    chain(box)
    box.add("a")
    box.adapt()
    chain(box, producer=PRODUCER.replace("fixed", "moved"))
    run = box.adapt()
    assert run.ran == ["a low", "a upper"]
    assert box.artifact(run, "a upper").read_text() == "moved\n"


#: What the lower adapter lists, before and after: the bytes are the same.
LISTED = {
    "order": ("one:1.txt two:2.txt", "two:2.txt one:1.txt"),
    "names": ("one:1.txt two:2.txt", "one:1.txt zwei:2.txt"),
    "files": ("one:1.txt", "one:other.txt"),
}


@pytest.mark.parametrize("moved", LISTED)
def test_names_and_order_of_needed_artifacts_count_as_they_arrive(box: Sandbox, moved: str) -> None:
    """The pair above gets other variables or paths, so what a clean build would make of them is made."""
    listing = (
        'for item in {items}; do name=${{item%%:*}}; file=${{item#*:}}; echo "$name" | tr A-Z a-z > "$COG_OUTPUT_DIR/$file"; '
        'echo "{{\\"name\\": \\"$name\\", \\"uri\\": \\"$COG_OUTPUT_DIR/$file\\"}}" >> "$COG_ARTIFACTS_FILE"; done'
    )
    before, after = (box.counting("low", listing.format(items=items)) for items in LISTED[moved])
    box.adapter("low", before)
    told = 'env | grep -E "^COG_(PATH|ARTIFACT)_LOW" | sed s,/.*/,, | sort > "$COG_OUTPUT_DIR/o"; echo "$COG_OUTPUT_DIR/o"'
    box.adapter("upper", box.counting("upper", told), needs=["low"])
    box.add("a")
    first = box.artifact(box.adapt(), "a upper").read_text()
    box.adapter("low", after)
    run = box.adapt()
    assert run.ran == ["a low", "a upper"]
    assert box.artifact(run, "a upper").read_text() != first


def test_a_failed_need_blocks_by_name_and_both_are_tried_again(box: Sandbox) -> None:
    """The pair above is blocked, naming the one below; once that is mended, both are built."""
    chain(box, producer="exit 3")
    box.add("a")
    run = box.adapt()
    assert run.status("a low") is Status.FAILED
    assert run.status("a upper") is Status.BLOCKED
    assert "needs low, which failed" in (run.results["a upper"].reason or "")
    assert run.exit_code == 1
    chain(box)
    assert box.adapt().ran == ["a low", "a upper"]


def test_needing_what_is_not_applicable_is_not_applicable(box: Sandbox) -> None:
    """The reason is passed on, recorded, and not asked for again."""
    box.adapter("low", "#!/bin/sh\necho no network found >&2\nexit 100\n", api=1)
    box.adapter("upper", needs=["low"])
    box.add("a")
    run = box.adapt()
    assert run.status("a upper") is Status.NOT_APPLICABLE
    assert run.results["a upper"].reason == "needs low, which is not applicable: no network found"
    assert run.ran == []
    again = box.adapt()
    assert again.results == {}
    box.adapter("low", box.counting("low", PRODUCER), api=1)
    assert box.adapt().ran == ["a low", "a upper"]


def test_the_image_is_the_docker_cpu_artifact(box: Sandbox) -> None:
    """COG_CPU_IMAGE is what the adapter of that name printed; adapters that get the variable wait for it."""
    box.adapter("docker-cpu", '#!/bin/sh\necho "registry.example:5000/m@sha256:' + "a" * 64 + '"\n')
    box.adapter(
        "show", box.counting("show", 'echo "$COG_CPU_IMAGE" > "$COG_OUTPUT_DIR/i"; echo "$COG_OUTPUT_DIR/i"')
    )
    box.add("a")
    run = box.adapt()
    assert box.artifact(run, "a show").read_text() == "registry.example:5000/m@sha256:" + "a" * 64 + "\n"


def test_a_given_image_takes_the_place_of_the_adapter(box: Sandbox) -> None:
    """With --cpu-image no image is built, and the reference is passed on as it was given."""
    box.adapter("docker-cpu", "#!/bin/sh\nexit 1\n")
    box.adapter(
        "show", box.counting("show", 'echo "$COG_CPU_IMAGE" > "$COG_OUTPUT_DIR/i"; echo "$COG_OUTPUT_DIR/i"')
    )
    box.add("a", cpu_image="host/name:tag")
    run = box.adapt()
    assert list(run.results) == ["a show"]
    assert box.artifact(run, "a show").read_text() == "host/name:tag\n"


def test_two_jobs_build_a_chain_in_order(box: Sandbox) -> None:
    """With more than one job, a pair still waits for what it needs."""
    chain(box)
    for name in "abc":
        box.add(name)
    run = box.adapt(jobs=2)
    for name in "abc":
        assert run.ran.index(f"{name} low") < run.ran.index(f"{name} upper")
    assert run.exit_code == 0


def test_a_needed_artifact_that_is_gone_is_built_again_first(box: Sandbox) -> None:
    """Deleted behind our back, found when it is needed: it is made anew, and then what needs it."""
    chain(box)
    box.add("a")
    run = box.adapt()
    box.artifact(run, "a low").unlink()
    box.adapter("upper", box.counting("upper", CONSUMER), needs=["low"], epoch=2)
    again = box.adapt()
    assert again.ran == ["a low", "a upper"]
    assert again.exit_code == 0


def test_a_needed_artifact_that_goes_after_planning_blocks_by_name(box: Sandbox) -> None:
    """It went between plan and run: the pair above is blocked with the reason, and the next run mends both."""
    chain(box)
    box.add("a")
    run = box.adapt()
    box.adapter("upper", box.counting("upper", CONSUMER), needs=["low"], epoch=2)
    with box.project() as project:
        plan = Planner(project, active(project)).plan()
        (judged,) = list(plan)
        box.artifact(run, "a low").unlink()
        with Run(project, plan, jobs=1, watcher=lambda _event: None) as late:
            result = late.engine.run(judged.entry.eid, "upper")
            assert result is not None
    assert (result.status, result.reason) == (Status.BLOCKED, "needs low, whose artifact is gone")
    assert box.adapt().ran == ["a low", "a upper"]
