"""What an adapter reads and asks for outside of what it declares, as strace tells it."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

__all__ = ["Seen", "Watch", "read_traces"]

#: What belongs to the machine: an adapter that depends on more than there says so with `epoch` or `env: hash`.
SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/etc", "/proc", "/sys", "/dev", "/nix/store")
# Asked by the C library for names of users and hosts.
_SERVICES = ("/var/run/nscd/socket", "/run/nscd/socket", "/run/systemd/", "/var/lib/sss/")

_CALL = re.compile(r"(\w+)\((.*)\)\s+= (?:0|\d+)(?:<(.*)>)?$")
_BASE = re.compile(r"\d+<((?:[^>\\]|\\.)*)>")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_HERE = re.compile(r"AT_FDCWD<((?:[^>\\]|\\.)*)>")
_CONNECTED = re.compile(r"connect\(.*(?:= 0|EINPROGRESS|ECONNREFUSED|ENETUNREACH|ETIMEDOUT|ENOENT|EACCES)")
_INTERNET = re.compile(r'port=htons\((\d+)\).*?(?:inet_addr\("|inet_pton\(AF_INET6, ")([^"]*)"')
_UNIX = re.compile(r'sun_path="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Seen:
    """What a run used that nothing declares, each once, in the order of their names."""

    files: tuple[str, ...] = ()
    connections: tuple[str, ...] = ()
    note: str | None = None  # why nobody watched


class Watch:
    """A way to run an adapter so that its traces are left in *directory*."""

    def __init__(self, strace: str, directory: Path) -> None:
        self.directory = directory
        # A file a process (-ff), so that no call is cut in two by another's.
        words = f"{strace} -f -ff -qq -y -s 4096 --seccomp-bpf -e trace=%file,connect -e signal=none -o"
        #: The words before the script's own.
        self.wrapper = (*words.split(), str(directory / "trace"), "--")

    @classmethod
    def into(cls, directory: Path) -> Watch | None:
        """Return one that leaves its traces in *directory*, which it makes; None where strace is not installed."""
        strace = shutil.which("strace")
        if strace is None:
            return None
        directory.mkdir()
        return cls(strace, directory)

    def seen(self, allowed: Sequence[Path], path: str) -> Seen:
        """Return what was used outside of *allowed*, the system's directories and the programs of *path*."""
        places = [*SYSTEM, *map(os.path.realpath, allowed), *map(str, allowed), *_tools(path)]
        return read_traces(self.directory.glob("trace.*"), places)


def _tools(path: str) -> Iterator[str]:
    """Yield where the programs in the directories of *path* and what belongs to them are."""
    home = os.path.expanduser("~")
    for directory in filter(os.path.isabs, path.split(os.pathsep)):
        yield directory
        links = [
            directory,
            *(os.path.realpath(os.path.join(directory, name)) for name in ("python3", "python")),
        ]
        for place in (links[0], *map(os.path.dirname, links[1:])):
            above = os.path.dirname(os.path.realpath(place))
            if os.path.basename(place) in ("bin", "sbin") and above not in ("/", home):
                yield above


def read_traces(traces: Iterable[Path], allowed: Sequence[str]) -> Seen:
    """Return what the traces of one run's processes show to have been used outside of *allowed*."""
    read: set[str] = set()
    own: set[str] = set()
    connections: set[str] = set()
    here = None
    for trace in sorted(traces):
        with trace.open(encoding="utf-8", errors="surrogateescape") as lines:
            at = None
            for line in lines:
                if (found := _HERE.search(line)) is not None:
                    at = _plain(found[1])
                    here = here or at  # the first process begins in the model's directory
                _note(line.rstrip("\n"), at or here or "/", read, own, connections)
    own |= {here} if here else set()
    files = {path for path in read if not _within(path, allowed) and not _within(path, own)}
    return Seen(tuple(sorted(filter(_counts, files))), tuple(sorted(connections)))


def _note(line: str, here: str, read: set[str], own: set[str], connections: set[str]) -> None:
    if line.startswith("connect("):
        connections.update(_connection(line))
        return
    called = _CALL.match(line)
    if called is None:
        return  # it failed: nothing was read
    name, arguments, opened = called.groups()
    base = _BASE.match(arguments)
    start = _plain(base[1]) if base is not None else here
    paths = [
        os.path.normpath(os.path.join(start, _plain(text))) for text in _QUOTED.findall(arguments) if text
    ]
    if name in ("open", "openat", "openat2", "creat"):
        path = _plain(opened or "")
        if "O_CREAT" in arguments or name == "creat":
            own.add(path)
        elif "O_WRONLY" not in arguments:
            read.add(path)
    elif name in (
        "mkdir",
        "mkdirat",
        "rename",
        "renameat",
        "renameat2",
        "link",
        "linkat",
        "symlink",
        "symlinkat",
    ):
        own.update(paths[-1:])
    elif name.startswith("exec") or "S_IFREG" in arguments:
        read.update(paths[:1])


def _connection(line: str) -> Iterator[str]:
    if _CONNECTED.match(line) is None:
        return
    if (found := _INTERNET.search(line)) is not None:
        host = f"[{found[2]}]" if ":" in found[2] else found[2]
        yield f"{host}:{found[1]}"
    elif (found := _UNIX.search(line)) is not None and not found[1].startswith(_SERVICES):
        yield _plain(found[1])


def _counts(path: str) -> bool:
    """Whether *path* is something whose content counts; pipes and what strace has no path for are not."""
    return path.startswith("/") and not os.path.isdir(path)


def _within(path: str, places: Iterable[str]) -> bool:
    return any(path == place or path.startswith(place.rstrip("/") + "/") for place in places)


def _plain(text: str) -> str:
    """Return what strace has escaped as it is."""
    if "\\" not in text:
        return text
    raw = text.encode("utf-8", "surrogateescape").decode("unicode_escape").encode("latin-1")
    return os.fsdecode(raw)
