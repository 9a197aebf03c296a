"""Values that files and variables spell as text: times, sizes, paths, patterns. Imports nothing heavy.

Each function returns the value or raises ``ValueError`` with what was expected instead.
"""

from __future__ import annotations

import math
import posixpath
import re

from cogbuild.spec.names import is_adapter_name, is_variable

__all__ = [
    "adapter_entry",
    "adapter_name",
    "directory",
    "duration",
    "inside",
    "jobs",
    "model_path",
    "module",
    "origin",
    "pass_pattern",
    "registry",
    "size",
    "variable",
]

_DURATION = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?")
_SIZE = re.compile(r"(\d{1,18})\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_PATTERN = re.compile(r"[A-Za-z_*?][A-Za-z0-9_*?]*")
_MODULE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[A-Za-z0-9._-]+(:\d{1,5})?")
_YEAR = 366 * 24 * 3600


def duration(value: object) -> float | None:
    """Return seconds for ``90s``, ``30m``, ``1h30m`` or a number of seconds."""
    if value is None:
        return None
    seconds = 0.0
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        hours, minutes, rest = (int(part or 0) for part in match.groups())
        seconds = float(hours * 3600 + minutes * 60 + rest)
    if not (math.isfinite(seconds) and 0 < seconds <= _YEAR):
        raise ValueError("a time such as 90s, 30m or 1h30m")
    return seconds


def size(value: object) -> int:
    """Return bytes for ``500M``, ``2G`` (powers of 1024) or a number of bytes."""
    found = 0
    if isinstance(value, int) and not isinstance(value, bool):
        found = value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        found = int(match[1]) << (10 * " KMGT".index(match[2].upper() or " "))
    if not 0 < found < 2**63:
        raise ValueError("a size such as 500M, 2G or a number of bytes")
    return found


def jobs(value: object) -> int | None:
    """Return how many pairs may run at once; ``None`` means as many as processors."""
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 4:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 9999:
        raise ValueError("a whole number from 1 to 9999")
    return value


def inside(value: str) -> str:
    """Return the path of a file below the directory of its declaration, without ``./`` and the like."""
    path = posixpath.normpath(value)
    if not value or value.startswith("/") or path in (".", "..") or path.startswith("../"):
        raise ValueError("the path of a file in the same directory")
    return path


def directory(value: str) -> str:
    """Return the path of a directory."""
    if not value.strip():
        raise ValueError("a directory")
    return value


def adapter_name(value: str) -> str:
    """Return an adapter's name."""
    if not is_adapter_name(value):
        raise ValueError("a name of at most 64 letters, digits, dots, dashes and underscores")
    return value


def adapter_entry(value: str) -> str:
    """Return what settings name as an adapter: a directory or ``builtin:<name>``."""
    head, colon, name = value.partition(":")
    if not value.strip() or (head == "builtin" and colon and not is_adapter_name(name)):
        raise ValueError("a directory or builtin:<name>")
    return value


def model_path(value: str) -> str:
    """Return what settings name as a model's directory; * and ? stand for any letters."""
    if not value.strip():
        raise ValueError("the path of a model's directory")
    return value


def module(value: str) -> str:
    """Return the dotted name of an importable module."""
    if not _MODULE.fullmatch(value):
        raise ValueError("the name of a Python module")
    return value


def variable(value: str) -> str:
    """Return the name of an environment variable that is not one of the contract's."""
    if not is_variable(value):
        raise ValueError("the name of an environment variable")
    if value.startswith("COG_"):
        raise ValueError("a variable that does not begin with COG_")
    return value


def pass_pattern(value: str) -> str:
    """Return a variable's name that may hold * and ?."""
    if not _PATTERN.fullmatch(value):
        raise ValueError("the name of an environment variable, with * and ? for any letters")
    if value.startswith("COG_"):
        raise ValueError("a variable that does not begin with COG_")
    return value


def registry(value: str) -> str:
    """Return a container registry, with a path where images go below one."""
    if "://" in value or any(c.isspace() for c in value):
        raise ValueError("a registry such as localhost:5000 or localhost:5000/team")
    return value.rstrip("/")


def origin(value: str) -> str:
    """Return where artifacts may be fetched from: a scheme and a host, with a port where it is not the usual one."""
    if not _ORIGIN.fullmatch(value):
        raise ValueError("a scheme and a host such as https://models.example or s3://bucket")
    return value.lower()


def backfill(value: object) -> str:
    """Return what a server makes of past models."""
    value = "off" if value is False else value  # which YAML makes of the word
    if value not in ("off", "missing", "stale"):
        raise ValueError("off, missing or stale")
    return str(value)


def share(value: object) -> float:
    """Return a share."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError("a share from 0 to 1, such as 0.2")
    return float(value)
