"""How rows are kept small: what many of them share is stored once and referred to by number.

A manifest names its parts by 32-byte digests; in the database they are the numbers of the parts' rows. Names of artifacts
and of attempts are hex digits to everybody else and bytes or numbers here. A million pairs are a gigabyte of such text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cogbuild.digest import DIGEST_SIZE, hexdigest

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

__all__ = [
    "attempt_bytes",
    "attempt_name",
    "name_number",
    "numbers",
    "pack_manifests",
    "shared",
    "unpack_manifests",
]

# The labels that nearly every manifest has, as one byte; other labels begin with a printable character.
_LABELS = (b"adapter", b"model", b"variables", b"params", b"examples", b"python")
_NUMBER = 4  # bytes of a part's number
_PART = b"p" + DIGEST_SIZE.to_bytes(4, "big")  # how a row goes on after its label where it refers to a part


def pack_manifests(con: sqlite3.Connection, blobs: Iterable[bytes]) -> list[bytes]:
    """Return manifests with the numbers of parts in the place of their digests; what is no part stays as it is."""
    numbers: dict[bytes, bytes | None] = {}
    return [_packed(con, blob, numbers) for blob in blobs]


def _packed(con: sqlite3.Connection, blob: bytes, numbers: dict[bytes, bytes | None]) -> bytes:
    out = bytearray()
    for label, value, row in _rows(blob):
        found = None
        if label in _LABELS and row[len(label) + 1 :].startswith(_PART):
            if value not in numbers:
                known = con.execute("SELECT pid FROM parts WHERE digest = ?", (value,)).fetchone()
                numbers[value] = known and known[0].to_bytes(_NUMBER, "big")
            found = numbers[value]
        out += row if found is None else bytes([_LABELS.index(label)]) + found
    return bytes(out)


def unpack_manifests(con: sqlite3.Connection, packed: Iterable[bytes]) -> list[bytes]:
    """Return manifests as they were hashed. The digest of a part that is not there any more reads as zeros."""
    digests: dict[bytes, bytes] = {}
    return [_unpacked(con, blob, digests) for blob in packed]


def _unpacked(con: sqlite3.Connection, blob: bytes, digests: dict[bytes, bytes]) -> bytes:
    out, at = bytearray(), 0
    while at < len(blob):
        if blob[at] >= len(_LABELS):
            end = _end(blob, at)
            out += blob[at:end]
            at = end
            continue
        number = blob[at + 1 : at + 1 + _NUMBER]
        if number not in digests:
            row = con.execute("SELECT digest FROM parts WHERE pid = ?", (int.from_bytes(number, "big"),))
            digests[number] = (row.fetchone() or (bytes(DIGEST_SIZE),))[0]
        out += _LABELS[blob[at]] + b"\0" + _PART + digests[number]
        at += 1 + _NUMBER
    return bytes(out)


def _rows(blob: bytes) -> Iterable[tuple[bytes, bytes, bytes]]:
    """Yield (label, value, the whole row) of an encoded manifest."""
    at = 0
    while at < len(blob):
        end = _end(blob, at)
        middle = blob.index(b"\0", at)
        yield blob[at:middle], blob[middle + 6 : end], blob[at:end]
        at = end


def _end(blob: bytes, at: int) -> int:
    """Return where the row ends that begins at *at*: label, NUL, kind, length, value."""
    middle = blob.index(b"\0", at)
    return middle + 6 + int.from_bytes(blob[middle + 2 : middle + 6], "big")


def shared(con: sqlite3.Connection, value: str) -> int:
    """Return the number of a text that many rows share, given where it is new."""
    row = con.execute("SELECT sid FROM shared WHERE value = ?", (value,)).fetchone()
    return (
        row[0] if row else int(con.execute("INSERT INTO shared(value) VALUES (?)", (value,)).lastrowid or 0)
    )


def numbers(con: sqlite3.Connection, texts: Iterable[str | None]) -> dict[str, int]:
    """Return the numbers of texts that many rows share."""
    return {text: shared(con, text) for text in set(texts) if text}


def name_number(name: str) -> int:
    """Return the number under which an artifact's name is looked up; whoever finds a row compares the name itself."""
    return int(hexdigest(name.encode("utf-8", "surrogateescape"))[:12], 16) >> 1


def attempt_bytes(name: str) -> bytes | str:
    """Return the name of an attempt as it is kept: hex digits take half the room."""
    try:
        raw = bytes.fromhex(name)
    except ValueError:
        return name
    return raw if raw and raw.hex() == name else name


def attempt_name(kept: bytes | str) -> str:
    """Return the name of an attempt as everybody else has it."""
    return kept.hex() if isinstance(kept, bytes) else kept
