"""What is listed as not done, for which reason, and until when."""

from __future__ import annotations

import os

from conftest import Sandbox

from cogbuild import library
from cogbuild.database import feed, models, pairs
from cogbuild.engine import Status
from cogbuild.verdict import Kind

V2 = 'echo v2 > "$COG_OUTPUT_DIR/x"; echo "$COG_OUTPUT_DIR/x"'


def listed(box: Sandbox) -> dict[str, str]:
    """Return why pairs are listed, by adapter; there is one model."""
    with box.project() as project:
        return dict(project.con.execute("SELECT name, why FROM pending JOIN adapters USING (aid)"))


def put_down(box: Sandbox, adapter: str, why: str) -> None:
    """List the pair of an adapter."""
    judged = box.look("a", adapter)
    with box.project() as project:
        aid = feed.adapter_id(project.con, adapter)
        assert aid is not None
        project.database.write(lambda con: feed.add_pending(con, aid, [judged.entry.eid], why))


def test_what_was_forgotten_and_built_under_another_context_is_not_forgotten(box: Sandbox) -> None:
    """It runs once, and not each time until a run of everything comes by."""
    box.adapter("one")
    added = box.add("a")
    box.adapt()
    put_down(box, "one", "forgotten")
    box.adapter("one", box.counting("one", V2))
    assert box.adapt(added.model).ran == ["a one"]
    assert box.adapt(added.model).ran == []
    assert listed(box) == {"one": "planned"}  # for the run that takes the new version up


def test_what_failed_stays_failed_when_what_it_needs_is_made_anew(box: Sandbox) -> None:
    """`status` and `explain` go on to say so, and the next run tries it."""
    box.adapter("low")
    box.adapter("high", "#!/bin/sh\nexit 3\n", needs=["low"])
    box.add("a")
    assert box.adapt().status("a high") is Status.FAILED
    box.adapter("low", box.counting("low", V2))
    assert box.adapt(adapters=("low",)).ran == ["a low"]
    assert listed(box)["high"].startswith("failed: ")
    assert box.adapt().status("a high") is Status.FAILED


def test_a_blocked_pair_that_failed_before_is_blocked(box: Sandbox) -> None:
    """What can be done about it is with what it needs."""
    box.adapter("low")
    box.adapter("high", "#!/bin/sh\nexit 3\n", needs=["low"])
    box.add("a")
    box.adapt()
    box.adapter("low", "#!/bin/sh\nexit 3\n")
    assert box.adapt().status("a high") is Status.BLOCKED
    assert listed(box)["high"] == "blocked"


def test_what_was_cleaned_says_so_whatever_else_is_cleaned(box: Sandbox) -> None:
    """Cleaning what a pair needs takes the pair's own reason from it no more."""
    box.adapter("low")
    box.adapter("high", needs=["low"])
    box.add("a")
    box.adapt()
    with box.project() as project:
        for name in ("high", "low"):
            aid = feed.adapter_id(project.con, name)
            assert aid is not None
            project.database.write(lambda con, aid=aid: pairs.drop_outcome(con, 1, aid))  # type: ignore[misc]
    assert listed(box) == {"high": "cleaned", "low": "cleaned"}


def test_what_is_found_again_is_looked_at_once(box: Sandbox) -> None:
    """An artifact that was lost and is seen again leaves no pair listed, and none unlisted that has something to do."""
    box.adapter("one")
    box.add("a")
    box.adapt()
    with box.project() as project:
        aid = feed.adapter_id(project.con, "one")
        assert aid is not None
        project.database.write(lambda con: pairs.mark_lost(con, 1, aid, "not there", ()))
        project.database.write(lambda con: pairs.mark_seen(con, 1, aid, 1.0))
    assert listed(box) == {"one": "planned"}
    assert box.adapt().results == {}
    assert listed(box) == {}


def test_a_changed_test_has_not_refused_anything_yet(box: Sandbox) -> None:
    """The one before did; that it will be asked is what is known of the new one."""
    box.adapter("one", test="#!/bin/sh\n")
    box.add("a")
    assert box.adapt().ran == ["a one"]
    box.adapter("one", test="#!/bin/sh\nexit 1\n")
    assert box.adapt().status("a one") is Status.FAILED
    assert box.look("a", "one").verdict.reasons[0].code == "test-failed"
    box.adapter("one", test="#!/bin/sh\nexit 0\n")
    verdict = box.look("a", "one").verdict
    assert (verdict.kind, verdict.reasons[0].code) == (Kind.UNTESTED, "test-changed")
    assert box.adapt().ran == []
    assert box.look("a", "one").verdict.kind is Kind.FRESH


def test_a_model_that_comes_back_has_no_image_but_the_one_it_comes_with(box: Sandbox) -> None:
    """`models rm` lets go of the image that was given with it."""
    added = box.add("a", cpu_image="registry.example/x:1")
    with box.project() as project:
        (entry,) = models.entries(project.con)
        library.remove(project, entry)
    assert box.add("a").model == added.model
    with box.project() as project:
        assert [entry.cpu_image for entry in models.entries(project.con)] == [None]


def test_wishes_edited_within_their_size_and_time_are_heard(box: Sandbox) -> None:
    """A live ``cog-adapters.yaml`` counts by its content, as files do."""
    box.adapter("one", params={"level": 1})
    old = 1_500_000_000
    wishes = box.model("a", {"cog-adapters.yaml": "params: {one: {level: 7}}\n"}) / "cog-adapters.yaml"
    os.utime(wishes, (old, old))
    box.configure(models=[str(wishes.parent)])
    assert box.adapt().ran == ["a one"]
    with wishes.open("r+") as file:  # in place: the same file, as large as before
        file.write(wishes.read_text().replace("7", "8"))
    os.utime(wishes, (old, old))
    assert box.adapt().ran == ["a one"]
    assert box.adapt().ran == []


def test_a_forgotten_pair_that_does_not_apply_is_asked_once(box: Sandbox) -> None:
    """What it needs does not apply either, so nothing runs; and yet it was asked, and is not listed for ever."""
    box.adapter("low", "#!/bin/sh\necho no network found >&2\nexit 100\n", api=1)
    box.adapter("upper", needs=["low"])
    box.add("a")
    box.adapt()
    put_down(box, "upper", "forgotten")
    assert box.adapt().status("a upper") is Status.NOT_APPLICABLE
    assert listed(box) == {}
    assert box.adapt().results == {}
