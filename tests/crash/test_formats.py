"""A database that an older cogbuild wrote: brought up to date once, whole or not at all, with every row that it has."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from builds import chosen, needs_steps, read_only, stepped
from conftest import Sandbox

from cogbuild import library
from cogbuild.database import Database, models
from cogbuild.database.schema import FORMAT, STEPS
from cogbuild.engine import Status

#: Written by the cogbuild of each older format, and never again.
GOLDEN = {
    number: Path(__file__).parents[1] / f"golden/database-{number}/cog.db" for number in range(1, FORMAT)
}


def rows(database: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return all rows of all tables."""
    con = sqlite3.connect(database)
    tables = [
        name for (name,) in con.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    ]
    found = {name: con.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall() for name in tables}
    con.close()
    return found


def schema(database: Path) -> list[tuple[str, ...]]:
    """Return what SQLite says of a database's tables and indexes, and the number of its format."""
    con = sqlite3.connect(database)
    found = con.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name").fetchall()
    found += con.execute("PRAGMA user_version").fetchall() + con.execute("PRAGMA application_id").fetchall()
    con.close()
    return found


@pytest.fixture(params=GOLDEN)
def old(box: Sandbox, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The database of an older format in the sandbox's place; what it speaks of was not kept."""
    box.data.mkdir()
    yield Path(shutil.copyfile(GOLDEN[request.param], box.data / "cog.db"))
    shutil.rmtree(box.data)


def test_an_older_database_is_brought_up_to_date_with_all_its_rows(box: Sandbox, old: Path) -> None:
    """It ends with the tables that a new one has; models are named as ever, and everything can be written."""
    before = rows(old)
    assert len(before["outcomes"]) == 6
    with box.project() as project:
        entries = models.entries(project.con)
        assert sorted(entry.repo for entry in entries) == ["ada/live", "local/a", "local/b"]
    after = rows(old)
    assert {name: after[name] for name in before} == before
    new = box.root / "new.db"
    Database(new).con.close()
    assert schema(old) == schema(new)
    box.adapter("one")
    for name in "ab":
        assert box.add(name).model in {entry.model for entry in entries}
    with box.project() as project:
        library.remove(project, next(entry for entry in entries if not entry.sealed))
    assert box.adapt().counts[Status.BUILT] == 2


def test_steps_give_every_format(tmp_path: Path) -> None:
    """The golden databases are those of the steps up to theirs: a step that shipped is not edited."""
    for number, golden in GOLDEN.items():
        con = sqlite3.connect(tmp_path / f"{number}.db")
        for step in STEPS[:number]:
            con.executescript(step)
        con.execute("PRAGMA application_id=1129269058")
        con.execute(f"PRAGMA user_version={number}")
        con.close()
        assert schema(tmp_path / f"{number}.db") == schema(golden)
    assert len(STEPS) == FORMAT


def test_many_who_open_it_at_once_bring_it_up_to_date_once(old: Path) -> None:
    """Each finds the current format, whoever was first."""
    errors: list[BaseException] = []

    def opened() -> None:
        try:
            database = Database(old)
            assert database.con.execute("SELECT COUNT(*) FROM hashed").fetchone() == (0,)
            database.close()
        except BaseException as trouble:  # noqa: BLE001 - told by the test
            errors.append(trouble)

    threads = [threading.Thread(target=opened) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_one_that_cannot_be_written_is_read_as_it_is(box: Sandbox, old: Path) -> None:
    """Questions are answered from it; what is newer than it is empty; not a byte of it changes."""
    kept = old.read_bytes()
    with read_only(box.data), box.project() as project:
        assert len(models.entries(project.con)) == 3
        assert project.con.execute("SELECT COUNT(*) FROM hashed").fetchone() == (0,)
    assert old.read_bytes() == kept


@pytest.mark.slow
@needs_steps
def test_one_killed_while_it_brings_it_up_to_date_leaves_either_format(box: Sandbox, old: Path) -> None:
    """At every step: whole as before or whole as after, and the next command goes on."""
    before, kept = rows(old), old.read_bytes()
    code = (
        f"from pathlib import Path; from cogbuild.database import Database; Database(Path({str(old)!r})).con"
    )

    def run(at: int) -> list[str]:
        for name in ("cog.db-wal", "cog.db-shm"):
            (box.data / name).unlink(missing_ok=True)
        old.write_bytes(kept)
        stopped = stepped(
            [sys.executable, "-c", code],
            box.data,
            scratch=box.root / "scratch",
            cwd=box.root,
            env=dict(os.environ),
            at=at,
        )
        return stopped.steps

    count = len(run(-1))
    print(f"\n{count} steps")
    assert count > 5
    for step in chosen(count, 8):
        run(step)
        con = sqlite3.connect(old)
        found = con.execute("PRAGMA user_version").fetchone()[0]
        assert con.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        con.close()
        assert {name: rows(old)[name] for name in before} == before
        assert found in (1, FORMAT), step
        with box.project() as project:
            assert len(models.entries(project.con)) == 3
