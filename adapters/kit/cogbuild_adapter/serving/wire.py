"""Requests and answers of the Open Inference Protocol over HTTP: JSON, and the binary tensor extension."""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .tensors import BASE64, Mismatch, Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: The header that says how much of a body is JSON; binary data follows it.
HEADER = "Inference-Header-Content-Length"
_FORMATS = {
    "BOOL": "?", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q",
    "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q", "FP16": "e", "FP32": "f", "FP64": "d",
}  # fmt: skip
_DATATYPES = frozenset({*_FORMATS, "BF16", "BYTES"})


@dataclass(frozen=True)
class Request:
    """One request for inference."""

    id: str | None
    tensors: list[Tensor]
    wanted: dict[str, bool]  # the outputs asked for, and whether in binary; all where it is empty
    binary: bool  # whether outputs that are not named are wanted in binary


def read_request(body: bytes, header: str | None) -> Request:
    """Return the request in *body*, of which as many bytes are JSON as *header* says; raises ``Mismatch``."""
    size = len(body)
    if header is not None:
        if not header.isdecimal() or int(header) > len(body):
            raise Mismatch(f"the header {HEADER} is {header!r}, but the body has {len(body)} bytes")
        size = int(header)
    try:
        document = json.loads(body[:size])
    except (ValueError, RecursionError):
        raise Mismatch("the request is no JSON") from None
    document = _object(document, "the request")
    rest = _Binary(body[size:])
    tensors = [_tensor(item, rest) for item in _list(document.get("inputs"), "inputs")]
    if rest.left:
        raise Mismatch(f"{rest.left} bytes of binary data belong to no input")
    parameters = _object(document.get("parameters") or {}, "parameters")
    binary = parameters.get("binary_data_output") is True
    wanted = {}
    for item in _list(document.get("outputs") or [], "outputs"):
        output = _object(item, "an output")
        more = _object(output.get("parameters") or {}, "an output's parameters")
        wanted[_text(output.get("name"), "an output's name")] = more.get("binary_data", binary) is True
    name = document.get("id")
    return Request(None if name is None else str(name), tensors, wanted, binary)


def tensor_from_json(item: Any) -> Tensor:
    """Return a tensor whose data is in its JSON form, nested or flat; raises ``Mismatch``."""
    return _tensor(item, _Binary(b""))


def write_answer(
    request: Request, tensors: Iterable[Tensor], facts: Mapping[str, Any]
) -> tuple[bytes, int | None]:
    """Return the body of an answer with *facts* in it, and how much of it is JSON where not all is."""
    rows, blobs = [], []
    for tensor in tensors:
        if request.wanted and tensor.name not in request.wanted:
            continue
        if request.wanted.get(tensor.name, request.binary):
            blob = _packed(tensor)
            blobs.append(blob)
            rows.append({**_head(tensor), "parameters": {"binary_data_size": len(blob)}})
        else:
            rows.append(json_of_tensor(tensor))
    document = {**facts, **({} if request.id is None else {"id": request.id}), "outputs": rows}
    head = json.dumps(document, ensure_ascii=False).encode()
    return b"".join([head, *blobs]), len(head) if blobs else None


def json_of_tensor(tensor: Tensor) -> dict[str, Any]:
    """Return a tensor as JSON; bytes that are no text become base64, and ``content_type`` says so."""
    if tensor.datatype != "BYTES":
        return {**_head(tensor), "data": tensor.data}
    try:
        return {**_head(tensor), "data": [item.decode() for item in tensor.data]}
    except UnicodeDecodeError:
        data = [base64.b64encode(item).decode() for item in tensor.data]
        return {**_head(tensor), "parameters": {"content_type": BASE64}, "data": data}


def _head(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


class _Binary:
    """The binary data of a request, taken from its beginning."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = memoryview(data), 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, size: int, name: str) -> memoryview:
        if size > self.left:
            raise Mismatch(f"the input {name} has {size} bytes of binary data, but {self.left} are left")
        self._at += size
        return self._data[self._at - size : self._at]


def _tensor(item: Any, rest: _Binary) -> Tensor:
    row = _object(item, "an input")
    name = _text(row.get("name"), "an input's name")
    datatype = row.get("datatype")
    if datatype not in _DATATYPES:
        raise Mismatch(f"the input {name} has the datatype {datatype!r}, which the protocol does not have")
    shape = row.get("shape")
    if not isinstance(shape, list) or any(type(size) is not int for size in shape):
        raise Mismatch(f"the shape of the input {name} is no list of whole numbers")
    parameters = _object(row.get("parameters") or {}, f"parameters of the input {name}")
    if "binary_data_size" in parameters:
        size = parameters["binary_data_size"]
        if type(size) is not int or size < 0:
            raise Mismatch(f"the input {name} has a binary_data_size that is no size")
        data = _unpacked(rest.take(size, name), datatype, name)
    elif "data" in row:
        data = _flat(row["data"])
    else:
        raise Mismatch(f"the input {name} has no data")
    return Tensor(name, datatype, tuple(shape), data, parameters)


def _flat(data: Any) -> list[Any]:
    """Return nested lists as one, row by row."""
    if not isinstance(data, list):
        return [data]
    while any(isinstance(item, list) for item in data):
        data = [part for item in data for part in (item if isinstance(item, list) else [item])]
    return data


def _unpacked(data: memoryview, datatype: str, name: str) -> list[Any]:
    if datatype == "BYTES":
        return _elements(data, name)
    if datatype == "BF16":  # the upper half of FP32
        halves = bytes(data)
        wide = b"".join(b"\0\0" + halves[at : at + 2] for at in range(0, len(halves), 2))
        data, datatype = memoryview(wide), "FP32"
    size = struct.calcsize(_FORMATS[datatype])
    if len(data) % size:
        raise Mismatch(f"the input {name} has {len(data)} bytes of binary data, no multiple of {size}")
    return list(struct.unpack(f"<{len(data) // size}{_FORMATS[datatype]}", data))


def _elements(data: memoryview, name: str) -> list[bytes]:
    """Return the elements of BYTES, each after its length."""
    found, at = [], 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        if at + 4 > len(data) or end > len(data):
            raise Mismatch(f"the binary data of the input {name} ends in the middle of an element")
        found.append(bytes(data[at + 4 : end]))
        at = end
    return found


def _packed(tensor: Tensor) -> bytes:
    if tensor.datatype == "BYTES":
        return b"".join(len(item).to_bytes(4, "little") + item for item in tensor.data)
    return struct.pack(f"<{len(tensor.data)}{_FORMATS[tensor.datatype]}", *tensor.data)


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Mismatch(f"{what} is no JSON object")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise Mismatch(f"the request's {what} are no list")
    return value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise Mismatch(f"{what} is no text")
    return value
