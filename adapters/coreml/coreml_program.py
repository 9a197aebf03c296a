"""Reads a saved ML program back and executes it, operation by operation, in numpy.

Needs no Apple software: of coremltools only the description of the file format is used. What each operation does is in
``coreml_ops.py``, written from Apple's documentation of MIL and not from the converter.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
from cogbuild_adapter import AdapterError
from coreml_ops import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    Array = np.ndarray[Any, Any]
    Values = dict[str, Any]

#: MIL's numbers for the types of tensors.
_TYPES: dict[int, Any] = {
    1: np.bool_,
    2: np.str_,
    10: np.float16,
    11: np.float32,
    12: np.float64,
    21: np.int8,
    22: np.int16,
    23: np.int32,
    24: np.int64,
    31: np.uint8,
    32: np.uint16,
    33: np.uint32,
}
_BLOB = struct.Struct("<IIQQ")  # mark, type, bytes, where
_BLOB_MARK = 0xDEADBEEF


class Program:
    """The program of a saved package."""

    def __init__(self, package: Path) -> None:
        from coremltools.proto import Model_pb2

        self._root = package / "Data/com.apple.CoreML"
        self.spec = Model_pb2.Model.FromString((self._root / "model.mlmodel").read_bytes())
        self._constants: Values = {}
        # Asking any other kind of model for its functions would make it a program.
        if self.spec.WhichOneof("Type") == "mlProgram":
            self._function = self.spec.mlProgram.functions["main"]
            self._block = self._function.block_specializations[self._function.opset]

    @property
    def lacking(self) -> list[str]:
        """The operations of the program that cannot be executed here."""
        return sorted(_operations(self._block) - set(OPERATIONS) - {"const", "cond", "while_loop"})

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs by name."""
        if self.lacking:
            raise AdapterError(
                f"the program uses {', '.join(self.lacking)}, which this test cannot execute yet: "
                "it needs Apple's runtime"
            )
        values: Values = {
            item.name: np.asarray(inputs[item.name], _dtype(item.type)) for item in self._function.inputs
        }
        return dict(zip(self._block.outputs, self._run(self._block, values), strict=True))

    def _run(self, block: Any, values: Values) -> list[Any]:
        for operation in block.operations:
            if operation.type == "const":
                results = [self._constant(operation)]
            else:
                given = {name: self._given(item, values) for name, item in operation.inputs.items()}
                results = self._results(operation, given, values)
            for described, result in zip(operation.outputs, results, strict=True):
                values[described.name] = _checked(described, result, operation.type)
        return [values[name] for name in block.outputs]

    def _results(self, operation: Any, given: dict[str, Any], values: Values) -> Sequence[Any]:
        if operation.type == "cond":
            return self._run(operation.blocks[0 if given["pred"] else 1], dict(values))
        if operation.type == "while_loop":
            return self._loop(operation, _listed(given["loop_vars"]), values)
        result = OPERATIONS[operation.type](**given)
        return result if isinstance(result, (list, tuple)) else [result]

    def _loop(self, operation: Any, state: list[Any], values: Values) -> list[Any]:
        condition, body = operation.blocks
        while True:
            names = [item.name for item in condition.inputs]
            (going,) = self._run(condition, values | dict(zip(names, state, strict=True)))
            if not going:
                return state
            names = [item.name for item in body.inputs]
            state = self._run(body, values | dict(zip(names, state, strict=True)))

    def _given(self, item: Any, values: Values) -> Any:
        bound = [
            values[part.name] if part.WhichOneof("binding") == "name" else self._value(part.value)
            for part in item.arguments
        ]
        return bound[0] if len(bound) == 1 else bound

    def _constant(self, operation: Any) -> Any:
        (name,) = (item.name for item in operation.outputs)
        if name not in self._constants:
            self._constants[name] = self._value(operation.attributes["val"])
        return self._constants[name]

    def _value(self, value: Any) -> Any:
        described = value.type.tensorType
        dtype = _dtype(value.type)
        shape = [dim.constant.size for dim in described.dimensions]
        if value.WhichOneof("value") == "blobFileValue":
            return self._blob(value.blobFileValue, dtype).reshape(shape)
        tensor = value.immediateValue.tensor
        kind = tensor.WhichOneof("value")
        held = getattr(tensor, kind).values
        if kind == "bytes":
            return np.frombuffer(held, dtype).reshape(shape)
        if kind == "strings":
            return held[0] if not shape else np.array(list(held)).reshape(shape)
        return np.array(held, dtype).reshape(shape)

    def _blob(self, named: Any, dtype: Any) -> Array:
        file = self._root / named.fileName.removeprefix("@model_path/")
        mark, _, size, where = _BLOB.unpack_from(np.memmap(file, np.uint8, "r", named.offset, (_BLOB.size,)))
        if mark != _BLOB_MARK:
            raise AdapterError(f"there are no weights at byte {named.offset} of {file.name}")
        return np.fromfile(file, dtype, size // np.dtype(dtype).itemsize, offset=where)


def _dtype(described: Any) -> Any:
    number = described.tensorType.dataType
    if number not in _TYPES:
        raise AdapterError(f"the program holds tensors of type {number}, which this test does not know")
    return _TYPES[number]


def _checked(described: Any, result: Any, kind: str) -> Any:
    """Return *result* as what the program says it is; refuse one of another shape."""
    if isinstance(result, str):
        return result
    array = np.asarray(result)
    dims = described.type.tensorType.dimensions
    said = [dim.constant.size if dim.WhichOneof("dimension") == "constant" else math.nan for dim in dims]
    if len(said) != array.ndim or any(
        size not in (have, math.nan) and not math.isnan(size)
        for size, have in zip(said, array.shape, strict=True)
    ):
        raise AdapterError(
            f"{kind} gives {described.name} the shape {array.shape}, and the program says {said}"
        )
    return array.astype(_dtype(described.type), copy=False)


def _operations(block: Any) -> set[str]:
    found = {operation.type for operation in block.operations}
    for operation in block.operations:
        for inner in operation.blocks:
            found |= _operations(inner)
    return found


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
