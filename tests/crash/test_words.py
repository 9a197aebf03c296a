"""What is said of disks, word for word."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from cogbuild.errors.adapters import ArtifactNoRoom
from cogbuild.errors.bugs import Bug, error_of
from cogbuild.errors.state import DatabaseBroken, DiskFull, DiskTrouble, ReadOnlyData, StoresInUse, disk_error


def trouble(number: int, path: Path | None = None) -> OSError:
    """Return the error that the system raises, with or without the file's name."""
    return OSError(number, os.strerror(number), str(path)) if path else OSError(number, os.strerror(number))


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (
            errno.ENOSPC,
            (
                "the disk is full: /data can't be written\n  reason  No space left on device\n"
                "hint: make room, e.g. with `cogbuild cache gc`, then run the command again"
            ),
        ),
        (
            errno.EIO,
            (
                "the disk refused a write\n  path    /data\n  reason  Input/output error\n"
                "hint: look at the disk and at the limits of this user, then run the command again: "
                "what was reported done is kept"
            ),
        ),
        (
            errno.EROFS,
            (
                "the data directory can't be written\n  path    /data\n  reason  Read-only file system\n"
                "hint: give this user the right to write there, or name another with --data-dir"
            ),
        ),
        (errno.ENOENT, "None"),
    ],
)
def test_the_disk_speaks(number: int, said: str) -> None:
    """Each trouble of a disk has its words, and what is none of the disk's has none of these."""
    assert str(disk_error(trouble(number), "/data")) == said


def test_what_does_not_fit_is_one_pairs_trouble() -> None:
    """It exits with 1, as an adapter's failure does."""
    error = ArtifactNoRoom(adapter="onnx", model="me/digits@0123456789ab", store="/data/artifacts")
    assert error.exit_code == 1
    assert str(error) == (
        "there is no room on the disk for what onnx made of me/digits@0123456789ab\n  store  /data/artifacts\n"
        "hint: make room, e.g. with `cogbuild cache gc`, and run it again"
    )


def test_stores_in_use() -> None:
    """A repair waits for nobody."""
    assert str(StoresInUse(path="/data")) == (
        "other commands are at work in /data\nhint: run this again when they have ended"
    )


def test_what_nobody_expected_is_told_for_what_it_is(tmp_path: Path) -> None:
    """The disk's fault with the file's own path, a damaged database as such; everything else is a bug with a report."""
    (tmp_path / "logs").mkdir()
    inside = tmp_path / "work" / "x"
    full = error_of(trouble(errno.ENOSPC, inside), tmp_path)
    assert (type(full), full.facts["path"]) == (DiskFull, str(inside))
    unnamed = error_of(trouble(errno.EIO), tmp_path)
    assert (type(unnamed), unnamed.facts["path"]) == (DiskTrouble, tmp_path)
    assert type(error_of(trouble(errno.EACCES, inside), tmp_path)) is ReadOnlyData
    assert (
        type(error_of(sqlite3.DatabaseError("database disk image is malformed"), tmp_path)) is DatabaseBroken
    )
    elsewhere = error_of(trouble(errno.EACCES, Path("/elsewhere/x")), tmp_path)
    assert type(elsewhere) is Bug
    assert len(list((tmp_path / "logs").iterdir())) == 1
