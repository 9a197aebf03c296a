"""State that is newer, damaged, gone or can't be written."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable

import pytest
from conftest import Sandbox

from cogbuild.active import active
from cogbuild.cache import Cache
from cogbuild.database import models
from cogbuild.database.schema import FORMAT
from cogbuild.engine import Status
from cogbuild.errors import CogbuildError
from cogbuild.errors.state import CacheTooNew, DatabaseBroken, DatabaseTooNew
from cogbuild.planner import Planner


def built(box: Sandbox) -> None:
    """Build one pair."""
    box.adapter("one")
    box.add("a")
    assert box.adapt().ran == ["a one"]


def test_a_newer_database_is_refused_with_a_way_out(box: Sandbox) -> None:
    """Nothing is touched; the message names both formats."""
    built(box)
    with sqlite3.connect(box.data / "cog.db") as con:
        con.execute("PRAGMA user_version=99")
    con.close()
    with pytest.raises(DatabaseTooNew) as caught:
        box.adapt()
    assert str(caught.value).splitlines()[2:] == [
        "  written   format 99",
        f"  readable  format {FORMAT}",
        "hint: upgrade cogbuild, or point COGBUILD_DATA_DIR at another directory",
    ]
    assert caught.value.exit_code == 3
    with sqlite3.connect(box.data / "cog.db") as con:
        con.execute(f"PRAGMA user_version={FORMAT}")
    con.close()


def test_a_file_that_is_no_database_is_said(box: Sandbox) -> None:
    """Garbage in its place is an error of state, not a traceback, and is left as it is."""
    built(box)
    kept = (box.data / "cog.db").read_bytes()
    for name in ("cog.db-wal", "cog.db-shm"):
        (box.data / name).unlink(missing_ok=True)
    (box.data / "cog.db").write_bytes(b"garbage" * 1000)
    with pytest.raises(DatabaseBroken):
        box.adapt()
    assert (box.data / "cog.db").read_bytes() == b"garbage" * 1000
    (box.data / "cog.db").write_bytes(kept)


def test_a_newer_cache_is_refused(box: Sandbox) -> None:
    """Records of a format that this version does not know are not guessed at."""
    built(box)
    (box.data / "cache" / "records-v9").mkdir()
    with pytest.raises(CacheTooNew):
        box.adapt(force=True)
    (box.data / "cache" / "records-v9").rmdir()


@pytest.mark.parametrize("how", ["garbage", "truncated", "empty"])
def test_a_damaged_cache_is_set_aside_and_counts_as_empty(box: Sandbox, how: str) -> None:
    """What is fresh stays fresh; what would have been restored runs."""
    built(box)
    at = next((box.data / "cache").glob("records-v*")) / "cache.db"
    data = at.read_bytes()
    at.write_bytes({"garbage": b"x" * len(data), "truncated": data[: len(data) // 2], "empty": b""}[how])
    for name in ("cache.db-wal", "cache.db-shm"):
        at.with_name(name).unlink(missing_ok=True)
    assert box.adapt().results == {}
    with box.project() as project:
        project.database.write(lambda con: con.execute("DELETE FROM outcomes").rowcount)
        project.database.write(lambda con: con.execute("UPDATE adapters SET mark = 0").rowcount)
    assert box.adapt().ran == ["a one"]
    assert box.adapt(force=True).exit_code == 0


def test_a_flipped_bit_in_a_record_is_a_miss(box: Sandbox) -> None:
    """A record whose own digest does not hold is dropped, said, and the work is done again."""
    built(box)
    with box.project() as project:
        key = next(project.cache.keys())
        project.cache.close()
        at = project.cache.directory / "cache.db"
    with sqlite3.connect(at) as con:
        (value,) = con.execute("SELECT value FROM Cache").fetchone()
        con.execute("UPDATE Cache SET value = ?", (value[:-1] + bytes([value[-1] ^ 1]),))
    con.close()
    cache = Cache(box.data / "cache")
    assert cache.get(key) is None
    assert cache.troubles == [f"record {key[:12]} is damaged and was passed over"]
    assert list(cache.keys()) == []
    cache.close()


def test_planted_pickles_are_never_loaded(box: Sandbox) -> None:
    """A pickle as key or value, and a file name in a row, are refused; nothing outside is read or deleted."""
    built(box)
    with box.project() as project:
        key = next(project.cache.keys())
        project.cache.close()
        at = project.cache.directory / "cache.db"
    mark, outside = box.root / "executed", box.root / "outside"
    outside.write_text("mine")
    bomb = b"cposix\nsystem\n(S'touch " + str(mark).encode() + b"'\ntR."
    con = sqlite3.connect(at)
    con.execute("UPDATE Cache SET value = ?, mode = 4", (bomb,))
    con.execute(
        "INSERT INTO Cache (key, raw, store_time, access_time, mode, value) VALUES (?, 0, 1, 1, 4, ?)",
        (bomb, bomb),
    )
    con.execute(
        "INSERT INTO Cache (key, raw, store_time, access_time, mode, filename) VALUES (?, 1, 1, 1, 2, ?)",
        (bytes(32), str(outside)),
    )
    con.commit()
    con.close()
    cache = Cache(box.data / "cache")
    assert cache.get(key) is None
    planted = bytes(32).hex()
    assert cache.get(planted) is None
    assert cache.get("x") is None
    assert set(cache.keys()) <= {key, planted}
    cache.remove(planted)
    cache.close()
    assert not mark.exists()
    assert outside.read_text() == "mine"
    shutil.rmtree(box.data / "cache")


def test_a_read_only_data_directory_answers_questions_and_refuses_writes(box: Sandbox) -> None:
    """As an ordinary user: status of what is fresh works, a build says what can't be written."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    built(box)
    os.chmod(box.root, 0o755)
    for parent in box.root.parents:
        if str(parent) not in ("/", "/tmp"):
            os.chmod(parent, parent.stat().st_mode | 0o055)
    assert as_nobody(lambda: look_and_write(box)) == ["fresh", "ReadOnlyData"]


def look_and_write(box: Sandbox) -> list[str]:
    """Judge the pair, then try to write; return the verdict and the error's name."""
    with box.project() as project:
        judge = Planner(project, active(project)).judge
        said = [str(judge.look(models.entries(project.con)[0], "one").verdict.kind)]
        try:
            project.database.write(lambda con: con.execute("DELETE FROM memos").rowcount)
        except CogbuildError as error:
            said.append(type(error).__name__)
        return said


def as_nobody(work: Callable[[], list[str]]) -> list[str]:
    """Run *work* as another user in a process of its own: this one's Python may lie where that user can't read."""
    work()  # whatever is imported late is imported now
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            os.write(writer, "\n".join(work()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as said:
        text = said.read()
    os.waitpid(child, 0)
    return text.split("\n")


def test_a_lost_artifact_makes_its_pair_stale_alone(box: Sandbox) -> None:
    """Deleted behind our back and found out: that pair is built again, never restored from the record that names it."""
    from cogbuild.database import pairs

    box.adapter("one")
    box.adapter("two")
    box.add("a")
    run = box.adapt()
    box.artifact(run, "a one").unlink()
    with box.project() as project:
        outcome = next(
            item
            for item in pairs.outcomes(project.con).values()
            if item.artifacts == run.results["a one"].artifacts
        )
        project.database.write(
            lambda con: pairs.mark_lost(con, outcome.eid, outcome.aid, "it is not there", outcome.artifacts)
        )
    again = box.adapt()
    assert again.ran == ["a one"]
    assert again.status("a one") is Status.BUILT
    assert box.adapt().results == {}
