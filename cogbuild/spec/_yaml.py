"""A YAML file as plain values, with the line of every key for the errors.

Stricter than PyYAML: a key twice is refused, aliases can't grow the file beyond bounds, tags make no objects. Keys
are taken as written (``on:`` is "on"), and so are numbers that JSON can't hold, dates, and ``12:30``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from cogbuild.errors.declarations import (
    BrokenYaml,
    DeclarationNotText,
    DeclarationTooLarge,
    KeyTwice,
    NotAMapping,
    TooComplex,
)

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Document", "Place", "read_text", "read_yaml", "shown"]

#: Where a value stands: keys and list positions from the top.
Place = tuple[str | int, ...]

MAX_BYTES = 4 << 20
MAX_VALUES = 200_000
MAX_DEPTH = 64

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SCALARS = yaml.constructor.SafeConstructor()
_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = {_TAG + name for name in ("str", "timestamp", "value")}
_UNUSABLE = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True)
class Document:
    """A declaration as read: its values, and where each of them stands in the file."""

    path: Path
    value: dict[str, Any]
    lines: dict[Place, int] = field(default_factory=dict)
    texts: dict[Place, str] = field(default_factory=dict)  # scalars as written

    def line(self, place: Place) -> int | None:
        """Return the line of *place*, or of the nearest key around it that the file has."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place)

    def where(self, place: Place) -> dict[str, object]:
        """Return the facts that end every message about *place*."""
        return {"file": self.path, "line": self.line(place)}

    def shown(self, place: Place) -> str:
        """Return the value at *place* as messages show it."""
        value: Any = self.value
        for step in place:
            value = value[step]
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return self.texts.get(place, str(value))
        return shown(value)


def shown(value: object) -> str:
    """Return *value* as messages show it, in one short line."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:57] + "...")
    return str(value)


def read_text(data: bytes, path: Path) -> str:
    """Return a declaration's text, or say why it has none."""
    if len(data) > MAX_BYTES:
        raise DeclarationTooLarge(file=path, size=len(data), limit=MAX_BYTES)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DeclarationNotText(file=path, line=_line(data, error.start)) from None


def _line(text: bytes | str, position: int) -> int:
    before = text[:position]
    return (before.count(b"\n") if isinstance(before, bytes) else before.count("\n")) + 1


def read_yaml(data: bytes, path: Path) -> Document:
    """Return the mapping that *data* holds; an empty file is an empty mapping."""
    text = read_text(data, path)
    if strange := yaml.reader.Reader.NON_PRINTABLE.search(text):
        problem = f"it holds the character U+{ord(strange[0]):04X}"
        raise BrokenYaml(file=path, line=_line(text, strange.start()), problem=problem)
    try:
        _check_shape(text, path)
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        raise _broken(error, path) from None
    document = Document(path, {})
    if root is None or root.tag == _TAG + "null":
        return document
    builder = _Builder(document)
    value = builder.build(root, ())
    if not isinstance(value, dict):
        raise NotAMapping(file=path, found=shown(value))
    document.value.update(value)
    return document


def _check_shape(text: str, path: Path) -> None:
    # Before composing, because the composer recurses in C, where a deep file ends the process.
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_LOADER)):
        if isinstance(event, yaml.events.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.events.CollectionEndEvent):
            depth -= 1
        _check_bounds(path, depth, count, event.start_mark)


def _check_bounds(path: Path, depth: int, count: int, mark: Any) -> None:
    if depth > MAX_DEPTH:
        raise TooComplex(file=path, reason=f"it nests more than {MAX_DEPTH} levels deep", line=mark.line + 1)
    if count > MAX_VALUES:
        raise TooComplex(
            file=path,
            reason=f"with its aliases written out it has more than {MAX_VALUES} values",
            line=mark.line + 1,
        )


def _broken(error: yaml.YAMLError, path: Path) -> BrokenYaml | TooComplex:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None)
    if (
        problem and "maximum nesting depth" in problem
    ):  # PyYAML's own limit, since 6.0.4; it reads ahead of us
        reason = f"it nests more than {MAX_DEPTH} levels deep"
        return TooComplex(file=path, reason=reason, line=mark.line + 1 if mark else None)
    return BrokenYaml(file=path, line=mark.line + 1 if mark else None, problem=problem)


class _Builder:
    """Turns nodes into values and fills the document's lines."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.count = 0

    def build(self, node: yaml.Node, place: Place) -> Any:
        self._bounded(node, len(place))
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return {
                key: self.build(value, self._noted(place, key, line))
                for key, line, value in self._entries(node, place)
            }
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [
                self.build(item, self._noted(place, i, item.start_mark.line + 1))
                for i, item in enumerate(node.value)
            ]
        if not isinstance(node, yaml.ScalarNode):
            raise self._refused(node, f"the tag {node.tag.removeprefix(_TAG)} is not known here")
        self.document.texts[place] = node.value
        return self._scalar(node)

    def _entries(
        self, node: yaml.MappingNode, place: Place, depth: int = 0
    ) -> list[tuple[str, int, yaml.Node]]:
        own: dict[str, tuple[str, int, yaml.Node]] = {}
        merged: list[tuple[str, int, yaml.Node]] = []
        for key, value in node.value:
            self._bounded(key, len(place) + depth)
            if key.tag == _TAG + "merge":
                merged += self._merged(value, place, depth + 1)
                continue
            if not isinstance(key, yaml.ScalarNode):
                raise self._refused(key, "a key has to be a plain text")
            name, line = self._text(key), key.start_mark.line + 1
            if name in own:
                raise KeyTwice(key=name, file=self.document.path, line=line, first_line=own[name][1])
            own[name] = (name, line, value)
        for entry in merged:
            own.setdefault(entry[0], entry)
        return list(own.values())

    def _merged(self, value: yaml.Node, place: Place, depth: int) -> list[tuple[str, int, yaml.Node]]:
        entries = []
        for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            if not isinstance(source, yaml.MappingNode):
                raise self._refused(source, "<< takes mappings only")
            entries += self._entries(source, place, depth)
        return entries

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text = self._text(node)
        kind = node.tag.removeprefix(_TAG)
        if node.tag in _TEXT_TAGS:
            return text
        if kind == "null":
            return None
        if kind == "bool" and text.lower() in _SCALARS.bool_values:
            return _SCALARS.bool_values[text.lower()]
        if kind in ("int", "float"):
            return self._number(node, kind)
        raise self._refused(node, f"the tag {kind} is not known here")

    def _number(self, node: yaml.ScalarNode, kind: str) -> int | float | str:
        text: str = node.value
        if ":" in text:  # base sixty, which YAML gave up after 1.1
            return text
        try:
            number: int | float = (
                _SCALARS.construct_yaml_int(node) if kind == "int" else _SCALARS.construct_yaml_float(node)
            )
        except ValueError:
            raise self._refused(node, f"{shown(text)} is not a number") from None
        fits = math.isfinite(number) if isinstance(number, float) else -(2**63) <= number < 2**64
        return number if fits else text

    def _text(self, node: yaml.ScalarNode) -> str:
        if _UNUSABLE.search(node.value):
            raise self._refused(node, "a text holds a NUL character")
        return str(node.value)

    def _noted(self, place: Place, step: str | int, line: int) -> Place:
        place = (*place, step)
        self.document.lines[place] = line
        return place

    def _bounded(self, node: yaml.Node, depth: int) -> None:
        self.count += 1
        _check_bounds(self.document.path, depth, self.count, node.start_mark)

    def _refused(self, node: yaml.Node, problem: str) -> BrokenYaml:
        return BrokenYaml(file=self.document.path, line=node.start_mark.line + 1, problem=problem)
