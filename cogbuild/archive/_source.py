"""A zip as bytes that can be read anywhere, and the records at its end."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from cogbuild.errors import printable
from cogbuild.errors.uploads import NotAZip, ZipBroken, ZipHiddenBytes, ZipInParts, ZipTruncated

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["End", "Source", "find_end", "shown"]

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_NARROW, _WIDE = 0xFFFF, 0xFFFFFFFF  # "the real number is in the zip64 record"


def shown(name: bytes) -> str:
    """Return *name* as messages show it."""
    text = printable(name)
    return text if len(text) <= 200 else text[:197] + "..."


class Source:
    """The zip as a file that can be read anywhere; *name* is what messages call it."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file = file
        self.name = name
        self.size = file.seek(0, os.SEEK_END)

    def at(self, offset: int, length: int) -> bytes:
        """Return exactly *length* bytes from *offset*."""
        if offset + length > self.size:
            raise ZipTruncated(zip=self.name)
        self.file.seek(offset)
        data = b""
        while len(data) < length:
            more = self.file.read(length - len(data))
            if not more:
                raise ZipTruncated(zip=self.name)
            data += more
        return data

    def broken(self, problem: str) -> ZipBroken:
        """Return the error for what no program that writes zips would write."""
        return ZipBroken(zip=self.name, problem=problem)


class End(NamedTuple):
    """Where the list of files is."""

    entries: int
    size: int
    offset: int
    position: int  # where the first of the end records begins


def find_end(source: Source) -> End:
    """Return what the end records say, which have to be the last bytes of the zip."""
    begin = max(0, source.size - _END.size - _NARROW)
    tail = source.at(begin, source.size - begin)
    fits = [at for at in _signatures(tail) if at + _END.size + _comment(tail, at) == len(tail)]
    if not fits:
        raise _no_end(source, tail)
    if len(fits) > 1:
        raise source.broken("it ends in two ways")
    _, disk, first_disk, here, total, size, offset, _ = _END.unpack_from(tail, fits[0])
    end = End(total, size, offset, begin + fits[0])
    if (disk, first_disk) not in ((0, 0), (_NARROW, _NARROW)) or here != total:
        raise ZipInParts(zip=source.name)
    return _end64(source, end)


def _signatures(tail: bytes) -> Iterator[int]:
    at = tail.find(b"PK\5\6")
    while 0 <= at <= len(tail) - _END.size:
        yield at
        at = tail.find(b"PK\5\6", at + 1)


def _comment(tail: bytes, at: int) -> int:
    return int.from_bytes(tail[at + 20 : at + 22], "little")


def _no_end(source: Source, tail: bytes) -> NotAZip | ZipTruncated | ZipHiddenBytes:
    for at in reversed(list(_signatures(tail))):
        extra = len(tail) - at - _END.size - _comment(tail, at)
        if extra > 0:
            return ZipHiddenBytes(zip=source.name, bytes=extra)
    looks_right = source.size >= 4 and source.at(0, 4) in (b"PK\3\4", b"PK\5\6")
    return ZipTruncated(zip=source.name) if looks_right else NotAZip(zip=source.name)


def _end64(source: Source, end: End) -> End:
    at = end.position - _LOCATOR64.size
    locator = source.at(at, _LOCATOR64.size) if at >= 0 else b""
    if not locator.startswith(b"PK\6\7"):
        return end
    _, _, position, disks = _LOCATOR64.unpack(locator)
    if disks > 1:
        raise ZipInParts(zip=source.name)
    if position + _END64.size > at:
        raise source.broken("its zip64 record is not where it should be")
    fields = _END64.unpack(source.at(position, _END64.size))
    signature, length, *_, here, total, size, offset = fields
    if signature != b"PK\6\6" or position + 12 + length != at or here != total:
        raise source.broken("its zip64 record is not where it should be")
    for narrow, wide, unset in (
        (end.entries, total, _NARROW),
        (end.size, size, _WIDE),
        (end.offset, offset, _WIDE),
    ):
        if narrow not in (wide, unset):
            raise source.broken("its two end records disagree")
    return End(total, size, offset, position)
