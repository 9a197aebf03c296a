"""Tensors of the Open Inference Protocol and a model's values: one into the other, by the model's OpenAPI schema.

Knows no transport: a tensor's data is a flat list of Python values here.

| in the schema | datatype | shape | data |
|---|---|---|---|
| string | BYTES | 1 | UTF-8 |
| string, format uri (a file) | BYTES | 1 | the file's content; a URL as it is |
| integer | INT64 | 1 | any integer datatype is taken |
| number | FP64 | 1 | any datatype of numbers is taken |
| boolean | BOOL | 1 | |
| array of one of these | as above | -1 | |
| anything else | BYTES | 1 | JSON |
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_DATATYPES = {
    "string": "BYTES",
    "file": "BYTES",
    "json": "BYTES",
    "integer": "INT64",
    "number": "FP64",
    "boolean": "BOOL",
}
_INTEGERS = frozenset({"INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"})
_TAKEN = {
    "integer": _INTEGERS,
    "number": _INTEGERS | {"FP16", "BF16", "FP32", "FP64"},
    "boolean": frozenset({"BOOL"}),
}
_URLS = ("http://", "https://", "data:")
#: The `content_type` of a tensor whose text is base64 of what is meant.
BASE64 = "base64"


class Mismatch(Exception):
    """What the client sent does not fit the model; the text is one sentence."""


class Unfit(Exception):
    """What the model gave does not fit its own schema; the text is one sentence."""


@dataclass(frozen=True)
class Tensor:
    """One tensor. The elements of BYTES are bytes, or text where a protocol has only that."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Value:
    """One input or output of the model."""

    name: str
    kind: str  # a key of _DATATYPES
    many: bool
    required: bool

    @property
    def metadata(self) -> dict[str, Any]:
        """How the protocol describes it."""
        return {"name": self.name, "datatype": _DATATYPES[self.kind], "shape": [-1 if self.many else 1]}

    def read(self, tensor: Tensor) -> Any:
        """Return what *tensor* means; raises ``Mismatch``."""
        self._check(tensor)
        values = [self._element(item, tensor) for item in tensor.data]
        return values if self.many else values[0]

    def _check(self, tensor: Tensor) -> None:
        taken = _TAKEN.get(self.kind, {"BYTES"})
        if tensor.datatype not in taken:
            raise Mismatch(
                f"the input {self.name} is {tensor.datatype}, but the model takes {_DATATYPES[self.kind]}"
            )
        if any(size < 0 for size in tensor.shape) or math.prod(tensor.shape) != len(tensor.data):
            shape = list(tensor.shape)
            raise Mismatch(f"the input {self.name} has the shape {shape}, but {len(tensor.data)} values")
        if not self.many and len(tensor.data) != 1:
            raise Mismatch(f"the input {self.name} has {len(tensor.data)} values, but the model takes one")
        if self.many and sum(size != 1 for size in tensor.shape) > 1:
            raise Mismatch(
                f"the input {self.name} has the shape {list(tensor.shape)}, but the model takes a list"
            )

    def _element(self, item: Any, tensor: Tensor) -> Any:
        if self.kind == "integer" and (type(item) is int):
            return item
        if self.kind == "number" and isinstance(item, (int, float)) and not isinstance(item, bool):
            if math.isfinite(item):
                return item
            raise Mismatch(f"the input {self.name} holds {item}, which Cog's JSON cannot carry")
        if self.kind == "boolean" and (isinstance(item, bool) or item in (0, 1)):
            return bool(item)
        if _DATATYPES[self.kind] == "BYTES" and isinstance(item, (str, bytes)):
            return self._bytes(item, tensor.parameters.get("content_type") == BASE64)
        raise Mismatch(f"the input {self.name} holds {item!r:.60}, which is no {tensor.datatype}")

    def _bytes(self, item: str | bytes, encoded: bool) -> Any:
        if encoded:
            try:
                item = base64.b64decode(item, validate=True)
            except (binascii.Error, ValueError):
                raise Mismatch(
                    f"the input {self.name} has the content_type base64, but is no base64"
                ) from None
        if self.kind == "file":
            return _as_url(item)
        try:
            text = item if isinstance(item, str) else item.decode()
            return json.loads(text) if self.kind == "json" else text
        except UnicodeDecodeError:
            raise Mismatch(f"the input {self.name} is no UTF-8") from None
        except ValueError:
            raise Mismatch(f"the input {self.name} is no JSON") from None

    def write(self, value: Any) -> Tensor:
        """Return *value* as a tensor; raises ``Unfit``."""
        if self.many and not isinstance(value, list):
            raise Unfit(f"the output {self.name} is no list")
        values = [self._written(item) for item in (value if self.many else [value])]
        return Tensor(self.name, _DATATYPES[self.kind], (len(values),), values)

    def _written(self, value: Any) -> Any:
        if self.kind == "json":
            return json.dumps(value, ensure_ascii=False).encode()
        if self.kind == "number" and isinstance(value, (int, float)):
            return float(value)
        if self.kind == "integer" and isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
            return int(value)
        if self.kind == "boolean" and isinstance(value, bool):
            return value
        if self.kind == "string" and isinstance(value, str):
            return value.encode()
        if self.kind == "file" and isinstance(value, str):
            try:
                return _content(value)
            except (binascii.Error, ValueError):
                pass  # said below
        raise Unfit(f"the output {self.name} is {value!r:.60}, which is no {self.kind}")


class Interface:
    """What a model takes and gives, from its OpenAPI schema."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schemas = schema["components"]["schemas"]
        self.inputs = self._values("Input")
        output = self._resolved(self._schemas.get("Output", {}))
        # Without names of its own the output is one value.
        self._named = bool(output.get("properties"))
        self.outputs = (
            self._values("Output")
            if self._named
            else {"output": self._value("output", output, required=True)}
        )

    def _values(self, of: str) -> dict[str, Value]:
        form = self._resolved(self._schemas[of])
        needed = form.get("required", [])
        ordered = sorted(form.get("properties", {}).items(), key=lambda item: item[1].get("x-order", 0))
        return {name: self._value(name, shape, required=name in needed) for name, shape in ordered}

    def _value(self, name: str, form: Mapping[str, Any], *, required: bool) -> Value:
        form = self._resolved(form)
        many = form.get("type") == "array"
        kind = _kind(self._resolved(form.get("items", {})) if many else form)
        if many and kind == "json":  # a list of objects is one document
            many = False
        return Value(name, kind, many, required)

    def _resolved(self, form: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return *form* with what it refers to; of "this or nothing", this."""
        for key in ("allOf", "anyOf"):
            parts = [part for part in form.get(key, ()) if part.get("type") != "null"]
            if len(parts) == 1:
                form = {**form, **self._resolved(parts[0])}
        if "$ref" in form:
            return self._resolved(self._schemas[form["$ref"].rpartition("/")[2]])
        return form

    def metadata(self) -> dict[str, Any]:
        """Return the tensors as the protocol describes them."""
        return {
            "inputs": [value.metadata for value in self.inputs.values()],
            "outputs": [value.metadata for value in self.outputs.values()],
        }

    def read(self, tensors: Iterable[Tensor]) -> dict[str, Any]:
        """Return the model's inputs from a request; raises ``Mismatch``."""
        given: dict[str, Any] = {}
        for tensor in tensors:
            if tensor.name not in self.inputs:
                raise Mismatch(
                    f"the model has no input {tensor.name}: it takes {', '.join(self.inputs) or 'none'}"
                )
            if tensor.name in given:
                raise Mismatch(f"the input {tensor.name} is given twice")
            given[tensor.name] = self.inputs[tensor.name].read(tensor)
        for name, value in self.inputs.items():
            if value.required and name not in given:
                raise Mismatch(f"the input {name} is missing")
        return given

    def check_wanted(self, names: Iterable[str]) -> None:
        """Refuse outputs that the model does not have."""
        for name in names:
            if name not in self.outputs:
                raise Mismatch(f"the model has no output {name}: it gives {', '.join(self.outputs)}")

    def write(self, output: Any) -> list[Tensor]:
        """Return the model's output as tensors, without what it left out; raises ``Unfit``."""
        if not self._named:
            value = self.outputs["output"]
            return [value.write(output)] if output is not None or value.kind == "json" else []
        if not isinstance(output, dict):
            raise Unfit("the output is no object")
        found = {name: output.get(name) for name in self.outputs}
        if absent := [name for name, value in self.outputs.items() if value.required and found[name] is None]:
            raise Unfit(f"the output has no {', '.join(absent)}")
        return [self.outputs[name].write(value) for name, value in found.items() if value is not None]


def _kind(form: Mapping[str, Any]) -> str:
    kind = form.get("type")
    if kind == "string":
        return "file" if form.get("format") == "uri" else "string"
    return kind if kind in ("integer", "number", "boolean") else "json"


def _as_url(item: str | bytes) -> str:
    """Return a file as Cog takes it. Paths of the server's machine are content like any other."""
    data = item.encode() if isinstance(item, str) else item
    if data.startswith(tuple(url.encode() for url in _URLS)):
        try:
            return data.decode()
        except UnicodeDecodeError:
            pass
    return "data:application/octet-stream;base64," + base64.b64encode(data).decode()


def _content(url: str) -> bytes:
    """Return the content of a ``data:`` URL, as Cog gives files; any other URL is left as it is."""
    if not url.startswith("data:"):
        return url.encode()
    head, _, body = url.partition(",")
    return base64.b64decode(body) if head.endswith(";base64") else unquote_to_bytes(body)
