"""What does ``gc`` take, and what never?"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cogbuild import library
from cogbuild.database import history, jobs, locks, models, pairs, upkeep
from cogbuild.environment import Lock
from cogbuild.housekeeping import clean
from cogbuild.housekeeping.collecting import KINDS, collect
from cogbuild.housekeeping.made import every
from cogbuild.using import using

if TYPE_CHECKING:
    from conftest import Sandbox

    from cogbuild.housekeeping.collecting import Collection

DAY = 86400.0


def gc(box: Sandbox, **options: Any) -> Collection:
    """Collect, as a new command would."""
    with box.project() as project:
        return collect(project, **options)


def counts(done: Collection) -> dict[str, int]:
    """Return what went, without the kinds of which nothing did."""
    return {kind: count for kind, count in done.counts.items() if count}


def files(directory: Path) -> set[str]:
    """Return the files below a directory."""
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def built(box: Sandbox, *names: str) -> None:
    """Build models of these names."""
    box.adapter("one")
    for name in names:
        box.add(name)
    box.adapt()


def remove(box: Sandbox, name: str) -> None:
    """Let go of a model."""
    with box.project() as project:
        for entry in models.entries(project.con, repos=[f"local/{name}"]):
            library.remove(project, entry)


def test_nothing_of_what_is_in_use_goes(box: Sandbox) -> None:
    """After a build there is nothing to collect, however old it counts as; the next run finds everything fresh."""
    built(box, "a", "b")
    before = files(box.data / "artifacts") | files(box.data / "objects")
    done = gc(box, older_than=0.0)
    assert (counts(done), done.whole) == ({}, True)
    assert files(box.data / "artifacts") | files(box.data / "objects") == before
    assert box.adapt().results == {}


def test_a_removed_model_goes_but_for_what_others_share(box: Sandbox) -> None:
    """Its own files, sealed tree, artifact and record go; a file that another model has too stays."""
    built(box, "a", "b")
    remove(box, "a")
    done = gc(box, older_than=0.0)
    # cog.yaml and predict.py are shared; weights.bin and the row of its variables were its own.
    assert counts(done) == {"sealed trees": 1, "artifacts": 1, "objects": 1, "records": 1, "rows": 1}
    assert done.sizes["objects"] == len("a")
    assert done.sizes["artifacts"] == len("aone\n")
    assert box.adapt().results == {}
    assert len(files(box.data / "objects")) == 3


def test_a_recent_record_keeps_what_it_names(box: Sandbox) -> None:
    """A model that comes back within the time that records are kept is restored, also after a collection."""
    built(box, "a")
    remove(box, "a")
    assert "artifacts" not in counts(gc(box))
    box.add("a")
    run = box.adapt()
    assert run.ran == []
    assert box.artifact(run, "a one").read_text() == "aone\n"


def test_an_old_record_stays_while_an_outcome_carries_it(box: Sandbox) -> None:
    """Forgetting outcomes is not what a collection does: the record of a fresh pair is kept at any age."""
    built(box, "a")
    gc(box, older_than=0.0)
    with box.project() as project:
        assert len(list(project.cache.keys())) == 1


def test_a_pin_keeps_what_was_replaced(box: Sandbox) -> None:
    """What is pinned stays when its pair makes something new; unpinned it goes."""
    built(box, "a")
    with box.project() as project:
        (made,) = every(project)
        project.database.write(lambda con: pairs.set_pin(con, made.outcome, pinned=True))
    box.adapter("one", params={"level": 2})
    assert box.adapt().ran == ["a one"]
    assert "artifacts" not in counts(gc(box, older_than=0.0))
    with box.project() as project:
        project.database.write(lambda con: pairs.unpin_pair(con, made.outcome.eid, made.outcome.aid))
    assert counts(gc(box, older_than=0.0)) == {"artifacts": 1}


def test_a_dry_run_lists_what_goes_and_takes_nothing(box: Sandbox) -> None:
    """It names what the real one takes, with the same counts and bytes."""
    built(box, "a", "b")
    remove(box, "a")
    (box.data / "objects" / "ab").mkdir(exist_ok=True)
    (box.data / "objects" / "ab" / ".tmp-1").write_text("half")
    before = files(box.data / "artifacts") | files(box.data / "objects")
    foretold = gc(box, dry=True, older_than=0.0)
    assert files(box.data / "artifacts") | files(box.data / "objects") == before
    assert {item.kind for item in foretold.items} == {
        "leftovers",
        "sealed trees",
        "artifacts",
        "objects",
        "records",
        "rows",
    }
    done = gc(box, older_than=0.0)
    assert (done.counts, done.sizes, done.items) == (foretold.counts, foretold.sizes, [])
    assert list(done.counts) == list(KINDS)


def test_what_dead_processes_left_goes(box: Sandbox) -> None:
    """Half-written files, unpacked uploads, workspaces and logs without an attempt."""
    built(box, "a")
    places = [
        "objects/.tmp-1",
        "artifacts/ab/.tmp-2",
        ".tmp-upload-x",
        "models/.tmp-4",
    ]
    places += ["envs/.making-0a-1"]
    for place in places:
        (box.data / place).mkdir(parents=True)
        (box.data / place / "half").write_text("1234")
    (box.data / "work" / "0123456789abcdef" / "1").mkdir(parents=True)
    (box.data / "logs" / "0123.log").write_text("12")
    done = gc(box)
    assert counts(done) == {"leftovers": len(places) + 1, "logs": 1}
    assert done.sizes["leftovers"] == 4 * len(places)
    assert [place for place in places if (box.data / place).exists()] == []
    assert list((box.data / "work").glob("*/")) == []


def test_what_was_set_aside_goes_when_it_is_old(box: Sandbox) -> None:
    """A damaged artifact is kept for whoever wants to look at it, for the same time as records."""
    built(box, "a")
    for name, age in (("young", 1), ("old", 40)):
        (box.data / "aside" / name).mkdir(parents=True)
        when = time.time() - age * DAY
        os.utime(box.data / "aside" / name, (when, when))
    assert counts(gc(box)) == {"leftovers": 1}
    assert os.listdir(box.data / "aside") == ["young"]


def test_logs_stay_unless_asked(box: Sandbox) -> None:
    """The log of an attempt goes only with a limit of its own, and the attempt itself stays."""
    box.adapter("loud", box.counting("loud", "echo hello >&2; echo https://host/x"))
    box.add("a")
    box.adapt()
    (log,) = (box.data / "logs").glob("*.log")
    os.utime(log, (1, 1))
    assert counts(gc(box, older_than=0.0)) == {}
    assert counts(gc(box, logs_older_than=DAY)) == {"logs": 1}
    with box.project() as project:
        assert history.attempt_ids(project.con) == {log.stem}


def test_jobs_go_when_they_ended_long_ago(box: Sandbox) -> None:
    """A job and what it said go together, also while a server runs; what is under way stays, however old."""
    built(box, "a")
    said = box.data / "logs" / "jobs"
    said.mkdir()
    ages = {"old": 40, "young": 1, "queued": 50, "nobodys": 50}

    def ask(con: sqlite3.Connection) -> None:
        for name in ("old", "young", "queued"):
            jobs.add(
                con,
                job=name,
                kind="adapt",
                priority=1,
                repo=None,
                model=None,
                request={},
                owner="",
                once=None,
            )
        for name in ("old", "young"):
            jobs.end(con, name, "done", 0)
            con.execute("UPDATE jobs SET ended = ? WHERE id = ?", (time.time() - ages[name] * DAY, name))

    with box.project() as project:
        project.database.write(ask)
    for name, age in ages.items():
        (said / f"{name}.jsonl").write_text("{}\n")
        os.utime(said / f"{name}.jsonl", (time.time() - age * DAY,) * 2)
    assert counts(gc(box, dry=True)) == {"jobs": 2}
    assert files(said) == {"old.jsonl", "young.jsonl", "queued.jsonl", "nobodys.jsonl"}
    with using(box.data):
        done = gc(box)
    assert (counts(done), done.sizes["jobs"]) == ({"jobs": 2}, 6)
    assert files(said) == {"young.jsonl", "queued.jsonl"}
    with box.project() as project:
        assert [job.id for job in jobs.listed(project.con)] == ["queued", "young"]
    assert counts(gc(box)) == {}
    with box.project() as project:
        project.database.write(lambda con: jobs.end(con, "queued", "done", 0))
    # Whoever follows a job that has just ended is to hear of that.
    assert counts(gc(box, older_than=0.0)).get("jobs") == 1
    assert files(said) == {"queued.jsonl"}


def test_environments_without_a_lock_go(box: Sandbox) -> None:
    """An environment stays while its lock is recent or an outcome was made with it."""
    built(box, "a")
    lock = Lock("six==1.16.0\n", "3.11.2")
    with box.project() as project:
        row = locks.LockRow("00" * 32, lock.python, lock.text, "{}", time.time() - 2 * DAY)
        project.database.write(lambda con: locks.put_lock(con, row))
    for name in (lock.digest[:20], "0" * 20):
        (box.data / "envs" / name).mkdir()
        (box.data / "envs" / name / ".last-used").write_text("")
        (box.data / "envs" / name / "file").write_text("12345")
    assert counts(gc(box, environments=False)) == {}
    done = gc(box)
    assert (counts(done), done.sizes["environments"]) == ({"environments": 1}, 5)
    assert counts(gc(box, older_than=DAY)) == {"environments": 1}


def test_rows_of_a_removed_model_go_unless_an_attempt_tells_of_it(box: Sandbox) -> None:
    """Entry, model, tree and memos: what no attempt, outcome or link refers to."""
    box.add("never built")
    box.adapter("one")
    box.add("a")
    box.adapt(adapters=("one",))
    with box.project() as project:
        project.database.write(lambda con: con.execute("DELETE FROM attempts WHERE eid = 1").rowcount)
    remove(box, "never-built")
    remove(box, "a")
    gc(box, older_than=0.0)
    with box.project() as project:
        assert project.con.execute("SELECT eid, live FROM entries").fetchall() == [(2, 0)]
        assert len(upkeep.kept_trees(project.con)) == 1
        assert project.con.execute("SELECT COUNT(*) FROM models").fetchone() == (1,)
        # The tree of the model that an attempt tells of; the parts of manifests went with outcomes and records.
        assert project.con.execute("SELECT kind FROM parts").fetchall() == [("tree",)]
    box.add("never built")
    assert box.adapt().ran == ["never-built one"]


def test_sealed_trees_of_filters_that_nothing_uses_go(box: Sandbox) -> None:
    """What an adapter saw of a model under its `inputs` stays while the model is there, and is remade when needed."""
    box.adapter("narrow", inputs=["**", "!predict.py"])
    box.add("a")
    box.adapt()
    assert counts(gc(box, older_than=0.0)) == {}
    remove(box, "a")
    assert counts(gc(box))["sealed trees"] == 1
    assert files(box.data / "models") == set()


def test_memos_of_adapters_that_are_gone_go(box: Sandbox) -> None:
    """The directory's stat memo is worth nothing without the directory."""
    built(box, "a")
    (box.root / "adapters" / "one" / "cog-adapter.yaml").unlink()
    assert counts(gc(box)) == {"rows": 1}


def test_while_the_stores_are_used_only_what_nobody_can_use_goes(box: Sandbox) -> None:
    """A running build holds the stores: what it might make again or look at stays, however unneeded it looks."""
    built(box, "a", "b")
    remove(box, "a")
    (box.data / "objects" / ".tmp-1").write_text("under way")
    (box.data / "work" / "0123456789abcdef").mkdir()
    with using(box.data):
        done = gc(box, older_than=0.0)
    assert (done.whole, counts(done)) == (False, {"leftovers": 1, "records": 1})
    assert (box.data / "objects" / ".tmp-1").exists()
    done = gc(box, older_than=0.0)
    assert (done.whole, counts(done)) == (
        True,
        {"leftovers": 1, "sealed trees": 1, "artifacts": 1, "objects": 1, "rows": 1},
    )


def test_cleaning_a_pair_takes_its_artifact_unless_somebody_may_use_it(box: Sandbox) -> None:
    """Named by another pair it stays; beside a running build it is left to a later collection."""
    same = 'echo same > "$COG_OUTPUT_DIR/x"; echo "$COG_OUTPUT_DIR/x"'
    box.adapter("one", box.counting("one", same))
    box.adapter("two", box.counting("two", same))
    box.add("a")
    uri = box.artifact(box.adapt(), "a one").as_uri()
    with box.project() as project:
        one, two = [item.outcome for item in every(project)]
        assert clean(project, one) == []
        with using(box.data):
            assert clean(project, two) == [f"left {uri} for `cogbuild cache gc`: a build runs"]
    assert counts(gc(box))["artifacts"] == 1
    box.adapt()
    with box.project() as project:
        one, two = [item.outcome for item in every(project)]
        assert [clean(project, one), clean(project, two)] == [[], [f"removed {uri}"]]
    assert files(box.data / "artifacts") == set()


#: Publishes the one or the other of two texts by turns, so that what was made before is garbage that is made again.
BY_TURNS = """
turn={turn}-$COG_REPO_NAME
if [ -e "$turn" ]; then rm "$turn"; else : > "$turn"; fi
if [ -e "$turn" ]; then word=odd; else word=even; fi
echo "$word" > "$COG_OUTPUT_DIR/made"
echo "$COG_OUTPUT_DIR/made"
"""


def test_a_build_beside_it_loses_nothing(box: Sandbox) -> None:
    """Builds and additions run in another process while this one collects over and over: everything that is named is there."""
    for name in ("x", "y"):
        script = box.counting(name, BY_TURNS.format(turn=box.root / f"turn-{name}"))
        box.adapter(name, script, test=f'#!/bin/sh\ntest -s "${{COG_ARTIFACT_URI#file://}}" # {name}\n')
    for name in ("a", "b", "c"):
        box.add(name)
    new = [str(box.model(name)) for name in ("d", "e")]
    script = f"""
from pathlib import Path
from cogbuild import library
from cogbuild.active import active
from cogbuild.housekeeping.made import every
from cogbuild.housekeeping.lost import State, verify
from cogbuild.planner import Planner, Selection
from cogbuild.project import Project
from cogbuild.tasks.running import Run, run_plan
with Project(Path({str(box.data)!r})) as project:
    for path in {new!r}:
        library.add(project, Path(path))
        planner = Planner(project, active(project))
        with Run(project, planner.plan(Selection(force=True)), jobs=2, watcher=lambda event: None) as run:
            run_plan(run, fail_fast=False)
        assert run.exit_code == 0, run.failures
        looked = list(verify(project, every(project), deep=True))
        assert {{item.state for item in looked}} == {{State.THERE}}, looked
"""
    build = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, **box.environ})
    wholes = set()
    while build.poll() is None:
        done = gc(box, older_than=0.0)
        wholes.add(done.whole)
        time.sleep(0.002)
    assert build.returncode == 0
    assert wholes == {True, False}
    assert len(box.ran()) == 2 * (4 + 5)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk_has_room_afterwards(tmp_path: Path) -> None:
    """On a disk without a free byte, a collection frees what nothing needs, and the next build goes through."""
    from conftest import Sandbox

    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mount is refused here")
    try:
        box = Sandbox(place)
        built(box, "a", "b")
        remove(box, "a")
        with (box.data / "fill").open("wb", buffering=0) as fill, pytest.raises(OSError, match="No space"):
            fill.writelines(repeat(b"x" * 4096))
        done = gc(box, older_than=0.0)
        assert {"artifacts", "objects"} <= set(counts(done))
        (box.data / "fill").unlink()
        assert box.adapt(force=True).exit_code == 0
        assert box.audit() == []
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
