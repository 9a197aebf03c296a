"""A damaged database: kept aside, and rebuilt from what can be read of it, the objects and the cache.

What only the database knew and can't be read any more is gone: above all under which repo a model was added. Its bytes
are still there, so adding it again under that name brings back what the cache has of it, and no adapter runs.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cogbuild.audit import audit
from cogbuild.copying import sync_directory
from cogbuild.database import Database
from cogbuild.errors import CogbuildError
from cogbuild.errors.state import StoresInUse
from cogbuild.fingerprint.trees import read_tree
from cogbuild.housekeeping import salvage
from cogbuild.objects import Finding, disk_errors, half
from cogbuild.spec import MODEL_FILE
from cogbuild.using import alone

if TYPE_CHECKING:
    from pathlib import Path

    from cogbuild.project import Project

__all__ = ["Rebuilt", "check", "rebuild"]

_COUNTED = {"entries": "models", "outcomes": "outcomes", "attempts": "attempts", "locks": "locks"}
_LOG, _INDEX = "-wal", "-shm"


@dataclass(frozen=True)
class Rebuilt:
    """What came of a damaged database."""

    aside: Path
    wrong: list[str]  # what SQLite said of it
    regained: dict[str, int] = field(default_factory=dict)
    #: Sealed trees with a ``cog.yaml`` of which no model is known any more.
    nameless: list[Path] = field(default_factory=list)


def check(project: Project) -> list[Finding]:
    """Read everything that is kept, the database's own pages first, and return what is wrong; nothing is repaired."""
    path = project.data / "cog.db"
    if not path.exists():
        return []
    if wrong := salvage.complaints(path):
        return [Finding(path, text) for text in wrong]
    try:
        return audit(project)
    except (
        CogbuildError,
        sqlite3.DatabaseError,
        ValueError,
        LookupError,
        TypeError,
        AssertionError,
    ) as trouble:
        return [Finding(path, f"a row can't be read: {trouble}")]


def rebuild(project: Project) -> Rebuilt | None:
    """Put a rebuilt database in the place of a damaged one; None where it is sound.

    Raises ``StoresInUse`` and errors of the disk.
    """
    path = project.data / "cog.db"
    with alone(project.data) as mine:
        if not mine:
            raise StoresInUse(path=project.data)
        wrong = [item.what for item in check(project) if item.path == path]
        if not wrong:
            return None
        project.close()
        with disk_errors(project.data):
            return _rebuilt(project, path, wrong)


def _rebuilt(project: Project, path: Path, wrong: list[str]) -> Rebuilt:
    aside = project.data / "aside" / f"cog.db-{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(2).hex()}"
    aside.mkdir(parents=True)
    work = half(project.data)
    work.mkdir()
    try:
        for suffix in ("", _LOG):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy2(f"{path}{suffix}", aside / f"cog.db{suffix}")
                # SQLite writes to what it opens, and what was found is to stay as it was found.
                shutil.copyfile(f"{path}{suffix}", work / f"damaged{suffix}")
                _synced(aside / f"cog.db{suffix}")
        sync_directory(aside)
        database = Database(work / "cog.db")
        database.write(lambda con: _filled(project, con, work / "damaged"))
        regained = {
            word: database.con.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]
            for table, word in _COUNTED.items()
        }
        known = {model for (model,) in database.con.execute("SELECT id FROM models")}
        database.con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.close()
        _synced(work / "cog.db")
        project.close()  # whatever of ours has asked meanwhile
        # The old log first: SQLite would take it for that of the new file.
        for suffix in (_LOG, _INDEX):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{path}{suffix}")
        sync_directory(project.data)
        os.replace(work / "cog.db", path)
        sync_directory(project.data)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Rebuilt(aside, wrong, regained, _nameless(project, known))


def _filled(project: Project, con: sqlite3.Connection, damaged: Path) -> None:
    with contextlib.suppress(Exception):  # nothing of it can be read: then what there is elsewhere has to do
        salvage.copied(damaged, con)
    salvage.believable(con, lambda model: _sealed_tree(project.data / "models" / model))


def _sealed_tree(directory: Path) -> bytes | None:
    try:
        return read_tree(directory).tree.encode()
    except (OSError, CogbuildError):
        return None


def _nameless(project: Project, known: set[str]) -> list[Path]:
    found = []
    models = project.data / "models"
    for path in sorted(models.iterdir()) if models.is_dir() else []:
        if path.name not in known and (path / MODEL_FILE).is_file():
            with contextlib.suppress(OSError, CogbuildError):
                if read_tree(path).tree.model_id == path.name:
                    found.append(path)
    return found


def _synced(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
