"""One look at a tree that was looked at before: has anything moved? One stat a file, nothing opened, nothing listed.

A directory's own stat moves with every name that comes or goes in it, so the names that were there are enough. Imports
little, and keeps the loop in C: a run with nothing to do over live directories is this loop and not much else.
"""

from __future__ import annotations

import os
import struct
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FORMAT", "RACY_NS", "UNTRUSTED", "ctime_ns", "pack", "row", "same", "unpack", "without_ctime"]

#: Number of the format of memos.
FORMAT = 2

# git's "racy" rule: a file this young when it was hashed may change again within the same time stamp.
RACY_NS = 2_000_000_000

_ROW = "IQqqQ"
_SIZE = struct.calcsize(">" + _ROW)
_HEAD = struct.Struct(">BII")
_fields = attrgetter("st_mode", "st_size", "st_mtime_ns", "st_ctime_ns", "st_ino")
_packed = struct.Struct(">" + _ROW).pack

#: The row of what is never like it was, e.g. of a file that was too young to trust.
UNTRUSTED = bytes(_SIZE)


def row(info: os.stat_result) -> bytes:
    """Return what a stat says, packed."""
    return _packed(*_fields(info))


def ctime_ns(packed: bytes) -> int:
    """Return when what a row is of last changed, its content or its stat."""
    return int(struct.unpack(">" + _ROW, packed)[3])


def without_ctime(packed: bytes) -> bytes:
    """Return a row without that: another name or other rights, given and taken, move nothing else."""
    mode, size, mtime, _, inode = struct.unpack(">" + _ROW, packed)
    return struct.pack(">" + _ROW, mode, size, mtime, 0, inode)


def pack(names: Sequence[str], rows: Sequence[bytes]) -> bytes:
    """Return names below a directory with their rows; the directory itself is the name ``""``."""
    joined = b"\0".join(map(os.fsencode, names))
    return _HEAD.pack(FORMAT, len(joined), len(names)) + joined + b"".join(rows)


def unpack(blob: bytes) -> tuple[list[str], list[bytes], bytes] | None:
    """Return what ``pack`` was given and the bytes behind it; None: another format."""
    if blob[:1] != bytes([FORMAT]):
        return None
    _, size, count = _HEAD.unpack_from(blob)
    start = _HEAD.size + size
    end = start + count * _SIZE
    names = [os.fsdecode(name) for name in blob[_HEAD.size : start].split(b"\0")]
    return names, [blob[at : at + _SIZE] for at in range(start, end, _SIZE)], blob[end:]


def same(directory: str, blob: bytes) -> bool:
    """Whether all that ``pack`` was given, with whatever behind it, is in *directory* as it was."""
    if blob[:1] != bytes([FORMAT]):
        return False
    _, size, count = _HEAD.unpack_from(blob)
    start = _HEAD.size + size
    base = os.fsencode(directory) + b"/"
    paths = [base + name for name in blob[_HEAD.size : start].split(b"\0")]
    try:
        now = struct.pack(">" + _ROW * count, *chain.from_iterable(map(_fields, map(os.lstat, paths))))
    except (OSError, struct.error):
        return False
    return now == blob[start : start + count * _SIZE]
