"""The bytes of one entry, in constant memory, exactly as many as it declares."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from cogbuild.archive._source import shown
from cogbuild.archive._structure import DEFLATED
from cogbuild.errors.uploads import ZipEntryDamaged, ZipEntryLonger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cogbuild.archive._source import Source
    from cogbuild.archive._structure import Entry

__all__ = ["unpack", "unpack_small"]

_CHUNK = 1 << 16


def unpack(source: Source, entry: Entry) -> Iterator[bytes]:
    """Yield the content of *entry*; refuses it when length or checksum are not those that it declares."""
    chunks = _inflated(source, entry) if entry.method == DEFLATED else _stored(source, entry)
    crc = written = 0
    for chunk in chunks:
        written += len(chunk)
        if written > entry.size:
            raise ZipEntryLonger(zip=source.name, entry=shown(entry.path), declared=entry.size)
        crc = zlib.crc32(chunk, crc)
        yield chunk
    if written < entry.size:
        raise _damaged(source, entry, f"it has {written} bytes where {entry.size} are declared")
    if crc != entry.crc:
        raise _damaged(source, entry, "its checksum is wrong")


def unpack_small(source: Source, entry: Entry) -> bytes:
    """Return the content of an entry whose size was found to be small."""
    return b"".join(unpack(source, entry))


def _stored(source: Source, entry: Entry) -> Iterator[bytes]:
    for start in range(entry.start, entry.start + entry.packed, _CHUNK):
        yield source.at(start, min(_CHUNK, entry.start + entry.packed - start))


def _inflated(source: Source, entry: Entry) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for packed in _stored(source, entry):
            if inflater.eof:
                raise _damaged(source, entry, "its compressed data ends early")
            chunk = inflater.decompress(packed, _CHUNK)
            while chunk:
                yield chunk
                # Also with nothing left to read: the inflater may hold back what did not fit.
                chunk = inflater.decompress(inflater.unconsumed_tail, _CHUNK)
    except zlib.error:
        raise _damaged(source, entry, "its compressed data makes no sense") from None
    if not inflater.eof or inflater.unused_data:
        raise _damaged(source, entry, "its compressed data does not end where it should")


def _damaged(source: Source, entry: Entry, problem: str) -> ZipEntryDamaged:
    return ZipEntryDamaged(zip=source.name, entry=shown(entry.path), problem=problem)
