"""Fetching what an object store has."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from cogbuild.errors.remote import StoreAway

if TYPE_CHECKING:
    from pathlib import Path

    from cogbuild.remote.store import Remote

__all__ = ["fetch"]


def fetch(remote: Remote, key: str, target: Path) -> bool:
    """Write what *key* names to *target*; False where it is not there. Raises the errors of ``errors.remote``."""
    with remote.errors():
        if remote.size(key, sure=True) is not None:
            _fetch_file(remote, key, target, 0o644)
            return True
        listed = remote.listed(key) if remote.below(key) else None
        if listed is None:
            return False
        target.mkdir()
        for row in listed:
            _fetch_row(remote, key, row, target)
        return True


def _fetch_row(remote: Remote, key: str, row: dict[str, Any], target: Path) -> None:
    names = row["path"].split("/")
    at = target.joinpath(*names)
    # The list comes from outside: nothing of it may lie elsewhere, nor be reached through one of its links.
    straight = os.path.join(os.path.realpath(target), *names[:-1])
    if {"", ".", ".."} & set(names) or os.path.realpath(at.parent) != straight:
        raise StoreAway(store=remote.url, reason=f"the list of {key} names {row['path']!r}")
    at.parent.mkdir(parents=True, exist_ok=True)
    if row["kind"] == "directory":
        at.mkdir(exist_ok=True)
    elif row["kind"] == "link":
        os.symlink(row["target"], at)
    else:
        _fetch_file(remote, f"{key}/{row['path']}", at, 0o755 if row["kind"] == "executable" else 0o644)


def _fetch_file(remote: Remote, key: str, target: Path, mode: int) -> None:
    import obstore

    answer = obstore.get(remote.opened, key)
    with target.open("xb") as file:
        for chunk in answer.stream(min_chunk_size=1 << 20):
            file.write(chunk)
    target.chmod(mode)
