"""Reads site settings: ``cogbuild.yaml`` or ``[tool.cogbuild]``, and the variables that override them.

Imports neither pydantic nor YAML by itself: overriding happens on every run.
"""

from __future__ import annotations

import dataclasses
import os
import re
from typing import TYPE_CHECKING, Any

from cogbuild.errors.declarations import BadValue, StoreNotSupported
from cogbuild.spec import _values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from cogbuild.spec import Settings

__all__ = ["check_store", "override", "parse_settings", "parse_size"]


# A bucket and a prefix, with no empty or dotted part: what every kind of object store takes.
_REMOTE = re.compile(r"(s3|gs|az)://[a-z0-9][a-z0-9._-]+(/(?!\.\.?(/|$))[A-Za-z0-9._=+@-]+)*/?")


def parse_settings(data: bytes, path: Path) -> Settings:
    """Return the settings in ``cogbuild.yaml``, or in the table ``[tool.cogbuild]`` of a ``pyproject.toml``."""
    from cogbuild.spec import _site_form

    return _site_form.parse(data, path)


def override(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """Return *settings* with what ``COGBUILD_…`` variables say instead.

    An empty variable counts as not set, except where empty means something: no registry, the store of its own.
    """
    changes: dict[str, Any] = {}
    for field, read in _VARIABLES.items():
        variable = "COGBUILD_" + field.upper()
        text = environ.get(variable)
        if text is None or (not text and field not in _MAY_BE_EMPTY):
            continue
        try:
            changes[field] = read(text)
        except ValueError as error:
            raise BadValue(key=variable, value=repr(text), expected=str(error)) from None
        if field == "artifact_store":
            check_store(changes[field], variable=variable)
    return dataclasses.replace(settings, **changes) if changes else settings


def parse_size(text: str) -> int:
    """Return bytes for ``500M``, ``2G`` (powers of 1024) or a number of bytes. Raises ``ValueError``."""
    return _values.size(_number_or_text(text))


def check_store(store: str | None, **where: object) -> None:
    """Refuse an artifact store that this cogbuild can't write to; *where* are facts on who named it."""
    if store is None:
        return
    scheme, colon, rest = store.partition(":")
    if not (scheme == "file" and colon and rest.strip("/")) and not _REMOTE.fullmatch(store):
        raise StoreNotSupported(store=repr(store), **where)


def _adapters(text: str) -> tuple[str, ...]:
    # "builtin:onnx" holds the separator of paths: put it together again.
    parts = text.split(os.pathsep)
    entries: list[str] = []
    for part in parts:
        if entries and entries[-1] == "builtin":
            entries[-1] = f"builtin:{part}"
        else:
            entries.append(part)
    return tuple(_values.adapter_entry(entry) for entry in entries if entry)


def _patterns(text: str) -> tuple[str, ...]:
    return tuple(_values.pass_pattern(part.strip()) for part in text.split(",") if part.strip())


_VARIABLES: dict[str, Callable[[str], object]] = {
    "adapters": _adapters,
    "docker_registry": _values.registry,
    "artifact_store": lambda text: text or None,
    "jobs": _values.jobs,
    "pass_env": _patterns,
    "workspace_memory": lambda text: _values.size(_number_or_text(text)),
    "zip_limit": lambda text: _values.size(_number_or_text(text)),
}
_MAY_BE_EMPTY = ("docker_registry", "artifact_store")


def _number_or_text(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else text
