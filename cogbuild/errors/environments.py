"""Errors of the Python environments that adapters declare: resolving, locking, realising."""

from __future__ import annotations

from cogbuild.errors import CogbuildError

__all__ = [
    "EnvironmentNotMade",
    "PackagesOutOfReach",
    "PathRequirement",
    "ResolveFailed",
    "UnreadableRequirement",
    "Unresolvable",
    "UvMissing",
    "UvTooOld",
]


class UnreadableRequirement(CogbuildError):
    headline = "{requirement} is not a requirement"
    hint = "write it like onnx or onnx>=1.16; options such as indexes belong into UV_INDEX or UV_FIND_LINKS"


class PathRequirement(CogbuildError):
    headline = "the requirement {requirement} names a path of one machine"
    hint = "ask for the package by name, and name the directory that holds its wheel in UV_FIND_LINKS"


class Unresolvable(CogbuildError):
    headline = "no set of packages meets what {asked_by} asks for"
    hint = "change the requirements, or install the Python that they were made for"


class ResolveFailed(CogbuildError):
    headline = "what {asked_by} asks for could not be resolved"


class PackagesOutOfReach(CogbuildError):
    """The network or the index did not answer, and uv's cache does not hold all that is needed."""

    exit_code = 1
    headline = "the packages for {asked_by} can't be reached"
    hint = "connect to the package index and run the command again, or name a directory of wheels in UV_FIND_LINKS"


class EnvironmentNotMade(CogbuildError):
    exit_code = 1
    headline = "the locked packages of environment {environment} can't be installed"
    hint = "if a locked file is gone or was replaced, lock again with `cogbuild adapters lock --upgrade`"


class UvMissing(CogbuildError):
    exit_code = 3
    fatal = True
    headline = "uv, which makes Python environments, is not installed beside cogbuild"
    hint = "install it with `{python} -m pip install uv`"


class UvTooOld(CogbuildError):
    exit_code = 3
    fatal = True
    headline = "uv at {program} is too old to make Python environments"
    hint = "upgrade it with `{python} -m pip install --upgrade uv`"
