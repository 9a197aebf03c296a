"""The structure of a zip, read strictly: one list of files, and every byte before it owned by exactly one of them.

Checked here, before anything is written: the end record ends the file, the list of files ends where the end record
begins, each file's own header says what the list says, the files follow each other without gap or overlap, and no
two names get in each other's way. Field names are those of APPNOTE.TXT, sections 4.3 to 4.5.
"""

from __future__ import annotations

import re
import stat
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cogbuild.archive._source import find_end, shown
from cogbuild.errors.uploads import (
    ZipEmpty,
    ZipEncrypted,
    ZipEntriesOverlap,
    ZipHeadersDisagree,
    ZipHiddenBytes,
    ZipInParts,
    ZipMethodUnknown,
    ZipNameLeaves,
    ZipNamesClash,
    ZipNameTwice,
    ZipNameUnusable,
    ZipSpecialFile,
    ZipTooManyEntries,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cogbuild.archive._source import End, Source

__all__ = ["DEFLATED", "STORED", "Entry", "read_structure"]

MAX_ENTRIES = 1_000_000
MAX_LIST = 64 << 20  # bytes of the list of files, which is held in memory
MAX_DEPTH = 64
MAX_PATH = 2048
MAX_NAME = 255
MAX_TARGET = 4095  # bytes of a symlink's target

STORED, DEFLATED = 0, 8

_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_NARROW, _WIDE = 0xFFFF, 0xFFFFFFFF  # "the real number is in the zip64 record"

_ENCRYPTED = 0x2041  # encrypted, strongly encrypted, headers masked
_DESCRIPTOR = 0x0008  # checksum and sizes follow the data
_PATCH = 0x0020
_UTF8 = 0x0800
_UNIX = (3, 19)  # systems whose mode bits mean something: Unix, macOS
_DRIVE = re.compile(rb"[A-Za-z]:")
_SPECIAL = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: "a character device",
}


@dataclass(slots=True)
class Entry:
    """One file of the zip, as the list of files has it."""

    name: bytes  # as written, a directory's with its slash
    kind: str  # "f" file, "x" executable file, "d" directory, "l" symlink
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int  # of its own header
    start: int = 0  # of its data, once the header was read

    @property
    def path(self) -> bytes:
        """The name without a directory's slash; empty for the directory that holds all."""
        return _path(self.name)


def read_structure(source: Source) -> list[Entry]:
    """Return the entries in the order of their data, or refuse the zip."""
    end = find_end(source)
    if end.entries == 0:
        raise ZipEmpty(zip=source.name)
    if end.entries > MAX_ENTRIES or end.size > MAX_LIST:
        raise ZipTooManyEntries(zip=source.name, limit=MAX_ENTRIES)
    gap = end.position - end.size - end.offset
    if gap < 0:
        raise source.broken("its list of files is not where it should be")
    if gap > 0:
        raise ZipHiddenBytes(zip=source.name, bytes=gap)
    entries = list(_listed(source, end))
    _check_names(source, entries)
    entries.sort(key=lambda entry: entry.offset)
    _place(source, entries, end.offset)
    return entries


# The list of files


def _listed(source: Source, end: End) -> Iterator[Entry]:
    data = source.at(end.offset, end.size)
    at = 0
    for _ in range(end.entries):
        if at + _CENTRAL.size > len(data) or data[at : at + 4] != b"PK\1\2":
            raise source.broken("its list of files is shorter than its end says")
        fields = _CENTRAL.unpack_from(data, at)
        name_size, extra_size, comment_size = fields[10:13]
        name_at = at + _CENTRAL.size
        extra_at = name_at + name_size
        at = extra_at + extra_size + comment_size
        if at > len(data):
            raise source.broken("its list of files is shorter than its end says")
        yield _entry(source, fields, data[name_at:extra_at], data[extra_at : extra_at + extra_size])
    if at != len(data):
        raise source.broken("its list of files is longer than its end says")


def _entry(source: Source, fields: tuple[int, ...], name: bytes, extra: bytes) -> Entry:
    _, made_by, _, flags, method, _, _, crc, packed, size, *_, disk, _, attributes, offset = fields
    if disk not in (0, _NARROW):
        raise ZipInParts(zip=source.name)
    size, packed, offset = _widened(source, extra, (size, packed, offset))
    _check_name(source, name, flags)
    if flags & _ENCRYPTED:
        raise ZipEncrypted(zip=source.name, entry=shown(name))
    if method not in (STORED, DEFLATED) or flags & _PATCH:
        raise ZipMethodUnknown(zip=source.name, entry=shown(name), method=method)
    mode = attributes >> 16 if made_by >> 8 in _UNIX else 0
    entry = Entry(name, _kind(source, name, mode), flags, method, crc, packed, size, offset)
    if (entry.kind == "d" and size) or (entry.kind == "l" and not 0 < size <= MAX_TARGET):
        raise ZipHeadersDisagree(
            zip=source.name,
            entry=shown(name),
            kind="directory" if entry.kind == "d" else "symlink",
            size=size,
        )
    if method == STORED and size != packed:
        raise ZipHeadersDisagree(zip=source.name, entry=shown(name), size=size, stored=packed)
    return entry


def _widened(source: Source, extra: bytes, values: tuple[int, ...]) -> list[int]:
    """Replace the values that refer to zip64 by those of its extra field, which has them in this order."""
    if _WIDE not in values:
        return list(values)
    at, field = 0, b""
    while at + 4 <= len(extra):
        tag, length = struct.unpack_from("<2H", extra, at)
        if tag == 1:
            field = extra[at + 4 : at + 4 + length]
            break
        at += 4 + length
    numbers = iter(struct.unpack_from(f"<{len(field) // 8}Q", field))
    try:
        return [next(numbers) if value == _WIDE else value for value in values]
    except StopIteration:
        raise source.broken("a zip64 field is missing") from None


def _kind(source: Source, name: bytes, mode: int) -> str:
    directory = name.endswith(b"/")
    kind = stat.S_IFMT(mode)
    if kind in _SPECIAL:
        raise ZipSpecialFile(zip=source.name, entry=shown(name), kind=_SPECIAL[kind])
    if kind and directory != (kind == stat.S_IFDIR):
        raise ZipNameUnusable(
            zip=source.name, entry=shown(name), reason="name and mode disagree on what it is"
        )
    if directory:
        return "d"
    if kind == stat.S_IFLNK:
        return "l"
    return "x" if mode & 0o111 else "f"


def _path(name: bytes) -> bytes:
    # tar programs that write zips begin every name with "./"
    return b"" if name == b"./" else name.removesuffix(b"/").removeprefix(b"./")


def _check_name(source: Source, name: bytes, flags: int) -> None:
    path = _path(name)
    parts = path.split(b"/")
    if (
        b".." in parts
        or name.startswith(b"/")
        or path.startswith(b"/")
        or b"\\" in name
        or _DRIVE.match(path)
    ):
        raise ZipNameLeaves(zip=source.name, entry=shown(name))
    reason = None
    if (b"" in parts or b"." in parts) and name != b"./":
        reason = "a part of it is empty or a dot"
    elif b"\0" in name:
        reason = "it holds a NUL character"
    elif len(name) > MAX_PATH or len(parts) > MAX_DEPTH or any(len(part) > MAX_NAME for part in parts):
        reason = "it is too long or too deep"
    elif flags & _UTF8 and not _is_utf8(name):
        reason = "it is marked as UTF-8 and is not"
    if reason:
        raise ZipNameUnusable(zip=source.name, entry=shown(name), reason=reason)


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _check_names(source: Source, entries: list[Entry]) -> None:
    kinds: dict[bytes, str] = {}
    directories: set[bytes] = set()
    for entry in entries:
        path = entry.path
        if path in kinds:
            clash = (kinds[path] == "d") != (entry.kind == "d")
            raise (ZipNamesClash if clash else ZipNameTwice)(zip=source.name, entry=shown(path))
        kinds[path] = entry.kind
        above = path.rpartition(b"/")[0]
        while above and above not in directories:
            directories.add(above)
            above = above.rpartition(b"/")[0]
        if len(directories) + len(kinds) > MAX_ENTRIES:
            raise ZipTooManyEntries(zip=source.name, limit=MAX_ENTRIES)
    for path in directories:
        if kinds.get(path, "d") != "d":
            raise ZipNamesClash(zip=source.name, entry=shown(path))


# Each file's own header


def _place(source: Source, entries: list[Entry], end: int) -> None:
    """Check each entry's own header and that the entries fill the zip up to its list of files."""
    if entries[0].offset > 0:
        raise ZipHiddenBytes(zip=source.name, bytes=entries[0].offset)
    nexts = [entry.offset for entry in entries[1:]] + [end]
    for i, (entry, following) in enumerate(zip(entries, nexts, strict=True)):
        _check_header(source, entry)
        ends = [entry.start + entry.packed]
        if ends[0] > following:
            other = entries[i + 1].name if i + 1 < len(entries) else b"the list of files"
            raise ZipEntriesOverlap(zip=source.name, entry=shown(entry.name), other=shown(other))
        if entry.flags & _DESCRIPTOR:
            ends = list(_described_ends(source, entry, ends[0]))
        if not ends:
            raise ZipHeadersDisagree(zip=source.name, entry=shown(entry.name), about="what follows its data")
        if following not in ends:
            raise ZipHiddenBytes(zip=source.name, bytes=following - ends[0], after=shown(entry.name))


def _check_header(source: Source, entry: Entry) -> None:
    header = _LOCAL.unpack(source.at(entry.offset, _LOCAL.size))
    signature, _, flags, method, _, _, crc, packed, size, name_size, extra_size = header
    if signature != b"PK\3\4":
        raise source.broken(f"{shown(entry.name)} is not where its list of files says")
    rest = source.at(entry.offset + _LOCAL.size, name_size + extra_size)
    name = rest[:name_size]
    size, packed = _widened(source, rest[name_size:], (size, packed))
    entry.start = entry.offset + _LOCAL.size + name_size + extra_size
    if name != entry.name:
        raise ZipHeadersDisagree(
            zip=source.name,
            entry=shown(entry.name),
            about="name",
            in_the_list=shown(entry.name),
            at_the_file=shown(name),
        )
    unknown = (0,) if flags & _DESCRIPTOR else ()
    for about, own, listed, also in (
        ("flags", flags & (_ENCRYPTED | _DESCRIPTOR), entry.flags & (_ENCRYPTED | _DESCRIPTOR), ()),
        ("method", method, entry.method, ()),
        ("checksum", crc, entry.crc, unknown),
        ("packed size", packed, entry.packed, unknown),
        ("size", size, entry.size, unknown),
    ):
        if own != listed and own not in also:
            raise ZipHeadersDisagree(
                zip=source.name, entry=shown(entry.name), about=about, in_the_list=listed, at_the_file=own
            )


def _described_ends(source: Source, entry: Entry, at: int) -> Iterator[int]:
    """Yield where the entry ends, for each form that writers give to checksum and sizes after the data."""
    tail = source.at(at, min(24, source.size - at))
    for form in ("<4s3L", "<4sL2Q", "<3L", "<L2Q"):
        length = struct.calcsize(form)
        if length > len(tail):
            continue
        values = struct.unpack_from(form, tail)
        signed = values[0] == b"PK\7\x08"
        if values[-3:] == (entry.crc, entry.packed, entry.size) and (signed or len(values) == 3):
            yield at + length
