"""What counts for a pair: one function lists it; hashing and explaining both read the list.

A manifest is an ordered list of rows (label, value). What many pairs share (a tree, an adapter's context, a set of
variables, locked packages) is a *part*: rows of its own, stored once by digest, to which a manifest refers.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from cogbuild.digest import tagged
from cogbuild.fingerprint.trees import TREE_TAG, Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["FORMAT", "Change", "Manifest", "Part", "Row", "changes", "flatten", "manifest", "rows_part"]

#: Number of the format of keys. A change of this number rebuilds everything, once.
FORMAT = 1
_MANIFEST_TAG = f"manifest/{FORMAT}"
_ROWS_TAG = "rows/1"

#: The parts of a manifest, in order.
PARTS = ("adapter", "model", "variables", "params", "examples", "python")


class Row(NamedTuple):
    """One row; *part* tells that the value is the digest of a part."""

    label: str
    value: str
    part: bool = False


class Part(NamedTuple):
    """Rows or a tree, stored once by digest."""

    digest: str  # 64 hex digits
    kind: str  # "tree" or "rows"
    blob: bytes


@dataclass(frozen=True)
class Manifest:
    """The ordered rows of everything that counts for one pair."""

    rows: tuple[Row, ...]

    @cached_property
    def key(self) -> str:
        """The action key: 64 hex digits."""
        return tagged(_MANIFEST_TAG, [self._encoded])

    def encode(self) -> bytes:
        """Return the rows as bytes; different rows give different bytes."""
        return self._encoded

    @cached_property
    def _encoded(self) -> bytes:
        return _encode_rows(self.rows)

    @classmethod
    def decode(cls, blob: bytes) -> Manifest:
        """Return the manifest that ``encode`` wrote."""
        return cls(tuple(_decode_rows(blob)))

    def get(self, label: str) -> str | None:
        """Return the value of the row *label*."""
        return next((row.value for row in self.rows if row.label == label), None)


def manifest(parts: Mapping[str, str | None], needs: Mapping[str, str]) -> Manifest:
    """List what counts for a pair, in order.

    *parts* maps the names in ``PARTS`` to digests (the adapter's holds format, platform, files, declared fields,
    interpreter, hashed variables and epoch); None: nothing of that kind counts. *needs* maps the name of each needed
    adapter to what its outcome is identified by.
    """
    rows = [Row(label, digest, part=True) for label in PARTS if (digest := parts.get(label)) is not None]
    rows += [Row(f"needs:{name}", value) for name, value in sorted(needs.items())]
    return Manifest(tuple(rows))


def rows_part(rows: Iterable[tuple[str, str]]) -> Part:
    """Return *rows* as a part."""
    blob = _encode_rows([Row(label, value) for label, value in rows])
    return Part(tagged(_ROWS_TAG, [blob]), "rows", blob)


def tree_part(tree: Tree) -> Part:
    """Return *tree* as a part; its digest is the tree's own."""
    return Part(tree.digest, "tree", tree.encode())


def part_digest(kind: str, blob: bytes) -> str:
    """Return the digest under which a part of *kind* is kept."""
    return tagged(TREE_TAG if kind == "tree" else _ROWS_TAG, [blob])


def part_rows(kind: str, blob: bytes) -> list[tuple[str, str]]:
    """Return a part as rows for people: a file's row is (path, what it is and its digest)."""
    if kind == "rows":
        return [(row.label, row.value) for row in _decode_rows(blob)]
    words = {"f": "file", "x": "executable file", "l": "symlink to", "d": "empty directory"}
    return [(entry.path, f"{words[entry.kind]} {entry.value}".strip()) for entry in Tree.decode(blob).entries]


def flatten(of: Manifest, part: Callable[[str], Part | None]) -> dict[str, str]:
    """Return every row of a manifest with its parts opened, labelled for people and unique.

    Files read ``model:predict.py`` and ``adapter:adapter.py``; variables, params and packages carry their own names. A
    part that *part* does not know stays one row with its digest.
    """
    out: dict[str, str] = {}
    for row in of.rows:
        opened = part(row.value) if row.part else None
        if opened is None:
            out[row.label] = row.value
            continue
        for label, value in part_rows(opened.kind, opened.blob):
            out[f"model:{label}" if opened.kind == "tree" else label] = value
    return out


class Change(NamedTuple):
    """A row that differs between two manifests; None: the row is not in it."""

    label: str
    before: str | None
    after: str | None


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[Change]:
    """Return the rows that differ, in the order of *after*, rows that are gone last."""
    moved = [
        Change(label, before.get(label), value)
        for label, value in after.items()
        if before.get(label) != value
    ]
    return moved + [Change(label, value, None) for label, value in before.items() if label not in after]


def _encode_rows(rows: Sequence[Row]) -> bytes:
    out = bytearray()
    for label, value, part in rows:
        raw = bytes.fromhex(value) if part else os.fsencode(value)
        out += os.fsencode(label) + b"\0" + (b"p" if part else b"v") + len(raw).to_bytes(4, "big") + raw
    return bytes(out)


def _decode_rows(blob: bytes) -> Iterable[Row]:
    at = 0
    while at < len(blob):
        end = blob.index(b"\0", at)
        label = os.fsdecode(blob[at:end])
        part = blob[end + 1 : end + 2] == b"p"
        size = int.from_bytes(blob[end + 2 : end + 6], "big")
        raw = blob[end + 6 : end + 6 + size]
        yield Row(label, raw.hex() if part else os.fsdecode(raw), part)
        at = end + 6 + size
