"""From a document to a checked form, with pydantic's findings in our own words.

A validator refuses a value with ``ValueError("what was expected")``; the phrase ends the sentence "key is value, …
was expected".
"""

from __future__ import annotations

import difflib
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from cogbuild.errors.declarations import BadValue, ItemTwice, KeyMissing, UnknownKey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cogbuild.errors.declarations import DeclarationError
    from cogbuild.spec._yaml import Document, Place

__all__ = ["Form", "Items", "bad_value", "checked", "key_name", "near", "once_each"]

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "literal_error": "docker_registry or artifact_store",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


class Form(BaseModel):
    """The keys that a file may have; unknown ones are refused, nothing is coerced."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


F = TypeVar("F", bound=Form)
T = TypeVar("T")

#: A list in the file, a tuple from then on.
Items = Annotated[
    tuple[T, ...], BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
]


def checked(form: type[F], document: Document) -> F:
    """Return *document* as a form, or raise the error that says what is wrong with its first bad line."""
    try:
        return form.model_validate(document.value)
    except ValidationError as error:
        findings = error.errors(include_url=False, include_input=False)
    # A mistyped key also leaves the right one missing: the key that is there is the better message.
    findings.sort(key=lambda finding: (finding["type"] == "missing", document.line(finding["loc"]) or 0))
    raise _translated(findings[0], form, document)


def _translated(finding: Any, form: type[Form], document: Document) -> DeclarationError:
    place: Place = finding["loc"]
    if finding["type"] == "missing":
        return KeyMissing(key=key_name(place), **document.where(place))
    if finding["type"] == "extra_forbidden":
        return _unknown_key(place, form, document)
    if finding["type"] == "value_error":
        return bad_value(document, place, str(finding["ctx"]["error"]))
    return bad_value(document, place, _EXPECTED.get(finding["type"], "something else"))


def _unknown_key(place: Place, form: type[Form], document: Document) -> UnknownKey:
    known = _keys(form, place[:-1])
    return UnknownKey(key=key_name(place), **near(str(place[-1]), known), **document.where(place))


def _keys(form: type[BaseModel], place: Place) -> list[str]:
    for step in place:
        if isinstance(step, str):
            found = next(field for name, field in form.model_fields.items() if step == (field.alias or name))
            form = _inner(found.annotation) or form
    return [field.alias or name for name, field in form.model_fields.items()]


def _inner(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_inner, get_args(annotation))), None)


def key_name(place: Place) -> str:
    """Return how messages name *place*: the keys that lead to it."""
    name = ".".join(step for step in place if isinstance(step, str))
    return f"an item of {name}" if place and isinstance(place[-1], int) else name


def bad_value(document: Document, place: Place, expected: str) -> BadValue:
    """Return the error for a value that is not what was *expected*."""
    return BadValue(
        key=key_name(place), value=document.shown(place), expected=expected, **document.where(place)
    )


def near(word: str, known: Sequence[str]) -> dict[str, object]:
    """Return the facts that help with an unknown *word*: the closest known one, else all that are known."""
    matches = partial(difflib.get_close_matches, possibilities=known, n=1)
    found = matches(word) or matches(word.lower()) or matches(word.upper())
    return {"closest": found[0]} if found else {"known": list(known)}


def once_each(document: Document, *place: str | int) -> None:
    """Refuse a list of texts that names one of them twice."""
    items: Any = document.value
    for step in place:
        items = (items or {}).get(step)
    seen = set()
    for i, item in enumerate(items or ()):
        if item in seen:
            raise ItemTwice(key=key_name(place), item=item, **document.where((*place, i)))
        seen.add(item)
