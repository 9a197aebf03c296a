"""A directory as an ordered list of entries, its digest, and the memo that makes looking again cheap.

What counts of an entry: path, kind, executable bit, content, symlink target. Directories count only where they hold
nothing that counts. Times, owners and other mode bits never count.
"""

from __future__ import annotations

import os
import stat
import struct
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from cogbuild.digest import file_digest, tagged
from cogbuild.errors.models import FileChangedWhileRead, LinkLeavesModel, SpecialFile, UnreadableFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["ALWAYS_LEFT_OUT", "Entry", "Memo", "Tree", "look", "read_tree", "selected"]

TREE_TAG = "tree/1"

#: Left out of every tree, besides ``*.pyc`` and what ``.dockerignore`` excludes.
ALWAYS_LEFT_OUT = frozenset({".git", "__pycache__", ".cogbuild"})
_ROOT_LEFT_OUT = frozenset({"cog-adapters.yaml", ".cog/tmp"})
_ALWAYS_KEPT = frozenset({"cog.yaml"})

# git's "racy" rule: a file this young when it was hashed may change again within the same time stamp.
_RACY_NS = 2_000_000_000

_STAT = struct.Struct(">cQqqQ")


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


class _Seen(NamedTuple):
    path: str
    kind: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    def packed(self) -> bytes:
        kind = self.kind.encode()
        return (
            os.fsencode(self.path)
            + b"\0"
            + _STAT.pack(kind, self.size, self.mtime_ns, self.ctime_ns, self.inode)
        )


@dataclass(frozen=True)
class Memo:
    """What a directory looked like when it was last read: a hint that saves hashing, packed as one blob."""

    stats: tuple[bytes, ...]  # one packed row an entry; b"" for a file that was too young to trust
    tree: Tree

    def encode(self) -> bytes:
        """Return the memo as bytes."""
        tree = self.tree.encode()
        rows = b"".join(len(row).to_bytes(4, "big") + row for row in self.stats)
        return b"\1" + len(tree).to_bytes(8, "big") + tree + rows

    @classmethod
    def decode(cls, blob: bytes | None) -> Memo | None:
        """Return the memo, or None where there is none of this format."""
        if not blob or blob[0] != 1:
            return None
        size = int.from_bytes(blob[1:9], "big")
        rows = []
        at = 9 + size
        while at < len(blob):
            length = int.from_bytes(blob[at : at + 4], "big")
            rows.append(blob[at + 4 : at + 4 + length])
            at += 4 + length
        return cls(tuple(rows), Tree.decode(blob[9 : 9 + size]))


def read_tree(
    root: str | os.PathLike[str], memo: Memo | None = None, *, rules: str = "model", now_ns: int | None = None
) -> Memo:
    """Return what *root* holds now; files whose stat is as in *memo* are not read again.

    *rules* says what is left out: "model" (see the module and ``.dockerignore``), "adapter" (``.git``, caches of Python)
    or "all" (nothing).

    Raises ``SpecialFile``, ``LinkLeavesModel``, ``UnreadableFile``, ``FileChangedWhileRead``; ``OSError`` for the root.
    """
    base = os.fspath(root)
    seen = look(base, rules)
    stats = tuple(item.packed() for item in seen)
    if memo is not None and stats == memo.stats:
        return memo
    known: dict[bytes, str] = {}
    if memo is not None:
        known = {row: entry.value for row, entry in zip(memo.stats, memo.tree.entries, strict=True) if row}
    trusted_before = (time.time_ns() if now_ns is None else now_ns) - _RACY_NS
    entries, rows = [], []
    for item, row in zip(seen, stats, strict=True):
        value = known.get(row)
        entries.append(
            _entry(base, item) if value is None else Entry(item.path, item.kind, value, _size(item))
        )
        racy = item.kind in "fx" and max(item.mtime_ns, item.ctime_ns) >= trusted_before
        rows.append(b"" if racy else row)
    return Memo(tuple(rows), Tree(tuple(entries)))


def _size(item: _Seen) -> int:
    return item.size if item.kind in "fx" else 0


def _entry(base: str, item: _Seen) -> Entry:
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


def _always(path: str) -> bool:
    """Whether *path* is left out of models and adapters without anybody saying so."""
    name = path.rpartition("/")[2]
    return name in ALWAYS_LEFT_OUT or name.endswith(".pyc")


def look(root: str, rules: str = "model") -> list[_Seen]:
    """Return what counts below *root* with its stat, in the order of the paths' bytes; nothing is opened.

    Raises ``SpecialFile`` for a FIFO, socket or device.
    """
    excluded: Callable[[str], bool] | None = _always if rules == "adapter" else None
    reincludes = False
    if rules == "model":
        excluded, reincludes = _dockerignore(root)
    seen: list[_Seen] = []
    _walk(root, "", excluded, seen, prune=not reincludes)
    seen.sort(key=lambda item: os.fsencode(item.path))
    return seen


def _walk(
    full: str, prefix: str, excluded: Callable[[str], bool] | None, seen: list[_Seen], *, prune: bool
) -> bool:
    """Append what counts below *full*; return whether anything did."""
    found = False
    try:
        listing = list(os.scandir(full))
    except OSError as trouble:
        if not prefix:
            raise
        raise UnreadableFile(file=prefix.rstrip("/"), directory=None, reason=trouble.strerror) from trouble
    for item in listing:
        name = item.name
        path = prefix + name
        out = excluded is not None and excluded(path)
        if item.is_dir(follow_symlinks=False):
            if out and (prune or _never_in_models(path)):
                continue
            inner = _walk(item.path, path + "/", excluded, seen, prune=prune)
            if not inner and not out:
                seen.append(_Seen(path, "d", 0, 0, 0, 0))
            found = found or inner or not out
            continue
        if out:
            continue
        found = True
        info = item.stat(follow_symlinks=False)
        seen.append(
            _Seen(
                path, _kind(path, info.st_mode), info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino
            )
        )
    return found


def _kind(path: str, mode: int) -> str:
    if stat.S_ISREG(mode):
        return "x" if mode & stat.S_IXUSR else "f"
    if stat.S_ISLNK(mode):
        return "l"
    kinds = {
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    raise SpecialFile(file=path, kind=kinds.get(stat.S_IFMT(mode), "a special file"))


def _dockerignore(root: str) -> tuple[Callable[[str], bool], bool]:
    """Return (whether a path is excluded, whether any line re-includes) of the tree's ``.dockerignore``.

    Docker's rules: patterns are rooted, a match covers what is below it, the last match wins, "!" re-includes.
    """
    text = _ignore_file(root)
    patterns = [rooted for line in text.lstrip("\ufeff").splitlines() if (rooted := _rooted(line))]
    if not patterns:
        return _never_in_models, False
    ignored = _matcher(patterns)

    def excluded(path: str) -> bool:
        return _never_in_models(path) or (path not in _ALWAYS_KEPT and ignored(path))

    return excluded, any(pattern.startswith("!") for pattern in patterns)


def _ignore_file(root: str) -> str:
    at = os.path.join(root, ".dockerignore")
    try:
        # Looked at before it is opened: a FIFO would hold us up; the walk refuses it by name.
        if not stat.S_ISREG(os.stat(at).st_mode):
            return ""
        with open(at, encoding="utf-8", errors="surrogateescape") as lines:
            return lines.read()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as trouble:
        raise UnreadableFile(file=".dockerignore", directory=root, reason=trouble.strerror) from trouble


def _never_in_models(path: str) -> bool:
    return _always(path) or path in _ROOT_LEFT_OUT


def _rooted(line: str) -> str:
    if line.startswith("#"):
        return ""
    line = line.strip()
    bang = "!" if line.startswith("!") else ""
    path = os.path.normpath(line[len(bang) :].strip().lstrip("/") or ".")
    return "" if path == "." else f"{bang}/{path}"


def _matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    import pathspec

    return pathspec.PathSpec.from_lines("gitignore", patterns).match_file


def selected(tree: Tree, inputs: Sequence[str]) -> Tree:
    """Return the part of *tree* that the patterns *inputs* admit.

    Patterns are gitignore's, read as "admit"; "!" takes out; the last match wins.
    """
    if tuple(inputs) == ("**",):
        return tree
    admits = _matcher(inputs)
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
