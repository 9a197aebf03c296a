"""Errors of what cogbuild keeps: database, cache, objects, artifacts, the data directory (exit 3)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from cogbuild.errors import CogbuildError

if TYPE_CHECKING:
    import os

__all__ = [
    "ArtifactsElsewhere",
    "CacheTooNew",
    "DatabaseBroken",
    "DatabaseBusy",
    "DatabaseTooNew",
    "DiskFull",
    "DiskTrouble",
    "NamedNoDirectory",
    "NoDataDirectory",
    "ObjectDamaged",
    "ObjectMissing",
    "PlaceNotMade",
    "ReadOnlyData",
    "StoresInUse",
    "disk_error",
]


class StateError(CogbuildError):
    exit_code = 3
    fatal = True


class NoDataDirectory(StateError):
    exit_code = 2
    headline = "there is no cogbuild project here or above"
    hint = "make one with `cogbuild init`, or name one with --data-dir"


class NamedNoDirectory(NoDataDirectory):
    headline = "there is no data directory {path}"
    hint = "it was named with --data-dir or COGBUILD_DATA_DIR; `cogbuild models add` would make it"


class DatabaseTooNew(StateError):
    headline = "this database was written by a newer cogbuild"
    hint = "upgrade cogbuild, or point COGBUILD_DATA_DIR at another directory"


class CacheTooNew(StateError):
    headline = "this cache was written by a newer cogbuild"
    hint = "upgrade cogbuild, or remove the cache: it costs only time"


class DatabaseBroken(StateError):
    headline = "the Cog database can't be used"
    hint = "`cogbuild doctor --repair` keeps it aside and rebuilds it from what can be read, the objects and the cache"


class DatabaseBusy(StateError):
    headline = "another command has held the Cog database for too long"
    hint = "run the command again when the other one has ended"


class ReadOnlyData(StateError):
    headline = "the data directory can't be written"
    hint = "give this user the right to write there, or name another with --data-dir"


class PlaceNotMade(StateError):
    exit_code = 2
    headline = "the directory {path} can't be made"
    hint = "name another place with {option}"
    in_hint = ("option",)


class DiskTrouble(StateError):
    headline = "the disk refused a write"
    hint = "look at the disk and at the limits of this user, then run the command again: what was reported done is kept"


class DiskFull(DiskTrouble):
    headline = "the disk is full: {path} can't be written"
    hint = "make room, e.g. with `cogbuild cache gc`, then run the command again"


class ArtifactsElsewhere(StateError):
    headline = "artifact_store was changed, and {gone} of {count} artifacts are not there"
    hint = (
        "move what was made to the new place, or change the setting back; to have it made anew, "
        "`cogbuild artifacts verify` in the data directory notes what is gone"
    )


class StoresInUse(StateError):
    headline = "other commands are at work in {path}"
    hint = "run this again when they have ended"


class ObjectMissing(StateError):
    fatal = False
    headline = "a stored file is not there"
    hint = "add the model again: `cogbuild models add` puts back what is missing"


class ObjectDamaged(StateError):
    fatal = False
    headline = "a stored file no longer matches its name"
    hint = "add the model again: `cogbuild models add` puts back what is missing"


def disk_error(trouble: OSError, path: str | os.PathLike[str]) -> StateError | None:
    """Return what an ``OSError`` at or below *path* says of the disk, None where it says something else."""
    if trouble.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ReadOnlyData(path=path, reason=trouble.strerror)
    if trouble.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(path=path, reason=trouble.strerror)
    if trouble.errno in (errno.EIO, errno.EMFILE, errno.ENFILE):
        return DiskTrouble(path=path, reason=trouble.strerror)
    return None
