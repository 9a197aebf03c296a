"""Reads the list of files of a model that is sent content by content."""

from __future__ import annotations

import json
import os
import re
from typing import Any, NamedTuple

from cogbuild.archive import MAX_DEPTH, MAX_ENTRIES, MAX_NAME, MAX_PATH
from cogbuild.errors import printable
from cogbuild.errors.server import BadTree
from cogbuild.fingerprint.trees import Entry

__all__ = ["DIGEST", "SentTree", "read_sent"]

DIGEST = re.compile(r"[0-9a-f]{64}")
_TOO_MANY = f"entries: there are more than {MAX_ENTRIES:,}"
_MODEL = re.compile(r"[0-9a-f]{40}")


class SentTree(NamedTuple):
    """What was sent of a model."""

    model: str
    entries: list[Entry]
    wishes: bytes | None
    adapters: list[str] | None
    force: bool


def read_sent(body: bytes | bytearray) -> SentTree:
    """Return the list of files that *body* holds as JSON. Raises ``BadTree``."""
    # Before anything is made of it: two bytes of a list become 64 in memory. Four commas are what a file's row has at
    # most with the one behind it; names may hold some too, and a list that is not too long leaves room for those.
    _check(body.count(b"[") + body.count(b"{") <= MAX_ENTRIES + 3, _TOO_MANY)
    _check(body.count(b",") <= 4 * MAX_ENTRIES, _TOO_MANY)
    # Not by a schema: names that are no text come as lone surrogates, which pydantic refuses.
    try:
        said: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise BadTree(problem="it is no JSON") from None
    if not isinstance(said, dict):
        raise BadTree(problem="it is no object")
    model: Any = said.get("model")
    rows: Any = said.get("entries")
    wishes: Any = said.get("wishes")
    adapters, force = said.get("adapters"), said.get("force", False)
    _check(isinstance(model, str) and _MODEL.fullmatch(model), "model: 40 hex digits are wanted")
    _check(isinstance(rows, list) and rows, "entries: a list is wanted")
    _check(len(rows) <= MAX_ENTRIES, _TOO_MANY)
    _check(
        wishes is None or (isinstance(wishes, str) and _bytes(wishes) is not None), "wishes: text is wanted"
    )
    named = adapters is None or (isinstance(adapters, list) and all(isinstance(n, str) for n in adapters))
    _check(named, "adapters: names are wanted")
    _check(isinstance(force, bool), "force: true or false is wanted")
    return SentTree(model, [_entry(row) for row in rows], _bytes(wishes), adapters, force)


def _check(good: Any, problem: str) -> None:
    if not good:
        raise BadTree(problem=problem)


def _entry(row: Any) -> Entry:
    _check(isinstance(row, dict), "entries: each is an object")
    path, kind = row.get("path"), row.get("kind")
    _check(isinstance(path, str) and path, "path: text is wanted")
    _check_path(path)
    if kind in ("f", "x"):
        digest, size = row.get("digest"), row.get("size")
        _check(
            isinstance(digest, str) and DIGEST.fullmatch(digest),
            f"{printable(path)}: its digest is no digest",
        )
        _check(isinstance(size, int) and 0 <= size < 1 << 63, f"{printable(path)}: its size is no size")
        return Entry(path, kind, digest, size)
    if kind == "l":
        target = row.get("target")
        _check(
            isinstance(target, str) and 0 < len(target) <= MAX_PATH, f"{printable(path)}: it leads nowhere"
        )
        _check(_encoded(target) is not None, f"{printable(path)}: it leads nowhere")
        return Entry(path, kind, target, 0)
    _check(kind == "d", f"{printable(path)}: its kind is one of f, x, l and d")
    return Entry(path, kind, "", 0)


def _bytes(text: str | None) -> bytes | None:
    """Return the bytes of a file, those that are no UTF-8 as they were; None where there are none."""
    try:
        return text.encode("utf-8", "surrogateescape") if text is not None else None
    except UnicodeEncodeError:
        return None


def _encoded(text: str) -> bytes | None:
    """Return the bytes of a name, None where there are none."""
    try:
        data = os.fsencode(text)
    except UnicodeEncodeError:
        return None
    return None if b"\0" in data else data


def _check_path(path: str) -> None:
    data = _encoded(path)
    _check(data is not None and b"\\" not in data, f"{printable(path[:200])}: such a name can't be used")
    assert data is not None
    parts = data.split(b"/")
    _check(
        not {b"", b".", b".."} & set(parts),
        f"{printable(path[:200])}: it leaves the model, or is not in one form",
    )
    short = len(data) <= MAX_PATH and len(parts) <= MAX_DEPTH and all(len(part) <= MAX_NAME for part in parts)
    _check(short, f"{printable(path[:200])}: it is too long or too deep")
