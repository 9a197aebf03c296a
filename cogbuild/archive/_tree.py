"""A directory that is filled name by name without ever following a link, and emptied when anything goes wrong."""

from __future__ import annotations

import os
import shutil
from collections import deque
from typing import TYPE_CHECKING, Self

from cogbuild.archive._source import shown
from cogbuild.archive._structure import MAX_DEPTH
from cogbuild.errors.uploads import ZipLinkLeaves, ZipNamesClash, ZipNameTwice

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from types import TracebackType

__all__ = ["Tree", "check_links"]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

# As many as Linux follows before it gives up.
_MAX_STEPS = 40
# Links through links through links cost time: for all links of a zip together.
_MAX_PARTS = 2_000_000


class Tree:
    """The directory *root* while a zip is written into it; left with an exception, it is empty again."""

    def __init__(self, root: Path, zip_name: str) -> None:
        if os.listdir(root):
            raise ValueError(f"{root} is not empty")
        self._zip = zip_name
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._parent: tuple[bytes, int] = (
            b"",
            os.dup(self._root),
        )  # the directory written to last, kept open

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._parent[1])
        try:
            if kind is not None:
                self._empty()
        finally:
            os.close(self._root)

    def add_directory(self, path: bytes) -> None:
        """Make the directory *path* and those above it where they are not there yet."""
        self._directory(path, path)

    def add_file(self, path: bytes, *, executable: bool, chunks: Iterable[bytes]) -> None:
        """Write a new file."""
        parent, _, name = path.rpartition(b"/")
        directory = self._directory(parent, path)
        try:
            fd = os.open(name, _NEW_FILE, 0o600, dir_fd=directory)
        except FileExistsError:  # a file system for which "A" and "a" are one name
            raise ZipNameTwice(zip=self._zip, entry=shown(path)) from None
        with os.fdopen(fd, "wb", buffering=0) as file:
            for chunk in chunks:
                _write_all(file.fileno(), chunk)
            os.fchmod(file.fileno(), 0o755 if executable else 0o644)

    def add_link(self, path: bytes, target: bytes) -> None:
        """Make a symlink whose target was checked."""
        parent, _, name = path.rpartition(b"/")
        directory = self._directory(parent, path)
        try:
            os.symlink(target, name, dir_fd=directory)
        except FileExistsError:
            raise ZipNameTwice(zip=self._zip, entry=shown(path)) from None

    def _directory(self, path: bytes, entry: bytes) -> int:
        if path != self._parent[0]:
            fd = self._opened(path, entry)
            os.close(self._parent[1])
            self._parent = (path, fd)
        return self._parent[1]

    def _opened(self, path: bytes, entry: bytes) -> int:
        fd = os.dup(self._root)
        for name in path.split(b"/") if path else ():
            try:
                below = _opened_or_made(name, fd)
            except NotADirectoryError:  # as above: a file of nearly this name was there first
                raise ZipNamesClash(zip=self._zip, entry=shown(path), needed_for=shown(entry)) from None
            finally:
                os.close(fd)
            fd = below
        return fd

    def _empty(self) -> None:
        for name in os.listdir(self._root):
            try:
                os.unlink(name, dir_fd=self._root)
            except (IsADirectoryError, PermissionError):
                shutil.rmtree(name, dir_fd=self._root)


def _opened_or_made(name: bytes, parent: int) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        os.mkdir(name, 0o700, dir_fd=parent)
    fd = os.open(name, _DIRECTORY, dir_fd=parent)
    os.fchmod(fd, 0o755)  # whatever the umask
    return fd


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def check_links(links: Mapping[bytes, bytes], zip_name: str) -> None:
    """Refuse symlinks (path → target) that lead out of the tree, be it through each other, or nowhere at all."""
    walked = 0
    for path, target in links.items():
        problem, parts = _problem(path, links)
        walked += parts
        if not problem and walked > _MAX_PARTS:
            problem = "leads nowhere"
        if problem:
            raise ZipLinkLeaves(zip=zip_name, entry=shown(path), problem=problem, target=shown(target))


def _problem(path: bytes, links: Mapping[bytes, bytes]) -> tuple[str, int]:
    """Follow a link as the system would; return what is wrong with where it leads, if anything, and the parts walked."""
    at: list[bytes] = []
    waiting = deque(path.split(b"/"))
    steps = parts = 0
    while waiting:
        parts += 1
        name = waiting.popleft()
        if name in (b"", b"."):
            continue
        if name == b"..":
            if not at:
                return "leads out of it", parts
            at.pop()
            continue
        at.append(name)
        target = links.get(b"/".join(at))
        steps += target is not None
        if len(at) > MAX_DEPTH or steps > _MAX_STEPS or target == b"" or b"\0" in (target or b""):
            return "leads nowhere", parts
        if target is not None:
            if target.startswith(b"/") or b"\\" in target:
                return "leads out of it", parts
            at.pop()
            waiting.extendleft(reversed(target.split(b"/")))
    return "", parts
