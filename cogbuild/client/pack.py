"""A model as it is sent: its tree, what it wants of adapters, and one zip that is the same bytes every time.

The tree is read as the store reads it (``fingerprint.trees``), so its ID is known before a byte is sent.
"""

from __future__ import annotations

import errno
import os
import stat
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cogbuild.errors import is_text
from cogbuild.errors.client import NameNotSent
from cogbuild.errors.models import FileChangedWhileRead, NotAModelPath, UnreadableFile
from cogbuild.fingerprint.trees import read_tree
from cogbuild.library import declared
from cogbuild.spec import WISHES_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cogbuild.fingerprint.trees import Entry, Tree

__all__ = ["PIECE", "Model", "manifest", "pieces", "read_model", "zipped"]

#: Bytes that are held of a file at once.
PIECE = 1 << 18

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time that a zip can say
_MODES = {
    "f": stat.S_IFREG | 0o644,
    "x": stat.S_IFREG | 0o755,
    "l": stat.S_IFLNK | 0o777,
    "d": stat.S_IFDIR | 0o755,
}


@dataclass(frozen=True)
class Model:
    """A model's directory as it was read."""

    directory: Path
    tree: Tree
    wishes: bytes | None  # cog-adapters.yaml, which is no part of the tree

    @property
    def files(self) -> dict[str, Entry]:
        """One file for each content, by digest, in the order of the tree."""
        found: dict[str, Entry] = {}
        for entry in self.tree.entries:
            if entry.kind in "fx":
                found.setdefault(entry.value, entry)
        return found


def read_model(directory: Path) -> Model:
    """Return the model in *directory*, its declarations checked: what is refused there need not be sent.

    Raises errors of models and declarations.
    """
    if not directory.is_dir():
        raise NotAModelPath(path=directory)
    tree = read_tree(directory).tree
    declared(directory, tree)
    at = directory / WISHES_FILE
    return Model(directory, tree, at.read_bytes() if at.is_file() else None)


def manifest(tree: Tree) -> list[dict[str, Any]]:
    """Return the entries of a tree as JSON; bytes that are not UTF-8 are lone surrogates in it."""
    return [_row(entry) for entry in tree.entries]


def _row(entry: Entry) -> dict[str, Any]:
    row: dict[str, Any] = {"path": entry.path, "kind": entry.kind}
    if entry.kind == "l":
        return row | {"target": entry.value}
    return row | {"digest": entry.value, "size": entry.size} if entry.kind in "fx" else row


def pieces(model: Model, entry: Entry) -> Iterator[bytes]:
    """Yield a file's content, exactly as many bytes as the tree says; raises ``FileChangedWhileRead``."""
    left = entry.size
    try:
        # Not followed and not waited for: what was a file when the tree was read may be a link or a FIFO by now.
        fd = os.open(model.directory / entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(fd, "rb", buffering=0) as file:
            while left and (data := file.read(min(PIECE, left))):
                left -= len(data)
                yield data
            more = not left and file.read(1)
    except OSError as trouble:
        if trouble.errno in _GONE:
            raise FileChangedWhileRead(file=entry.path, directory=model.directory) from trouble
        raise UnreadableFile(file=entry.path, directory=model.directory, reason=trouble.strerror) from trouble
    if left or more:
        raise FileChangedWhileRead(file=entry.path, directory=model.directory)


class _Pipe:
    """What a zip is written into and read from again; nothing can be gone back to."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        """Keep what was written."""
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def taken(self) -> bytes:
        """Return what was written since the last call."""
        data = b"".join(self._parts)
        self._parts.clear()
        return data


def zipped(model: Model) -> Iterator[bytes]:
    """Yield the model as a zip, in constant memory: the same content gives the same bytes on every machine.

    Names are in the order of their bytes, times are the first that a zip knows, contents are stored as they are: how
    they compress depends on the library that does it.
    """
    pipe = _Pipe()
    archive = zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED)  # type: ignore[call-overload]
    for entry in model.tree.entries:
        info = _info(entry)
        if entry.kind in "fx":
            with archive.open(info, "w") as inside:
                for data in pieces(model, entry):
                    inside.write(data)
                    yield pipe.taken()
        else:
            archive.writestr(info, os.fsencode(entry.value))
        yield pipe.taken()
    if model.wishes is not None:
        info = zipfile.ZipInfo(WISHES_FILE, _EPOCH)
        info.create_system, info.external_attr = 3, _MODES["f"] << 16
        archive.writestr(info, model.wishes)
    archive.close()
    yield pipe.taken()


def _info(entry: Entry) -> zipfile.ZipInfo:
    if not is_text(entry.path):
        raise NameNotSent(file=entry.path)
    info = zipfile.ZipInfo(entry.path + ("/" if entry.kind == "d" else ""), _EPOCH)
    info.create_system = 3  # Unix, on whatever this runs: the modes mean something
    info.external_attr = _MODES[entry.kind] << 16 | (0x10 if entry.kind == "d" else 0)
    info.file_size = entry.size
    return info
