"""Removing a tree that somebody else filled: any modes, any depth. Workers import this module: it stays light."""

from __future__ import annotations

import errno
import os
from contextlib import suppress

__all__ = ["remove_tree"]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: str | bytes | os.PathLike[str]) -> None:
    """Remove *path* and all below it; what is already gone is fine.

    Directories are moved up before they are emptied, so neither recursion nor the length of a path limits the depth.
    """
    raw = os.fsencode(path)
    try:
        os.rmdir(raw)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        os.unlink(raw)
        return
    except OSError:
        top = _opened(raw, None)
        try:
            _empty(top)
        finally:
            os.close(top)
        os.rmdir(raw)


def _empty(top: int) -> None:
    prefix, moved = ".gone-" + os.urandom(6).hex() + "-", 0
    while names := os.listdir(top):
        for name in names:
            if _unlinked(name, top):
                continue
            below = _opened(name, top)
            try:
                for entry in os.listdir(below):
                    if not _unlinked(entry, below):
                        # Moving a directory writes to it (its "..").
                        os.chmod(entry, 0o700, dir_fd=below)
                        moved += 1
                        _moved_up(entry, f"{prefix}{moved}", below, top)
            finally:
                os.close(below)
            os.rmdir(name, dir_fd=top)


def _moved_up(entry: str, name: str, below: int, top: int) -> None:
    try:
        os.rename(entry, name, src_dir_fd=below, dst_dir_fd=top)
    except OSError as trouble:
        if trouble.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        # No room for another name, even where removing will make some: then one after the other, in place.
        inside = _opened(entry, below)
        try:
            _empty(inside)
        finally:
            os.close(inside)
        os.rmdir(entry, dir_fd=below)


def _unlinked(name: str, parent: int) -> bool:
    """Remove what is not a directory; False for a directory that is not empty."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return True
    except (IsADirectoryError, PermissionError):
        with suppress(OSError):
            os.rmdir(name, dir_fd=parent)
            return True
        return False
    return True


def _opened(name: str | bytes, parent: int | None) -> int:
    with suppress(PermissionError):
        os.chmod(name, 0o700, dir_fd=parent)
    return os.open(name, _DIRECTORY, dir_fd=parent)
