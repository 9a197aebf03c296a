"""Where things are: the data directory, the settings beside it, live directories. Strings only: every command asks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "DATA_DIRECTORY",
    "MODEL_FILE",
    "SETTINGS_FILE",
    "SHARED_FILE",
    "anybody_at_work",
    "data_directory",
    "live_directories",
    "repo_for",
    "settings_file",
]

DATA_DIRECTORY = ".cogbuild"
MODEL_FILE = "cog.yaml"
SETTINGS_FILE = "cogbuild.yaml"
SHARED_FILE = "pyproject.toml"  # holds settings where it has [tool.cogbuild]


def data_directory(named: str | None = None, start: str | None = None) -> str | None:
    """Return *named*, else ``COGBUILD_DATA_DIR``, else the nearest data directory upwards of *start*.

    A directory with settings has its data directory beside them, there or not. None: there is no project.
    """
    named = named or os.environ.get("COGBUILD_DATA_DIR")
    if named:
        return os.path.join(os.getcwd(), named)
    directory = start or os.getcwd()
    while True:
        data = os.path.join(directory, DATA_DIRECTORY)
        if os.path.isdir(data) or settings_file(directory) is not None:
            return data
        above = os.path.dirname(directory)
        if above == directory:
            return None
        directory = above


def anybody_at_work(data: str | os.PathLike[str]) -> bool:
    """Whether a build runs in the data directory, or was killed there and has left its workspaces."""
    try:
        with os.scandir(os.path.join(data, "work")) as found:
            return any(item.is_dir(follow_symlinks=False) for item in found)
    except OSError:
        return False


def settings_file(directory: str | os.PathLike[str]) -> str | None:
    """Return the settings file in *directory*: ``cogbuild.yaml``, or ``pyproject.toml`` with ``[tool.cogbuild]``."""
    own = os.path.join(directory, SETTINGS_FILE)
    if os.path.isfile(own):
        return own
    shared = os.path.join(directory, SHARED_FILE)
    try:
        with open(shared, "rb") as file:
            return shared if b"[tool.cogbuild]" in file.read() else None
    except OSError:
        return None


def repo_for(path: str | os.PathLike[str]) -> str:
    """Return the repo of a model for which none was given: ``local/<directory name>``."""
    import re

    name = os.path.basename(path)
    name = name[: -len(".zip")] if name.lower().endswith(".zip") else name
    return "local/" + (re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._") or "model")


def live_directories(root: str, sources: Iterable[tuple[str, str | None, Sequence[str]]]) -> dict[str, str]:
    """Return repo by real path of the live directories that settings in *root* name.

    *sources* are (path, which may be a pattern; repo; modules without which it is passed over).
    """
    found: dict[str, str] = {}
    for path, repo, requires in sources:
        if not all(_importable(module) for module in requires):
            continue
        pattern = os.path.join(root, path)
        for match in _matching(pattern):
            if match != pattern and not os.path.isfile(os.path.join(match, MODEL_FILE)):
                continue
            real = os.path.realpath(match)
            found.setdefault(real, repo or repo_for(real))
    return found


def _matching(pattern: str) -> list[str]:
    if not any(mark in pattern for mark in "*?["):
        return [pattern]
    import glob

    return sorted(glob.glob(pattern))


def _importable(module: str) -> bool:
    from importlib.util import find_spec

    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False
