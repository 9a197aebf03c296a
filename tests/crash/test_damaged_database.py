"""A damaged database: told, kept aside, and rebuilt from what can be read of it, the objects and the cache."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from builds import SmallBuild, check_database, chosen
from conftest import Sandbox

from cogbuild.database import Database, models
from cogbuild.database.pairs import outcomes
from cogbuild.housekeeping.collecting import collect
from cogbuild.housekeeping.rebuilding import check, rebuild


def page_size(database: Path) -> int:
    """Return the size of its pages, with everything that waits in its log written to it."""
    with sqlite3.connect(database) as con:
        con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size: int = con.execute("PRAGMA page_size").fetchone()[0]
    con.close()
    for suffix in ("-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    return size


def run(box: Sandbox, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run cogbuild in the site."""
    return subprocess.run(
        [sys.executable, "-m", "cogbuild", *arguments],
        cwd=box.root / "site",
        env={**os.environ, **box.environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def rebuilt_as_ever(box: Sandbox, build: SmallBuild, clean: dict[str, str]) -> None:
    """After a repair, with models that lost their names added again, the state is the clean one and nothing that worked ran."""
    box.ran_file.unlink(missing_ok=True)
    for name in "ab":
        box.add(name)
    ran = box.adapt().ran
    assert build.state() == clean
    assert set(ran) <= {"a fails", "b fails"}, "work that the cache knows ran again"
    with box.project() as project:
        collect(project)  # logs of attempts that can't be read any more
    assert box.audit() == []


@pytest.mark.slow
def test_a_database_truncated_at_any_page_is_told_kept_and_rebuilt(box: Sandbox) -> None:
    """No command answers from half a database; the file stays as it was found; no work is done twice."""
    build = SmallBuild(box)
    box.adapt()
    clean = build.state()
    database = box.data / "cog.db"
    size = page_size(database)
    build.keep()
    pages = database.stat().st_size // size
    print(f"\n{pages} pages")
    for page in chosen(pages, 8):
        build.reset()
        os.truncate(database, page * size)
        found = database.read_bytes()
        if page:
            for command in (["status"], ["adapt"], ["doctor"]):
                told = run(box, *command)
                said = told.stdout + told.stderr
                assert told.returncode == 3, f"{page} pages of {pages}, {command}: {said}"
                assert "the Cog database can't be used" in said
                assert "Traceback" not in said
            assert database.read_bytes() == found
            with box.project() as project:
                assert check(project) != []
                done = rebuild(project)
            assert done is not None
            assert (done.aside / "cog.db").read_bytes() == found
            assert database.stat().st_size > 0
        check_database(database)
        rebuilt_as_ever(box, build, clean)


@pytest.mark.slow
def test_a_byte_changed_in_any_page_is_never_a_traceback(box: Sandbox) -> None:
    """Told, or without effect; what `doctor --verify` finds, `doctor --repair` puts right."""
    build = SmallBuild(box)
    box.adapt()
    clean = build.state()
    database = box.data / "cog.db"
    size = page_size(database)
    build.keep()
    pages = database.stat().st_size // size
    repaired = 0
    for page in chosen(pages, 8):
        build.reset()
        data = bytearray(database.read_bytes())
        for at in range(page * size + 1, (page + 1) * size, 97):
            data[at] ^= 0x55
        database.write_bytes(data)
        for command in (["status"], ["adapt"]):
            told = run(box, *command)
            said = told.stdout + told.stderr
            assert "Traceback" not in said, f"page {page}: {said}"
            assert "this is a bug" not in said, f"page {page}: {said}"
        with box.project() as project:
            done = rebuild(project)
            repaired += done is not None
            assert [item for item in check(project) if item.path == database] == []
        check_database(database)
        rebuilt_as_ever(box, build, clean)
    assert repaired


@pytest.mark.slow
def test_what_can_be_read_of_a_damaged_database_is_kept(box: Sandbox) -> None:
    """With one page of an index overwritten, every model, outcome and attempt is regained, and nothing has to run."""
    box.adapter("one")
    for name in "abc":
        box.add(name)
    box.adapt()
    database = box.data / "cog.db"
    size = page_size(database)
    with sqlite3.connect(database) as con:
        (root,) = con.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'attempts_of_pair'").fetchone()
    con.close()
    data = bytearray(database.read_bytes())
    data[(root - 1) * size : root * size] = bytes(size)
    database.write_bytes(data)
    repaired = run(box, "doctor", "--repair")
    assert repaired.returncode == 0, repaired.stderr
    lines = repaired.stdout.splitlines()
    assert lines[0].startswith("the database was damaged: ")
    assert lines[1].startswith("it is kept as .cogbuild/aside/cog.db-")
    assert lines[2:] == [
        "regained: 3 models, 3 outcomes, 3 attempts",
        "what the cache knows of these models is found again by the next run",
    ]
    again = box.adapt()
    assert again.ran == []
    assert run(box, "doctor", "--verify").stdout == "all that is kept is as it was written\n"
    assert run(box, "doctor", "--repair").stdout == "the database is sound\n"


@pytest.mark.slow
def test_a_model_whose_repo_is_lost_is_named(box: Sandbox) -> None:
    """Nothing of the database can be read: what is sealed is shown, and the cache knows its artifacts."""
    box.adapter("one")
    added = box.add("a")
    box.adapt()
    page_size(box.data / "cog.db")
    (box.data / "cog.db").write_bytes(b"garbage" * 1000)
    told = run(box, "models", "ls")
    assert told.returncode == 3
    assert told.stderr.splitlines()[-1] == (
        "hint: `cogbuild doctor --repair` keeps it aside and rebuilds it from what can be read, the objects and the cache"
    )
    repaired = run(box, "doctor", "--repair").stdout.splitlines()
    assert repaired[2:5] == [
        "regained: nothing",
        f"under which repo {added.model[:12]} was added can't be read any more; with that name:",
        f"  cogbuild models add .cogbuild/models/{added.model} --repo USER/NAME",
    ]
    put_back = run(box, "models", "add", f".cogbuild/models/{added.model}", "--repo", "local/a")
    assert put_back.returncode == 0, put_back.stderr
    again = box.adapt()
    assert (again.ran, again.exit_code) == ([], 0)
    with box.project() as project:
        collect(project)
        assert len(outcomes(project.con)) == len(models.entries(project.con)) == 1


def test_a_repair_beside_a_build_is_refused(box: Sandbox) -> None:
    """While others use the stores, the database stays as it is."""
    from cogbuild.using import using

    box.adapter("one")
    box.add("a")
    with using(box.data):
        told = run(box, "doctor", "--repair")
    assert told.returncode == 3
    assert told.stderr.startswith("other commands are at work in ")


def test_a_part_with_a_flipped_bit_is_found(box: Sandbox) -> None:
    """A row that SQLite has nothing against, and whose digest does not hold: found, and dropped by a repair."""
    box.adapter("one")
    box.add("a")
    box.adapt()
    database = Database(box.data / "cog.db")
    database.write(
        lambda con: con.execute("UPDATE parts SET blob = blob || x'00' WHERE kind = 'rows'").rowcount
    )
    database.close()
    assert run(box, "doctor", "--verify").returncode == 3
    assert "regained: 1 models, 1 attempts" in run(box, "doctor", "--repair").stdout
    again = box.adapt()
    assert (again.ran, again.exit_code) == ([], 0)
