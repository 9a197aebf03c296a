"""SIGKILL at every step that a command takes in storage."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from builds import DOORS, SmallBuild, check_database, chosen, needs_steps, temporary
from conftest import Sandbox

from cogbuild import library
from cogbuild.damage import verify as verify_model
from cogbuild.database import models
from cogbuild.housekeeping.collecting import collect

pytestmark = [needs_steps, pytest.mark.slow]


@pytest.mark.parametrize("door", DOORS)
def test_a_build_killed_at_any_step_loses_nothing(box: Sandbox, door: str) -> None:
    """What was reported is kept, the database is sound, the next run ends as a clean one, nothing is left over."""
    build = SmallBuild(box)
    arguments, code = DOORS[door]
    whole = build.run(*arguments)
    assert (whole.code, whole.left) == (code, []), whole.out + whole.err
    clean = build.state()
    assert box.audit() == []
    print(f"\n{door}: {len(whole.steps)} steps")
    for at in chosen(len(whole.steps), 12):
        build.reset()
        stopped = build.run(*arguments, at=at)
        try:
            if len(stopped.steps) > at:
                assert stopped.code == -9
            build.check_after(stopped, clean)
        except AssertionError as wrong:
            raise AssertionError(
                f"killed at step {at}, {stopped.steps[at:]}: {wrong}\n{stopped.err}"
            ) from wrong


@pytest.mark.parametrize("source", ["directory", "zip"])
def test_an_addition_killed_at_any_step_is_whole_or_not_there(box: Sandbox, source: str) -> None:
    """A model that was reported is there with every byte; adding it again completes it; nothing is left over."""
    build = SmallBuild(box)
    path = box.model("new", {"sub/data": "0123456789" * 1000, "empty": ""})
    if source == "zip":
        path = Path(shutil.make_archive(str(box.root / "new"), "zip", path))
    arguments = ["-m", "cogbuild", "models", "add", str(path)]
    whole = build.run(*arguments)
    assert (whole.code, whole.left) == (0, []), whole.err
    clean = known(box)
    print(f"\nmodels add, {source}: {len(whole.steps)} steps")
    for at in chosen(len(whole.steps), 8):
        build.reset()
        stopped = build.run(*arguments, at=at)
        assert stopped.left == []
        check_database(box.data / "cog.db")
        if "new" in stopped.out:
            assert known(box) == clean, f"reported and not there, killed at {stopped.steps[at]}"
        with box.project() as project:
            library.add(project, path)
        assert known(box) == clean
        assert box.audit() == [], f"killed at {stopped.steps[at]}"
        assert list(temporary(box.data)) == [], f"killed at {stopped.steps[at]}"


def known(box: Sandbox) -> list[tuple[str, str]]:
    """Return repo and ID of every model, each with all that is kept of it checked."""
    with box.project() as project:
        entries = models.entries(project.con)
        assert [verify_model(project, entry) for entry in entries] == [[] for _ in entries]
        return sorted((entry.repo, entry.model) for entry in entries)


def test_a_collection_killed_at_any_step_takes_nothing_that_is_needed(box: Sandbox) -> None:
    """What is needed is there, what is torn is nobody's, and the next collection ends where a clean one does."""
    build = SmallBuild(box)
    box.adapt()
    box.add("a", {"weights.bin": "another version"})
    box.adapt()
    with box.project() as project:
        old = models.entries(project.con)[-1]
        library.remove(project, old)
    build.keep()
    arguments = ["-m", "cogbuild", "cache", "gc", "--older-than", "0s"]
    whole = build.run(*arguments)
    assert (whole.code, whole.left) == (0, []), whole.err
    clean = names(box.data)
    print(f"\ncache gc: {len(whole.steps)} steps")
    for at in chosen(len(whole.steps), 8):
        build.reset()
        stopped = build.run(*arguments, at=at)
        assert stopped.left == []
        check_database(box.data / "cog.db")
        with box.project() as project:
            assert project.con.execute("SELECT COUNT(*) FROM outcomes").fetchone()[0] == 6
            collect(project, older_than=0.0)
        assert box.audit() == [], f"killed at {stopped.steps[at]}"
        assert names(box.data) == clean, f"killed at {stopped.steps[at]}"
        assert box.adapt().ran == ["a fails", "b fails"]


def names(data: Path) -> set[str]:
    """Return every file that is kept of models and artifacts."""
    return {
        os.path.join(os.path.relpath(at, data), name)
        for store in ("objects", "models", "artifacts")
        for at, _, files in os.walk(data / store)
        for name in files
    }
