"""What counts below a directory, and how it looks: one walk, nothing opened but ``.dockerignore``."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from cogbuild.errors.models import SpecialFile, UnreadableFile
from cogbuild.fingerprint import glance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["ALWAYS_LEFT_OUT", "Seen", "look", "matcher"]

#: Left out of every tree, besides ``*.pyc`` and what ``.dockerignore`` excludes.
ALWAYS_LEFT_OUT = frozenset({".git", "__pycache__", ".cogbuild"})
#: What a model wants of adapters is no part of the model.
WISHES_FILE = "cog-adapters.yaml"
_ROOT_LEFT_OUT = frozenset({WISHES_FILE, ".cog/tmp"})
_ALWAYS_KEPT = frozenset({"cog.yaml"})


class Seen(NamedTuple):
    """One thing that was looked at."""

    path: str
    kind: str
    size: int
    changed_ns: int  # when it last changed in any way
    row: bytes  # its stat, packed; b"" for a directory with nothing in it


def _always(path: str) -> bool:
    """Whether *path* is left out of models and adapters without anybody saying so."""
    name = path.rpartition("/")[2]
    return name in ALWAYS_LEFT_OUT or name.endswith(".pyc")


def look(root: str, rules: str = "model") -> tuple[list[Seen], list[Seen]]:
    """Return what counts below *root*, in the order of the paths' bytes, and the places that say so; nothing is opened.

    The places are the directories that were listed (the root is ``""``), ``.dockerignore`` and ``cog-adapters.yaml``.
    Raises ``SpecialFile`` for a FIFO, socket or device.
    """
    places: list[Seen] = []
    excluded: Callable[[str], bool] | None = _always if rules == "adapter" else None
    reincludes = False
    if rules == "model":
        places += _beside(root)
        excluded, reincludes = _dockerignore(root)
    seen: list[Seen] = []
    _walk(root, "", excluded, seen, places, prune=not reincludes)
    seen.sort(key=lambda item: os.fsencode(item.path))
    return seen, places


def _beside(root: str) -> Iterator[Seen]:
    """Yield the files that count although the tree may not hold them; looked at before they are read."""
    for name in (".dockerignore", WISHES_FILE):
        with contextlib.suppress(OSError):
            info = os.lstat(os.path.join(root, name))
            if stat.S_ISREG(info.st_mode):
                yield _seen(name, "f", info)
            else:  # what a symlink leads to is not in its own stat
                yield Seen(name, "f", 0, 0, glance.UNTRUSTED)


def _seen(path: str, kind: str, info: os.stat_result) -> Seen:
    return Seen(path, kind, info.st_size, max(info.st_mtime_ns, info.st_ctime_ns), glance.row(info))


def _walk(
    full: str,
    prefix: str,
    excluded: Callable[[str], bool] | None,
    seen: list[Seen],
    places: list[Seen],
    *,
    prune: bool,
) -> bool:
    """Append what counts below *full* and the directories that were listed; return whether anything counts."""
    found = False
    try:
        # Before it is listed: what comes later moves the directory's time.
        places.append(_seen(prefix.rstrip("/"), "d", os.stat(full)))
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
            inner = _walk(item.path, path + "/", excluded, seen, places, prune=prune)
            if not inner and not out:
                seen.append(Seen(path, "d", 0, 0, b""))
            found = found or inner or not out
            continue
        if out:
            continue
        found = True
        info = item.stat(follow_symlinks=False)
        seen.append(_seen(path, _kind(path, info.st_mode), info))
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
    ignored = matcher(patterns)

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


def matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Return what tells whether gitignore's *patterns* match a path, the last match winning."""
    import pathspec

    return pathspec.PathSpec.from_lines("gitignore", patterns).match_file
