"""One bit that changed on the disk: found by reading everything, set aside, never handed out, made again."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import pytest
from conftest import Sandbox

from cogbuild import library
from cogbuild.damage import verify as verify_model
from cogbuild.database import models
from cogbuild.engine import Status
from cogbuild.housekeeping import made, records
from cogbuild.housekeeping.lost import State, verify
from cogbuild.housekeeping.rebuilding import check, rebuild


@pytest.fixture
def built(box: Sandbox) -> Sandbox:
    """A sandbox in which one pair is built."""
    box.adapter("one")
    box.add("a")
    assert box.adapt().ran == ["a one"]
    return box


def flip(path: Path) -> bytes:
    """Change one bit of a file in place, and put back mode, size and times; return what it held."""
    time.sleep(0.02)  # a tick of the kernel's clock: else the ctime need not move
    data, info = path.read_bytes(), path.stat()
    os.chmod(path, 0o644)
    with path.open("r+b") as file:
        file.write(bytes([data[0] ^ 1]))
    os.chmod(path, info.st_mode)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    return data


def findings(box: Sandbox) -> list[str]:
    """Return what reading everything finds, as `doctor --verify` does."""
    with box.project() as project:
        return [item.what for item in check(project)]


def test_in_an_object(built: Sandbox) -> None:
    """`models verify` moves it out of the store; adding the model again puts it right, and then the adapter may run."""
    with built.project() as project:
        entry = models.entries(project.con)[0]
        tree = library.tree_of(project, entry.tree)
        weights = tree.get("weights.bin")
        assert weights is not None
        at = project.objects.path(weights.value)
    whole = flip(at)
    assert "its content changed" in findings(built)
    with built.project() as project:
        assert [item.path for item in verify_model(project, entry)] == [at]
    assert not at.exists()
    assert (built.data / "aside" / (at.parent.name + at.name)).exists()
    refused = built.adapt(force=True)
    assert (refused.ran, refused.status("a one")) == ([], Status.FAILED)
    assert "a stored file is not there" in refused.error("a one")
    built.add("a")
    assert at.read_bytes() == whole
    assert built.adapt(force=True).ran == ["a one"]


def test_in_a_published_artifact(built: Sandbox) -> None:
    """`artifacts verify` sets it aside, the pair is stale, no record restores it, and it is made again."""
    (at,) = (path for path in built.data.glob("artifacts/*/*/*") if path.is_file())
    whole = flip(at)
    assert "its content changed" in findings(built)
    with built.project() as project:
        (looked,) = verify(project, made.every(project), deep=True)
    assert (looked.state, looked.detail) == (State.LOST, "its content changed")
    assert looked.aside is not None
    assert looked.aside.exists()
    assert not at.exists()
    again = built.adapt()
    assert again.ran == ["a one"]
    assert built.artifact(again, "a one").read_bytes() == whole


def test_in_a_record_of_the_cache(built: Sandbox) -> None:
    """`cache verify` removes it; nothing is restored from it, and what it was of is made again when it is needed."""
    with built.project() as project:
        (key,) = project.cache.keys()
        database = project.cache.directory / "cache.db"
    with sqlite3.connect(database) as con:
        (value,) = con.execute("SELECT value FROM Cache").fetchone()
        con.execute("UPDATE Cache SET value = ?", (bytes([value[0] ^ 1]) + value[1:],))
    con.close()
    assert findings(built) == [f"record {key[:12]} is damaged"]
    with built.project() as project:
        assert [item and item.what for item in records.verify(project)] == ["it is damaged"]
    assert findings(built) == []
    with built.project() as project:
        project.database.write(lambda con: con.execute("DELETE FROM outcomes").rowcount)
        project.database.write(lambda con: con.execute("UPDATE adapters SET mark = 0").rowcount)
    again = built.adapt()
    assert (again.ran, again.status("a one")) == (["a one"], Status.BUILT)


def test_in_an_outcome_of_the_database(built: Sandbox) -> None:
    """A key that its manifest does not give is found, and a repair drops the outcome; the cache gives it back."""
    with built.project() as project:
        (key,) = project.con.execute("SELECT key FROM outcomes").fetchone()
        damaged = bytes([key[0] ^ 1]) + key[1:]
        project.database.write(lambda con: con.execute("UPDATE outcomes SET key = ?", (damaged,)).rowcount)
    (what,) = findings(built)
    assert what.startswith("the manifest of ")
    with built.project() as project:
        done = rebuild(project)
    assert done is not None
    assert done.regained == {"models": 1, "outcomes": 0, "attempts": 1, "locks": 0}
    again = built.adapt()
    assert (again.ran, again.status("a one")) == ([], Status.RESTORED)
