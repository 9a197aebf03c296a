"""Errors of looking after what is kept: artifacts that are asked for, keys, adapters that are tried out."""

from __future__ import annotations

from cogbuild.errors import CogbuildError

__all__ = [
    "AmbiguousKey",
    "ArtifactGone",
    "BadAdapterName",
    "DirectoryTaken",
    "FetchRefused",
    "NeedsNotMade",
    "NoArtifactNamed",
    "NotApplicableHere",
    "NotFetchable",
    "NotMade",
    "NotReproducible",
    "SeveralArtifacts",
    "SeveralRepos",
    "TargetRefused",
    "TargetTaken",
    "UnknownKey",
]


# -- artifacts ----------------------------------------------------------------------------------------------------


class NotMade(CogbuildError):
    exit_code = 1
    headline = "{adapter} has made nothing of {model}"
    hint = "build it with `cogbuild adapt --model {id} --adapter {adapter}`"
    in_hint = ("id",)


class NotApplicableHere(CogbuildError):
    exit_code = 1
    headline = "{adapter} does not apply to {model}"


class SeveralRepos(CogbuildError):
    headline = "{model} is in several repos, and what {adapter} made there differs"
    hint = "choose one with --repo USER/NAME"


class SeveralArtifacts(CogbuildError):
    headline = "{adapter} made several artifacts of {model}"
    hint = "choose one with --name NAME"


class NoArtifactNamed(CogbuildError):
    headline = "{adapter} made no artifact called {name} of {model}"


class ArtifactGone(CogbuildError):
    exit_code = 1
    headline = "what {adapter} made of {model} is gone"
    hint = "build it again with `cogbuild adapt`"


class NotFetchable(CogbuildError):
    headline = "cogbuild can't fetch what {adapter} made of {model}"
    hint = "fetch it with the tools of the place where it is"


class FetchRefused(CogbuildError):
    exit_code = 1
    headline = "what {adapter} made of {model} could not be fetched"


class TargetRefused(CogbuildError):
    headline = "{path} can't be written"
    hint = "name another place with -o"


class TargetTaken(CogbuildError):
    headline = "{path} is there already"
    hint = "name another place, or replace it with --force"


# -- the cache ----------------------------------------------------------------------------------------------------


class UnknownKey(CogbuildError):
    headline = "no record and no outcome has the key {key}"
    hint = "list the records with `cogbuild cache ls`"


class AmbiguousKey(CogbuildError):
    headline = "{key} could be more than one key"
    hint = "give more digits of the key"


# -- adapters that are made or tried out --------------------------------------------------------------------------


class BadAdapterName(CogbuildError):
    headline = "{name} can't be the name of an adapter"
    hint = "use at most 64 letters, digits, dots, dashes and underscores, the first a letter or digit"


class DirectoryTaken(CogbuildError):
    headline = "{directory} is there already, and something is in it"
    hint = "name another: `cogbuild adapters new {name} DIR`"
    in_hint = ("name",)


class NeedsNotMade(CogbuildError):
    exit_code = 1
    headline = "adapter {adapter} can't be tried on {model}: what it needs is not there"
    hint = "make it first, e.g. with `cogbuild adapt --model {id}`"
    in_hint = ("id",)


class NotReproducible(CogbuildError):
    exit_code = 1
    headline = "{adapter} made something else when it ran again on {model}"
    hint = "leave out times, random names and orders that vary, so that equal inputs give equal bytes"
