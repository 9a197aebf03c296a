"""Errors in what people declare: cog.yaml, cog-adapter.yaml, cog-adapters.yaml, settings (exit 2).

DeclarationError
├── the file      DeclarationTooLarge, DeclarationNotText, BrokenYaml, BrokenToml, KeyTwice, NotAMapping,
│                 TooComplex
├── any key       UnknownKey, KeyMissing, BadValue, ItemTwice
├── adapters      UnknownApi, UnknownVariable, NamesCollide, NeedsItself
├── models        ReferenceMissing, TwoReferences, ReferenceWithoutClass, ReferencedFileMissing,
│                 ReferencedFileBroken, ClassMissing, RequirementsMissing, BadRequirement
└── settings      BadRepo, StoreNotSupported
"""

from __future__ import annotations

from cogbuild.errors import CogbuildError

__all__ = [
    "BadRepo",
    "BadRequirement",
    "BadValue",
    "BrokenToml",
    "BrokenYaml",
    "ClassMissing",
    "DeclarationError",
    "DeclarationNotText",
    "DeclarationTooLarge",
    "ItemTwice",
    "KeyMissing",
    "KeyTwice",
    "NamesCollide",
    "NeedsItself",
    "NotAMapping",
    "ReferenceMissing",
    "ReferenceWithoutClass",
    "ReferencedFileBroken",
    "ReferencedFileMissing",
    "RequirementsMissing",
    "StoreNotSupported",
    "TooComplex",
    "TwoReferences",
    "UnknownApi",
    "UnknownKey",
    "UnknownVariable",
]


class DeclarationError(CogbuildError):
    """A file or variable says something that cogbuild can't take."""


class DeclarationTooLarge(DeclarationError):
    headline = "{file} has {size} bytes, more than the {limit} that a declaration may have"


class DeclarationNotText(DeclarationError):
    headline = "{file} is not UTF-8 text"
    hint = "save it as UTF-8"


class BrokenYaml(DeclarationError):
    headline = "{file} is not YAML that can be read"


class BrokenToml(DeclarationError):
    headline = "{file} is not TOML that can be read"


class NotAMapping(DeclarationError):
    headline = "{file} holds {found} where keys with values were expected"


class TooComplex(DeclarationError):
    headline = "{file} is larger than it looks: {reason}"


class KeyTwice(DeclarationError):
    headline = "{key} is given twice"


class UnknownKey(DeclarationError):
    headline = "{key} is not a key that cogbuild knows"


class KeyMissing(DeclarationError):
    headline = "{key} is missing"


class BadValue(DeclarationError):
    headline = "{key} is {value}, {expected} was expected"


class ItemTwice(DeclarationError):
    headline = "{key} names {item} twice"


class UnknownApi(DeclarationError):
    headline = "the adapter speaks api {api}, this cogbuild knows api 1"
    hint = "upgrade cogbuild, or use an older version of the adapter"


class UnknownVariable(DeclarationError):
    headline = "{variable} is not a variable that adapters can get"


class NamesCollide(DeclarationError):
    headline = "{first} and {second} in {key} would both become {variable}"
    hint = "rename one of them"


class NeedsItself(DeclarationError):
    headline = "adapter {adapter} needs itself"


class ReferenceMissing(DeclarationError):
    headline = "{file} names no class to run"
    hint = "add a line such as `predict: predict.py:Predictor`"


class TwoReferences(DeclarationError):
    headline = "{file} has both {first} and {second}"
    hint = "keep one of them: both name the class to run"


class ReferenceWithoutClass(DeclarationError):
    headline = "{key} names the file {file_named}, but no class in it"

    @property
    def advice(self) -> str:
        """A line to paste where the file has one class that fits, else the form."""
        shown = self._inline()
        fits = shown.get("class_found")
        line = f"`{shown['key']}: {shown['file_named']}:{fits or 'Predictor'}`"
        return f"write {line}" if fits else f"name the class too, as in {line}"


class ReferencedFileMissing(DeclarationError):
    headline = "cog.yaml names {source}, which is not in the model"


class ReferencedFileBroken(DeclarationError):
    headline = "{source} is not Python that can be read"


class ClassMissing(DeclarationError):
    headline = "{source} has no {name}, which cog.yaml names"


class RequirementsMissing(DeclarationError):
    headline = "the requirements file {source} is not in the model"


class BadRequirement(DeclarationError):
    headline = "{requirement} is not a requirement that pip would take"


class BadRepo(DeclarationError):
    headline = "{repo} is not a repo: user/name was expected"
    hint = "both parts are letters, digits, dots, dashes and underscores, and begin with a letter or digit"


class StoreNotSupported(DeclarationError):
    headline = "artifacts can't be kept in {store}"
    hint = "name a directory or a bucket: file:///srv/artifacts, s3://bucket/prefix, gs://…, az://container/…"
