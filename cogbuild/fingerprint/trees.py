"""A directory as an ordered list of entries, its digest, and the memo that makes looking again cheap.

What counts of an entry: path, kind, executable bit, content, symlink target. Directories count only where they hold
nothing that counts. Times, owners and other mode bits never count.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from cogbuild.digest import file_digest, tagged
from cogbuild.errors.models import FileChangedWhileRead, LinkLeavesModel, UnreadableFile
from cogbuild.fingerprint import glance
from cogbuild.fingerprint.looking import Seen, look, matcher

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Entry", "Memo", "Tree", "read_tree", "seen_as", "selected"]

TREE_TAG = "tree/1"


class Entry(NamedTuple):
    """One entry of a tree."""

    path: str  # relative, "/" between names, undecodable bytes as surrogates
    kind: str  # "f" file, "x" executable file, "l" symlink, "d" directory with nothing in it
    value: str  # digest (hex), symlink target, or ""
    size: int  # bytes of a file, else 0


@dataclass(frozen=True)
class Tree:
    """Entries in the order of their paths' bytes."""

    entries: tuple[Entry, ...]

    def encode(self) -> bytes:
        """Return the entries as bytes; different trees give different bytes."""
        out = bytearray()
        for path, kind, value, size in self.entries:
            out += kind.encode() + os.fsencode(path) + b"\0"
            if kind in "fx":
                out += bytes.fromhex(value) + size.to_bytes(8, "big")
            elif kind == "l":
                out += os.fsencode(value) + b"\0"
        return bytes(out)

    @classmethod
    def decode(cls, blob: bytes) -> Tree:
        """Return the tree that ``encode`` wrote."""
        entries = []
        at = 0
        while at < len(blob):
            kind = chr(blob[at])
            end = blob.index(b"\0", at)
            path = os.fsdecode(blob[at + 1 : end])
            at = end + 1
            if kind in "fx":
                entries.append(
                    Entry(
                        path, kind, blob[at : at + 32].hex(), int.from_bytes(blob[at + 32 : at + 40], "big")
                    )
                )
                at += 40
            elif kind == "l":
                end = blob.index(b"\0", at)
                entries.append(Entry(path, kind, os.fsdecode(blob[at:end]), 0))
                at = end + 1
            else:
                entries.append(Entry(path, kind, "", 0))
        return cls(tuple(entries))

    @cached_property
    def digest(self) -> str:
        """64 hex digits; the first 40 are the model ID."""
        return tagged(TREE_TAG, [self.encode()])

    @property
    def model_id(self) -> str:
        """40 hex digits."""
        return self.digest[:40]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.entries)

    def get(self, path: str) -> Entry | None:
        """Return the entry at *path*."""
        return next((entry for entry in self.entries if entry.path == path), None)


@dataclass(frozen=True)
class Memo:
    """What a directory looked like when it was last read: a hint that saves hashing, packed as one blob."""

    stats: tuple[bytes, ...]  # one packed row an entry; of no use for a file that was too young to trust
    tree: Tree
    #: Directories, and files beside the tree that say what is in it, with their rows.
    places: tuple[tuple[str, bytes], ...] = ()

    def encode(self) -> bytes:
        """Return the memo as bytes, which ``glance.same`` reads as well."""
        files = [(entry.path, row) for entry, row in zip(self.tree.entries, self.stats, strict=True) if row]
        names, rows = zip(*self.places, *files, strict=True)
        return glance.pack(names, rows) + self.tree.encode()

    @classmethod
    def decode(cls, blob: bytes | None) -> Memo | None:
        """Return the memo, or None where there is none of this format."""
        if not blob or (unpacked := glance.unpack(blob)) is None:
            return None
        names, rows, rest = unpacked
        tree = Tree.decode(rest)
        places = len(names) - sum(entry.kind != "d" for entry in tree.entries)
        files = iter(rows[places:])
        stats = tuple(next(files) if entry.kind != "d" else b"" for entry in tree.entries)
        return cls(stats, tree, tuple(zip(names[:places], rows[:places], strict=True)))


def content_digest(path: str | os.PathLike[str]) -> str:
    """Return the digest of a file's content, or of all that a directory holds."""
    return read_tree(path, rules="all").tree.digest if os.path.isdir(path) else file_digest(path)[0]


def read_tree(
    root: str | os.PathLike[str], memo: Memo | None = None, *, rules: str = "model", now_ns: int | None = None
) -> Memo:
    """Return what *root* holds now; files whose stat is as in *memo* are not read again.

    *rules* says what is left out: "model" (see the module and ``.dockerignore``), "adapter" (``.git``, caches of Python)
    or "all" (nothing).

    Raises ``SpecialFile``, ``LinkLeavesModel``, ``UnreadableFile``, ``FileChangedWhileRead``; ``OSError`` for the root.
    """
    base = os.fspath(root)
    trusted_before = (time.time_ns() if now_ns is None else now_ns) - glance.RACY_NS
    seen, around = look(base, rules)
    places = tuple((item.path, _trusted(item, trusted_before)) for item in around)
    if memo is not None and places == memo.places and _is_like(seen, memo):
        return memo
    known: dict[tuple[str, bytes], str] = {}
    if memo is not None:
        known = {
            (entry.path, row): entry.value for row, entry in zip(memo.stats, memo.tree.entries, strict=True)
        }
    entries, rows = [], []
    for item in seen:
        value = known.get((item.path, item.row))
        entries.append(
            _entry(base, item) if value is None else Entry(item.path, item.kind, value, _size(item))
        )
        rows.append(_trusted(item, trusted_before) if item.kind in "fx" else item.row)
    return Memo(tuple(rows), Tree(tuple(entries)), places)


def seen_as(root: str | os.PathLike[str], tree: Tree) -> Memo:
    """Return the memo of *root*, which was just made from *tree* by us: nothing is read, and all is trusted."""
    seen, around = look(os.fspath(root), "all")
    return Memo(tuple(item.row for item in seen), tree, tuple((item.path, item.row) for item in around))


def _is_like(seen: Sequence[Seen], memo: Memo) -> bool:
    entries = memo.tree.entries
    return tuple(item.row for item in seen) == memo.stats and [item.path for item in seen] == [
        entry.path for entry in entries
    ]


def _trusted(item: Seen, before_ns: int) -> bytes:
    return item.row if item.changed_ns < before_ns else glance.UNTRUSTED


def _size(item: Seen) -> int:
    return item.size if item.kind in "fx" else 0


def _entry(base: str, item: Seen) -> Entry:
    full = os.path.join(base, item.path)
    try:
        if item.kind in "fx":
            digest, size = file_digest(full)
            if size != item.size:
                raise FileChangedWhileRead(file=item.path, directory=base)
            return Entry(item.path, item.kind, digest, size)
        if item.kind == "l":
            return Entry(item.path, "l", checked_target(item.path, os.readlink(full), base), 0)
    except FileNotFoundError as gone:
        raise FileChangedWhileRead(file=item.path, directory=base) from gone
    except OSError as trouble:
        raise UnreadableFile(file=item.path, directory=base, reason=trouble.strerror) from trouble
    return Entry(item.path, "d", "", 0)


def checked_target(path: str, target: str, base: str) -> str:
    """Return *target* if the symlink at *path* stays inside the tree.

    Raises ``LinkLeavesModel``.
    """
    inside = os.path.normpath(os.path.join(os.path.dirname(path), target))
    if "/../" in target.lstrip(
        "./"
    ):  # a name before ".." may be a symlink itself: only the file system knows
        inside = os.path.relpath(
            os.path.realpath(os.path.join(base, os.path.dirname(path), target)), os.path.realpath(base)
        )
    if target.startswith("/") or inside == ".." or inside.startswith("../"):
        raise LinkLeavesModel(link=path, target=target, directory=base)
    return target


def selected(tree: Tree, inputs: Sequence[str]) -> Tree:
    """Return the part of *tree* that the patterns *inputs* admit.

    Patterns are gitignore's, read as "admit"; "!" takes out; the last match wins.
    """
    if tuple(inputs) == ("**",):
        return tree
    admits = matcher(inputs)
    return Tree(
        tuple(entry for entry in tree.entries if admits(entry.path + ("/" if entry.kind == "d" else "")))
    )


def differences(old: Tree, new: Tree) -> Iterator[str]:
    """Yield the paths at which two trees differ."""
    if old.entries == new.entries:
        return
    before = {entry.path: entry for entry in old.entries}
    after = {entry.path: entry for entry in new.entries}
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) != after.get(path):
            yield path


def left_out(root: str | os.PathLike[str], tree: Tree) -> list[str]:
    """Return the paths below *root* that are not in *tree*, a directory standing for all that it holds."""
    files = {entry.path for entry in tree.entries}
    directories = {entry.path for entry in tree.entries if entry.kind == "d"}
    for path in files:
        while path := path.rpartition("/")[0]:
            directories.add(path)
    out: list[str] = []
    pending = [""]
    while pending:
        prefix = pending.pop()
        for item in os.scandir(os.path.join(root, prefix)):
            path = prefix + item.name
            if path in directories and item.is_dir(follow_symlinks=False):
                pending.append(path + "/")
            elif path not in files:
                out.append(path)
    return sorted(out)
