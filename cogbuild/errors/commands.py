"""Errors of what was asked for on the command line (exit 2)."""

from __future__ import annotations

from cogbuild.errors import CogbuildError

__all__ = [
    "BadParam",
    "FileInTheWay",
    "NoAttempt",
    "NoSuchPair",
    "NothingToSet",
    "RepoWanted",
    "UnlinkedZip",
]


class FileInTheWay(CogbuildError):
    headline = "{file} is there already, so nothing was written"
    hint = "make the project in another directory, or move the file away"


class BadParam(CogbuildError):
    headline = "--param {given} can't be read: {reason}"
    hint = "write --param ADAPTER.NAME=JSON, e.g. --param onnx.opset=18 or --param 'onnx.network=\"encoder\"'"


class NothingToSet(CogbuildError):
    headline = "nothing was said that is to be set"
    hint = "say --cpu-image, --adapter, --all-adapters or --param"


class UnlinkedZip(CogbuildError):
    headline = "{path} is a zip: only a directory can be linked"
    hint = "unpack it, or add it without --link"


class NoSuchPair(CogbuildError):
    headline = "{model} has no pair with {adapter}"


class RepoWanted(CogbuildError):
    headline = "{model} is in several repos"
    hint = "choose one with --repo USER/NAME"


class NoAttempt(CogbuildError):
    headline = "{pair} has no attempt {number}"
