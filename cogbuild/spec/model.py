"""Reads ``cog.yaml`` in today's form and the form of 2021, and ``cog-adapters.yaml``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from cogbuild.errors.declarations import (
    BadRequirement,
    ReferenceMissing,
    ReferenceWithoutClass,
    TwoReferences,
)
from cogbuild.spec import Example, ModelSpec, Wishes, _values
from cogbuild.spec._checked import Form, Items, bad_value, checked, once_each
from cogbuild.spec._requirements import Requirements, is_requirement
from cogbuild.spec._source import candidates, check_reference
from cogbuild.spec._yaml import Document, read_yaml
from cogbuild.spec.adapter import check_adapter_key, check_params

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cogbuild.spec._yaml import Place

__all__ = ["check_reference", "parse_model", "parse_wishes"]

_PYTHON_VERSION = re.compile(r"3(?:\.\d{1,3}){0,2}")


class _Open(Form):
    """A form in a file that is Cog's: keys that cogbuild doesn't know are none of its business."""

    model_config = ConfigDict(extra="ignore")


def _empty_is(default: Callable[[], object]) -> BeforeValidator:
    return BeforeValidator(lambda value: default() if value is None else value)


Texts = Annotated[Items[str], _empty_is(tuple)]


class _ExampleForm(Form):
    input: Annotated[dict[str, Any], _empty_is(dict)] = Field(default_factory=dict)
    output: Any = None


Examples = Annotated[Items[_ExampleForm], _empty_is(tuple)]


class _Build(_Open):
    python_version: Any = None  # read as written: 3.10 without quotes is a number for YAML
    python_packages: Texts = ()
    python_requirements: str | None = None
    python_extra_index_urls: Texts = ()
    python_find_links: Texts = ()
    system_packages: Texts = ()
    architectures: Texts = ()
    gpu: Annotated[bool, _empty_is(bool)] = False


class _Today(_Open):
    build: Annotated[_Build, _empty_is(dict)] = _Build()
    predict: str | None = None
    run: str | None = None


class _Of2021(_Open):
    environment: Annotated[_Build, _empty_is(dict)] = _Build()
    model: str | None = None
    examples: Examples = ()


Params = Annotated[dict[str, Any], _empty_is(dict)]


class _Wishes(Form):
    adapters: Items[Annotated[str, AfterValidator(_values.adapter_name)]] | None = None
    params: Annotated[dict[str, Params], _empty_is(dict)] = Field(default_factory=dict)
    examples: Examples = ()


def parse_model(data: bytes, path: Path, read: Callable[[str], bytes | None]) -> ModelSpec:
    """Return what ``cog.yaml`` says.

    *read* gives the content of a file of the model by relative path, ``None`` where there is none; *path* is for
    messages only.
    """
    document = read_yaml(data, path)
    key = _reference_key(document)
    examples: tuple[_ExampleForm, ...] = ()
    if key == "model":
        old = checked(_Of2021, document)
        build, place, examples = old.environment, "environment", old.examples
    else:
        build, place = checked(_Today, document).build, "build"
    file, cls = _reference(document, key, read)
    given = build.python_version is not None
    version = _python_version(document, (place, "python_version")) if given else None
    requirements = _requirements(document, place, build, read)
    return ModelSpec(
        module=file.removesuffix(".py").replace("/", "."),
        cls=cls,
        file=file,
        python_version=version,
        requirements=tuple(requirements.specifiers),
        constraints=tuple(requirements.constraints),
        pip_options=tuple(requirements.options),
        system_packages=build.system_packages,
        gpu=build.gpu or "gpu" in build.architectures,
        examples=_examples(examples),
    )


def _reference_key(document: Document) -> str:
    given = [key for key in ("predict", "run") if document.value.get(key) is not None]
    model = document.value.get("model")
    # Cog may come to use "model" for something else again: beside another reference it has to look like one.
    if model is not None and (not given or ".py" in str(model)):
        given.append("model")
    if not given:
        raise ReferenceMissing(file=document.path)
    if len(given) > 1:
        raise TwoReferences(
            file=document.path, first=given[0], second=given[1], line=document.line((given[1],))
        )
    return given[0]


def _reference(document: Document, key: str, read: Callable[[str], bytes | None]) -> tuple[str, str]:
    value = document.value[key]
    if not isinstance(value, str):
        raise bad_value(document, (key,), "a reference such as predict.py:Predictor")
    name, _, cls = value.partition(":")
    try:
        file = _values.inside(name.strip())
    except ValueError:
        file = ""
    cls = cls.strip()
    if not file.endswith(".py") or file == ".py" or (cls and not cls.isidentifier()):
        raise bad_value(document, (key,), "a reference such as predict.py:Predictor")
    if not cls:
        found = candidates(read(file) or b"")
        fits = found[0] if len(found) == 1 else None
        raise ReferenceWithoutClass(key=key, file_named=file, class_found=fits, **document.where((key,)))
    return file, cls


def _requirements(
    document: Document, place: str, build: _Build, read: Callable[[str], bytes | None]
) -> Requirements:
    found = Requirements(read)
    for i, package in enumerate(build.python_packages):
        if not is_requirement(package):
            where = document.where((place, "python_packages", i))
            raise BadRequirement(requirement=repr(package), **where)
        found.specifiers.append(package)
    found.options += [f"--extra-index-url {url}" for url in build.python_extra_index_urls]
    found.options += [f"--find-links {url}" for url in build.python_find_links]
    if build.python_requirements:
        found.add_file(build.python_requirements, named_in=document.where((place, "python_requirements")))
    return found


def _python_version(document: Document, place: Place) -> str:
    text = document.texts.get(place, "")
    if not _PYTHON_VERSION.fullmatch(text):
        raise bad_value(document, place, "a version of Python 3 such as 3.11")
    return text


def _examples(forms: tuple[_ExampleForm, ...]) -> tuple[Example, ...]:
    return tuple(Example(form.input, form.output) for form in forms)


def parse_wishes(data: bytes, path: Path) -> Wishes:
    """Return what ``cog-adapters.yaml`` wants of adapters; *path* is for messages only."""
    document = read_yaml(data, path)
    form = checked(_Wishes, document)
    once_each(document, "adapters")
    for adapter, params in form.params.items():
        check_adapter_key(document, ("params", adapter))
        check_params(document, ("params", adapter), params)
    return Wishes(
        adapters=form.adapters,
        params=form.params,
        examples=_examples(form.examples),
    )
