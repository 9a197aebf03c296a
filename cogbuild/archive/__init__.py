"""Unpacks a model's zip, or nothing of it.

A zip is a list of files at its end over the files' bytes before it, and programs disagree on what to believe where
the two differ. Here everything has to agree: the structure is checked as a whole before the first byte is written
(``_structure``), then each file is unpacked into a directory that nobody else uses (``_tree``).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cogbuild.archive._source import Source
from cogbuild.archive._structure import MAX_DEPTH, MAX_ENTRIES, MAX_NAME, MAX_PATH, read_structure
from cogbuild.archive._tree import Tree, check_links
from cogbuild.archive._unpack import unpack, unpack_small
from cogbuild.errors.uploads import NotAZip, ZipTooLarge

if TYPE_CHECKING:
    from cogbuild.archive._structure import Entry

__all__ = ["MAX_DEPTH", "MAX_ENTRIES", "MAX_NAME", "MAX_PATH", "extract"]


def extract(source: Path | BinaryIO, into: Path, *, limit: int) -> None:
    """Unpack the zip *source* into the empty directory *into*; at most *limit* bytes.

    Files are 0755 where the zip says executable, else 0644; symlinks stay where they stay inside. When it raises,
    ``ZipRefused`` or what the disk raised, *into* is empty again.
    """
    if isinstance(source, Path):
        with _opened(source) as file:
            _extract(Source(file, str(source)), into, limit)
    else:
        _extract(Source(source, "the upload"), into, limit)


def _opened(path: Path) -> BinaryIO:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO would wait for its writer
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotAZip(zip=path)
    return os.fdopen(fd, "rb")


def _extract(source: Source, into: Path, limit: int) -> None:
    entries = read_structure(source)
    total = sum(entry.size for entry in entries)
    if total > limit:
        raise ZipTooLarge(zip=source.name, size=total, limit=limit)
    with Tree(into, source.name) as tree:
        _write(source, entries, tree)


def _write(source: Source, entries: list[Entry], tree: Tree) -> None:
    links: dict[bytes, bytes] = {}
    for entry in entries:
        if entry.kind == "l":
            links[entry.path] = unpack_small(source, entry)
        elif entry.kind == "d":
            unpack_small(source, entry)
            tree.add_directory(entry.path)
        else:
            tree.add_file(entry.path, executable=entry.kind == "x", chunks=unpack(source, entry))
    # Links come last, so that no file is ever written through one.
    check_links(links, source.name)
    for path, target in links.items():
        tree.add_link(path, target)
