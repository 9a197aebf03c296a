"""Errors of adding, naming and reading models (exit 2)."""

from __future__ import annotations

from cogbuild.errors import CogbuildError

__all__ = [
    "AmbiguousModel",
    "FileChangedWhileRead",
    "LinkLeavesModel",
    "LinkedDirectoryGone",
    "NoModelFile",
    "NotAModelPath",
    "PathIsNoText",
    "SpecialFile",
    "UnknownModel",
    "UnknownRepo",
    "UnreadableFile",
]


class SpecialFile(CogbuildError):
    headline = "{file} is {kind}; a model holds files, directories and symlinks only"
    hint = "remove it, or name it in .dockerignore"


class LinkLeavesModel(CogbuildError):
    headline = "the symlink {link} leads out of the model"
    hint = "put the file itself into the model, or name the link in .dockerignore"


class UnreadableFile(CogbuildError):
    headline = "{file} can't be read"


class FileChangedWhileRead(CogbuildError):
    headline = "{file} changed while it was read"
    hint = "run the command again when nothing writes there"


class NoModelFile(CogbuildError):
    headline = "{path} is not a Cog model: it has no cog.yaml"


class NotAModelPath(CogbuildError):
    headline = "{path} is neither a directory nor a zip"


class PathIsNoText(CogbuildError):
    headline = "the path {path} is not UTF-8, so it can't be kept as text"
    hint = "rename the directory"


class LinkedDirectoryGone(CogbuildError):
    headline = "the linked model directory {path} is not there"
    hint = "bring it back, or let go of it with `cogbuild models rm {model}`"


class UnknownModel(CogbuildError):
    headline = "no model has the ID {model}"
    hint = "list the models with `cogbuild models ls`"


class UnknownRepo(CogbuildError):
    headline = "no model was ever in the repo {repo}"
    hint = "list the models with `cogbuild models ls`"


class AmbiguousModel(CogbuildError):
    headline = "{model} could be more than one model"
    hint = "give more digits of the ID"
