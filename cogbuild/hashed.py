"""Whether bytes that are kept are still those of their digest: known from an earlier look, else by reading them.

What a file looked like when it was hashed (mode, size, mtime, ctime, inode) is a hint. It is trusted while the file looks the
same, in the same boot, and for ``LIMIT``: a write shows in the stat, a bit that flips in the medium does not. What was
younger than two seconds when it was hashed leaves no hint (git's "racy" rule), but for what cogbuild itself had just
written, or linked once more. Small files are read each time where they are few, because that costs what asking costs; where
they are many, one hint holds the looks of all small files of a tree. So no hint is kept for a small model or artifact.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from cogbuild.digest import LARGE, file_digest
from cogbuild.fingerprint import glance

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cogbuild.fingerprint.trees import Entry, Tree

__all__ = ["LIMIT", "Hashed", "Hint", "Looks", "boot_id", "many", "reads", "seconds_up", "wrong_with"]

#: Seconds for which a hint is trusted.
LIMIT = 24 * 3600

# So many small files, and so many bytes in them, are read each time.
_FEW = 8
_LITTLE = 64 << 10

_ROW = len(glance.UNTRUSTED)
_NAME = 12  # bytes of a digest that a hint's name begins with
_HELD = 4096  # hints kept in mind


class Hint(NamedTuple):
    """What something looked like when it was hashed."""

    at: int  # seconds since the boot
    boot: bytes
    looks: bytes


def boot_id() -> bytes:
    """Return what names this boot of the machine; nothing where that can't be told."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return bytes.fromhex(file.read().strip().replace("-", ""))[:8]
    except (OSError, ValueError):
        return b""


def seconds_up() -> int:
    """Return the seconds since the boot, those asleep included; no step of the clock moves them."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME))


def many(count: int, size: int) -> bool:
    """Whether so many files and bytes are worth a hint."""
    return count > _FEW or size > _LITTLE


class Hashed:
    """What is known of kept files; asked from several threads. *load* brings a hint that was kept, by its name."""

    def __init__(
        self,
        load: Callable[[bytes], Hint | None] = lambda _name: None,
        *,
        boot: bytes | None = None,
        now: Callable[[], int] | None = None,
    ) -> None:
        self._load = load
        self._boot = boot_id() if boot is None else boot
        self._now = now or seconds_up
        self._known: dict[bytes, Hint] = {}
        self._new: set[bytes] = set()
        self._lock = threading.Lock()
        self._reading = threading.Lock()  # large files: one at a time, by all processors

    # -- hints ----------------------------------------------------------------------------------------------------

    def hint(self, name: bytes) -> Hint | None:
        """Return the hint called *name* if it is to be trusted."""
        found = self._known.get(name) or self._load(name)
        if found is None or not self._boot or found.boot != self._boot:
            return None
        return found if 0 <= self._now() - found.at < LIMIT else None

    def note(self, name: bytes, looks: bytes, *, at: int | None = None) -> None:
        """Keep a hint in mind; *at* is when it was hashed, now where that is not said."""
        with self._lock:
            if len(self._known) >= _HELD:
                self._known = {kept: self._known[kept] for kept in self._new}
            self._known[name] = Hint(self._now() if at is None else at, self._boot, looks)
            self._new.add(name)

    def take(self) -> list[tuple[bytes, Hint]]:
        """Return the hints that are new since this was last asked, to be kept somewhere."""
        with self._lock:
            new, self._new = self._new, set()
            return [(name, self._known[name]) for name in new]

    def stale(self) -> tuple[bytes, int]:
        """Return this boot, and the second before which what was noted in it is too old."""
        return self._boot, self._now() - LIMIT

    # -- files ----------------------------------------------------------------------------------------------------

    def holds(self, path: str | os.PathLike[str], info: os.stat_result, digest: str) -> bool:
        """Whether the regular file at *path*, which looks like *info*, holds the content *digest*."""
        if info.st_size < LARGE:
            return file_digest(path)[0] == digest
        name, row = _name(digest, info), glance.row(info)
        if self._is_like(name, row):
            return True
        with self._reading:
            if self._is_like(name, row):  # another thread wanted it too
                return True
            if file_digest(path)[0] != digest:
                return False
            if glance.row(os.lstat(path)) == row and not young(info):
                self.note(name, row)
            return True

    def written(self, digest: str, info: os.stat_result) -> None:
        """Hear that cogbuild itself has just written a file, and hashed what it wrote."""
        if info.st_size >= LARGE:
            self.note(_name(digest, info), glance.row(info))

    def linked(self, digest: str, before: os.stat_result, after: os.stat_result) -> None:
        """Hear that a file was given one more name, which moves its ctime."""
        hint = self.hint(_name(digest, before))
        if hint is not None and hint.looks == glance.row(before) and _only_linked(before, after):
            self.note(_name(digest, after), glance.row(after), at=hint.at)

    def _is_like(self, name: bytes, row: bytes) -> bool:
        hint = self.hint(name)
        return hint is not None and hint.looks == row


class Looks:
    """What is known of the small files of one tree: packed into one hint, where they are worth one."""

    def __init__(self, hashed: Hashed, tree: Tree) -> None:
        small = [entry.size for entry in tree.entries if entry.kind in "fx" and entry.size < LARGE]
        self._hashed = hashed
        self._count = len(small)
        self._packed = many(len(small), sum(small))
        self._name = bytes.fromhex(tree.digest[:40]) if self._packed else b""
        self._old = hashed.hint(self._name) if self._packed else None
        self._rows: list[bytes] = []
        self._carried = False  # something is trusted because it was hashed before

    def wants(self, entry: Entry) -> bool:
        """Whether something is known, or to be known, of an entry's file."""
        return entry.kind in "fx" and (self._packed or entry.size >= LARGE)

    def holds(self, path: str, info: os.stat_result, digest: str) -> bool:
        """Whether the tree's next file, at *path*, holds the content *digest*."""
        if info.st_size >= LARGE or not self._packed:
            return self._hashed.holds(path, info, digest)
        row = glance.row(info)
        if row == self._next():
            self._rows.append(row)
            self._carried = True
            return True
        whole = file_digest(path)[0] == digest
        self._rows.append(row if whole and not young(info) else glance.UNTRUSTED)
        return whole

    def written(self, info: os.stat_result) -> None:
        """Hear what the tree's next small file looks like, which is known to be whole."""
        self._rows.append(glance.row(info))

    def linked(self, digest: str, before: os.stat_result, after: os.stat_result) -> None:
        """Hear that the tree's next file was given one more name."""
        if before.st_size >= LARGE:
            self._hashed.linked(digest, before, after)
        elif self._packed:
            known = glance.row(before) == self._next() and _only_linked(before, after)
            self._rows.append(glance.row(after) if known else glance.UNTRUSTED)
            self._carried = True

    def keep(self) -> None:
        """Keep what is known now, where all files were looked at."""
        looks = b"".join(self._rows)
        if not self._packed or len(self._rows) != self._count or not any(looks):
            return
        if self._old is None or looks != self._old.looks:
            at = self._old.at if self._old is not None and self._carried else None
            self._hashed.note(self._name, looks, at=at)

    def _next(self) -> bytes | None:
        start = len(self._rows) * _ROW
        return None if self._old is None else self._old.looks[start : start + _ROW]


def reads(path: str, _info: os.stat_result, digest: str) -> bool:
    """Whether a file holds the content *digest*: by reading it, whatever is known."""
    return file_digest(path)[0] == digest


def wrong_with(
    at: str | Path, entry: Entry, holds: Callable[[str, os.stat_result, str], bool] | None
) -> str | None:
    """Return what is wrong with what lies at *at*, None where it is the entry; *holds* is asked of a file's bytes."""
    try:
        info = os.lstat(at)
        if entry.kind == "l":
            return (
                None
                if stat.S_ISLNK(info.st_mode) and os.readlink(at) == entry.value
                else "the symlink changed"
            )
        if entry.kind == "d":
            return None if stat.S_ISDIR(info.st_mode) else "it is no directory"
        if not stat.S_ISREG(info.st_mode):
            return "it is no file"
        if info.st_size != entry.size:
            return f"it has {info.st_size} bytes, {entry.size} were stored"
        return "its content changed" if holds and not holds(str(at), info, entry.value) else None
    except OSError as trouble:
        return trouble.strerror or "it can't be read"


def young(info: os.stat_result) -> bool:
    """Whether a file changed so lately that it may change again within the same time stamp."""
    return time.time_ns() - max(info.st_mtime_ns, info.st_ctime_ns) < glance.RACY_NS


def _name(digest: str, info: os.stat_result) -> bytes:
    """Return how the hint of a large file is called: several files may hold one content."""
    return bytes.fromhex(digest[: 2 * _NAME]) + info.st_ino.to_bytes(8, "big")


def _only_linked(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_mode, before.st_size, before.st_mtime_ns, before.st_ino) == (
        after.st_mode,
        after.st_size,
        after.st_mtime_ns,
        after.st_ino,
    )
