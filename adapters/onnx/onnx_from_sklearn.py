"""scikit-learn estimators: recorded calls to one ONNX graph, and the cases on which it has to agree with the estimator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from cogbuild_adapter import NotApplicable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cogbuild_adapter import Call
    from onnx import ModelProto
    from sklearn.base import BaseEstimator


def export(estimator: BaseEstimator, calls: Sequence[Call], opset: int) -> ModelProto:
    """Return the graph of *estimator*; the number of rows is dynamic."""
    from skl2onnx import to_onnx
    from sklearn.base import is_classifier

    kinds = {(array.dtype.kind, array.shape[1:]) for array in map(_entered, calls)}
    if len(kinds) > 1:
        raise NotApplicable(
            "the examples call the estimator with arrays of different types or numbers of columns"
        )
    options: dict[str, bool] = {}
    if is_classifier(estimator):
        options["zipmap"] = False
        methods = {call.method for call in calls}
        if {"predict_proba", "decision_function"} <= methods:
            raise NotApplicable(
                "the examples ask for probabilities and for raw scores, and one graph gives one of them"
            )
        if "decision_function" in methods:
            options["raw_scores"] = True
    return to_onnx(
        estimator,
        initial_types=[("X", _tensor_type(_entered(calls[0])))],
        options={id(estimator): options} if options else None,
        target_opset=opset,
    )


def _entered(call: Call) -> np.ndarray[Any, Any]:
    """Return the array that entered a call, as ONNX takes it: float32, int64, bool or text."""
    given = call.args[0] if call.args else next(iter(call.kwargs.values()))
    if hasattr(given, "columns"):
        raise NotApplicable(
            "the predictor calls its estimator with a data frame, and only arrays can be exported yet"
        )
    array = np.asarray(given.todense() if hasattr(given, "todense") else given)
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    if array.dtype.kind in "iu":
        return array.astype(np.int64)
    if array.dtype.kind == "b":
        return array
    if array.dtype.kind in "UO" and all(isinstance(item, str) for item in array.flat):
        return array.astype(object)
    raise NotApplicable(
        f"the predictor calls its estimator with an array of {array.dtype}, which ONNX does not have"
    )


def _tensor_type(array: np.ndarray[Any, Any]) -> Any:
    from skl2onnx.common.data_types import (
        BooleanTensorType,
        FloatTensorType,
        Int64TensorType,
        StringTensorType,
    )

    kinds = {"f": FloatTensorType, "i": Int64TensorType, "b": BooleanTensorType, "O": StringTensorType}
    return kinds[array.dtype.kind]([None, *array.shape[1:]])


def cases(
    estimator: BaseEstimator, calls: Sequence[Call], session: Any
) -> Iterator[tuple[str, dict[str, np.ndarray[Any, Any]], dict[str, np.ndarray[Any, Any]]]]:
    """Yield what the graph has to reproduce: a label, the inputs by name, the estimator's own outputs by name."""
    (name,) = (value.name for value in session.get_inputs())
    outputs = [value.name for value in session.get_outputs()]

    def case(
        label: str, call: Call, array: np.ndarray[Any, Any], output: Any
    ) -> tuple[str, dict[str, Any], dict[str, Any]]:
        at = 1 if call.method in ("predict_proba", "decision_function") else 0
        wanted = np.asarray(output.todense() if hasattr(output, "todense") else output)
        return f"{label}, {call.method}", {name: array}, {outputs[at]: wanted}

    for number, call in enumerate(calls, 1):
        yield case(f"call {number}", call, _entered(call), call.output)
    for call in {call.method: call for call in calls}.values():
        rows = np.concatenate([_entered(call)] * 3)
        yield case("three batches in one", call, rows, getattr(estimator, call.method)(rows))
