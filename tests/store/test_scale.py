"""The stores that benchmarks measure are the ones that a real run leaves."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cogbuild import library
from cogbuild.audit import audit
from cogbuild.cache import Record
from cogbuild.project import Project

ROOT = Path(__file__).parents[2]
#: Columns that differ between any two runs: times, what they took, and the names of attempts.
OF_THE_RUN = {
    "added",
    "since",
    "attempt",
    "id",
    "made",
    "started",
    "microseconds",
    "cpu_microseconds",
    "max_rss",
}


@pytest.fixture(scope="module")
def make_store() -> ModuleType:
    """The benchmark's script as a module."""
    spec = importlib.util.spec_from_file_location("make_store", ROOT / "benchmarks" / "make_store.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def adapt(root: Path) -> str:
    """Run `cogbuild adapt` in *root* and return what it says."""
    command = [sys.executable, "-m", "cogbuild", "adapt", "-j", "1"]
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=root, env=environ, check=True, capture_output=True, text=True).stdout


def rows(project: Project) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of the database but for what differs between any two runs."""
    found = {}
    tables = project.con.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    for (table,) in tables:
        if table == "memos":  # they name paths and times of files
            continue
        columns = [row[1] for row in project.con.execute(f"PRAGMA table_info({table})")]
        named = table == "models"  # its id is no attempt's
        kept = [column for column in columns if column not in OF_THE_RUN or (named and column == "id")]
        found[table] = sorted(
            project.con.execute(f"SELECT {', '.join(kept)} FROM {table}").fetchall(), key=repr
        )
    return found


def records(project: Project) -> list[tuple[Any, ...]]:
    """Return what the cache holds, but for times and names of attempts."""
    found = []
    for key in sorted(project.cache.keys()):
        record = Record.decode(project.cache.raw(key) or b"", key)
        assert record is not None
        found.append((key, record.manifest, record.artifacts, record.reason, record.adapter, record.log))
    return found


@pytest.mark.slow
def test_a_made_store_has_the_rows_of_one_that_was_built(make_store: ModuleType, tmp_path: Path) -> None:
    """Rows, records, objects and sealed trees are those of a real run; an audit finds nothing, a run has nothing to do."""
    made, built = tmp_path / "made", tmp_path / "built"
    make_store.make(made, 7, 3, 5)
    make_store.write_project(built, 3)
    with Project(built / ".cogbuild", environ={}) as project:
        for number in range(7):
            make_store.write_model(tmp_path / "upload", number, 5)
            library.add(project, tmp_path / "upload", repo=f"user/model-{number:06}")
    assert adapt(built).splitlines()[-1] == "21 built"
    with Project(made / ".cogbuild", environ={}) as ours, Project(built / ".cogbuild", environ={}) as theirs:
        assert rows(ours) == rows(theirs)
        assert records(ours) == records(theirs)
        for store in ("objects", "models"):
            assert tree(ours.data / store) == tree(theirs.data / store)
        assert audit(ours) == []
        assert audit(theirs) == []
    assert adapt(made) == "21 fresh\n"


def tree(directory: Path) -> list[tuple[str, int, int]]:
    """Return names, modes and numbers of links of everything below *directory*."""
    return sorted(
        (str(path.relative_to(directory)), path.stat().st_mode, path.stat().st_nlink)
        for path in directory.rglob("*")
    )


def test_a_made_store_of_live_directories_has_nothing_to_do(make_store: ModuleType, tmp_path: Path) -> None:
    """Live directories are looked at as `models add --link` does, and what is recorded of them holds."""
    make_store.make(tmp_path, 3, 2, 4, linked=True)
    assert adapt(tmp_path) == "6 fresh\n"
    (tmp_path / "models" / "model-000001" / "weights.bin").write_text("others")
    assert adapt(tmp_path).splitlines()[-1] == "2 built, 4 fresh"
    with Project(tmp_path / ".cogbuild", environ={}) as project:
        assert audit(project) == []
