"""Names and the variables made of them; imports nothing heavy, because the command line asks here."""

from __future__ import annotations

import re

from cogbuild.errors.declarations import BadRepo

__all__ = [
    "artifact_variable",
    "checked_repo",
    "is_adapter_name",
    "is_param_name",
    "is_variable",
    "param_variable",
    "path_variable",
    "valid_repo",
]

# doit splits task names at "=", shells and paths at the rest, so an adapter's name keeps clear of them all.
_ADAPTER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PARAM = re.compile(r"[A-Za-z0-9_-]{1,64}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REPO_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def valid_repo(text: str) -> tuple[str, str]:
    """Return (user, name) of a repo ``user/name``, or raise ``BadRepo``."""
    user, slash, name = text.partition("/")
    if not slash or not _REPO_PART.fullmatch(user) or not _REPO_PART.fullmatch(name):
        raise BadRepo(repo=repr(text))
    return user, name


def checked_repo(text: str) -> str:
    """Return *text* where it is a repo, or raise ``BadRepo``."""
    valid_repo(text)
    return text


def is_adapter_name(text: str) -> bool:
    """Whether an adapter may be called *text*."""
    return _ADAPTER.fullmatch(text) is not None


def is_param_name(text: str) -> bool:
    """Whether a parameter may be called *text*."""
    return _PARAM.fullmatch(text) is not None


def is_variable(text: str) -> bool:
    """Whether *text* is the name of an environment variable that shells can set."""
    return _VARIABLE.fullmatch(text) is not None


def param_variable(name: str) -> str:
    """Return the variable in which an adapter gets the parameter *name*."""
    return "COG_PARAM_" + _upper(name)


def artifact_variable(adapter: str) -> str:
    """Return the variable in which an adapter gets the artifact of the adapter it needs."""
    return "COG_ARTIFACT_" + _upper(adapter)


def path_variable(adapter: str) -> str:
    """Return the variable in which an adapter gets where that artifact can be read on this machine."""
    return "COG_PATH_" + _upper(adapter)


def _upper(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", name).upper()
