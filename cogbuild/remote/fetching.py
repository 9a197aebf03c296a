"""Fetching what an object store has."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from cogbuild.errors.remote import StoreAway
from cogbuild.remote.telling import Telling, silent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cogbuild.remote.store import Remote

__all__ = ["fetch"]


def fetch(
    remote: Remote,
    key: str,
    target: Path,
    *,
    say: Callable[[str], None] = silent,
    cancelled: Callable[[], bool] = lambda: False,
) -> bool:
    """Write what *key* names to *target*; False where it is not there. Raises the errors of ``errors.remote``.

    *say* hears how far a large one is.
    """

    def file(key: str, at: Path, size: int, mode: int) -> None:
        telling = Telling(f"fetching {key.rpartition('/')[2]}", size, say, cancelled)
        _fetch_file(remote, key, at, mode, telling)

    with remote.errors():
        size = remote.size(key, sure=True)
        if size is not None:
            file(key, target, size, 0o644)
            return True
        listed = remote.listed(key) if remote.below(key) else None
        if listed is None:
            return False
        target.mkdir()
        for row in listed:
            at = _place(remote, key, row, target)
            if row["kind"] == "directory":
                at.mkdir(exist_ok=True)
            elif row["kind"] == "link":
                os.symlink(row["target"], at)
            else:
                mode = 0o755 if row["kind"] == "executable" else 0o644
                file(f"{key}/{row['path']}", at, row.get("size") or 0, mode)
        return True


def _place(remote: Remote, key: str, row: dict[str, Any], target: Path) -> Path:
    """Return where an entry of a directory's list goes."""
    names = row["path"].split("/")
    at = target.joinpath(*names)
    # The list comes from outside: nothing of it may lie elsewhere, nor be reached through one of its links.
    straight = os.path.join(os.path.realpath(target), *names[:-1])
    if {"", ".", ".."} & set(names) or os.path.realpath(at.parent) != straight:
        raise StoreAway(store=remote.url, reason=f"the list of {key} names {row['path']!r}")
    at.parent.mkdir(parents=True, exist_ok=True)
    return at


def _fetch_file(remote: Remote, key: str, target: Path, mode: int, telling: Telling) -> None:
    import obstore

    answer = obstore.get(remote.opened, key)
    with target.open("xb") as file:
        for chunk in answer.stream(min_chunk_size=1 << 20):
            file.write(chunk)
            telling.reached(file.tell())
    target.chmod(mode)
