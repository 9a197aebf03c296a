"""Which interpreter an environment is made of, and what the machine is called in a lock's request."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from cogbuild.environment import tool

__all__ = ["Python", "find_python", "look_again", "platform_name"]

# Anything else that a model may write there (a path, an option) is never handed to uv, which would run it.
_VERSION = re.compile(r"\d+(\.\d+){0,2}((a|b|rc)\d+)?")


@dataclass(frozen=True)
class Python:
    """An interpreter that was found."""

    path: str
    version: str  # in full, e.g. "3.11.7"
    asked: str | None = None
    note: str = ""  # what the log is to say where another version than the one asked for is used


@cache
def find_python(asked: str | None = None) -> Python:
    """Return the interpreter for a model that asks for *asked* (``"3.10"``, ``"3.10.2"``).

    In this order: the running one where it is what is asked for, what uv finds installed, the nearest patch release of
    the same minor version, the running one with a note. Only the second and third start a process, once per process
    of ours and version; nothing is ever downloaded.
    """
    running = Python(_base_executable(), _running_version(), asked)
    if asked is None or _is(running.version, asked):
        return running
    minor = ".".join(asked.split(".")[:2])
    known = _installed(minor) if _VERSION.fullmatch(asked) else []
    exact = [found for found in known if _is(found[1], asked)]
    near = [(running.path, running.version)] if _is(running.version, minor) else known
    path, version = [*exact, *near, (running.path, running.version)][0]
    note = "" if exact else f"python {asked} was asked for and is not here: {version} is used instead"
    return Python(path, version, asked, note)


@lru_cache(maxsize=1)
def look_again(around: str) -> None:  # noqa: ARG001 - the cache compares it
    """Have interpreters looked for again where *around*, which tells what there is, is not what it was when this was last called."""
    find_python.cache_clear()


def _is(version: str, asked: str) -> bool:
    return version == asked or version.startswith(asked + ".")


def _installed(asked: str) -> list[tuple[str, str]]:
    """Return (path, version) of each CPython that uv finds for *asked*, newest first."""
    import json
    from tempfile import gettempdir

    # Not `uv python find`: one launcher on PATH that can't be run, such as a pyenv shim, makes it give up.
    here = Path(gettempdir())
    ended = tool.run("python", "list", "--only-installed", "--output-format=json", asked, cwd=here)
    if ended.code != 0:
        return []
    return [
        (str(here / entry["path"]), entry["version"])  # of what lies below it, uv names the path from there
        for entry in json.loads(ended.stdout)
        if entry["implementation"] == "cpython" and entry.get("variant", "default") == "default"
    ]


def _base_executable() -> str:
    # In a virtual environment: the interpreter that it was made of.
    return getattr(sys, "_base_executable", None) or sys.executable


def _running_version() -> str:
    major, minor, micro, level, serial = sys.version_info
    letters = {"alpha": "a", "beta": "b", "candidate": "rc"}
    return f"{major}.{minor}.{micro}" + (f"{letters[level]}{serial}" if level in letters else "")


@cache
def platform_name() -> str:
    """Return system, machine and C library as a lock's request names them, e.g. ``linux-x86_64-glibc2.36``."""
    try:
        libc = (os.confstr("CS_GNU_LIBC_VERSION") or "").replace(" ", "")
    except (ValueError, OSError):
        libc = ""
    return "-".join(part for part in (sys.platform, os.uname().machine, libc) if part)
