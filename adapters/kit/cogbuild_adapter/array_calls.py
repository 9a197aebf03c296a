"""Estimators and boosters: what enters them as one array, and the cases on which an artifact has to agree with them.

Needs numpy, which their frameworks bring.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from cogbuild_adapter.contract import NotApplicable
from cogbuild_adapter.replay import Case

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cogbuild_adapter.networks import Network
    from cogbuild_adapter.watching import Call

#: Arguments that do not change what a method returns.
_HARMLESS = {"validate_features"}
_OF_PROBABILITIES = ("predict_proba", "decision_function")


def entered(call: Call) -> np.ndarray[Any, Any]:
    """Return the array that entered a call as runtimes take it: float32, int64, bool or text."""
    given, *others = [*call.args, *call.kwargs.values()]
    names = [name for name in list(call.kwargs)[0 if call.args else 1 :] if name not in _HARMLESS]
    if len(others) > len(call.kwargs) or names:
        asked = ", ".join(names) or "more than one argument"
        raise NotApplicable(
            f"the predictor calls {call.method}() with {asked}, and a graph gives plain predictions"
        )
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
        f"the predictor calls its estimator with an array of {array.dtype}, which graphs do not have"
    )


def all_entered(calls: Sequence[Call]) -> list[np.ndarray[Any, Any]]:
    """Return the arrays of all calls, which one graph can serve."""
    arrays = [entered(call) for call in calls]
    if len({(array.dtype.kind, array.shape[1:]) for array in arrays}) > 1:
        raise NotApplicable(
            "the examples call the estimator with arrays of different types or numbers of columns"
        )
    return arrays


def array_cases(network: Network, free: Sequence[Mapping[int, int]]) -> Iterator[Case]:
    """Yield each recorded call and, where the number of rows is free, three batches in one."""

    def case(label: str, call: Call, array: np.ndarray[Any, Any], output: Any) -> Case:
        wanted = np.asarray(output.todense() if hasattr(output, "todense") else output)
        return Case(f"{label}, {call.method}", (array,), _outputs(network, call.method, wanted), call.method)

    for number, call in enumerate(network.calls, 1):
        yield case(f"call {number}", call, entered(call), call.output)
    for call in {call.method: call for call in network.calls}.values():
        rows = np.concatenate([entered(call)] * 3)
        if free[0].get(0, 0) >= len(rows):
            yield case("three batches in one", call, rows, _asked(network, call, rows))


def _outputs(network: Network, method: str, wanted: np.ndarray[Any, Any]) -> dict[int, np.ndarray[Any, Any]]:
    """Return *wanted* by the position it has in a graph: label, then probabilities."""
    if network.kind != "booster":
        return {1 if method in _OF_PROBABILITIES else 0: wanted}
    objective = booster_objective(network.value)
    if objective.startswith("binary") and "logitraw" not in objective:
        return {1: np.stack([1 - wanted, wanted], axis=1)}
    return {1 if objective in ("multi:softprob", "multiclass", "multiclassova") else 0: wanted}


def booster_objective(booster: Any) -> str:
    """Return what a booster of XGBoost or LightGBM was trained for: ``binary:logistic``, ``multiclass``, …"""
    if hasattr(booster, "save_config"):
        return str(json.loads(booster.save_config())["learner"]["objective"]["name"])
    return str(booster.dump_model().get("objective", "")).partition(" ")[0]


def _asked(network: Network, call: Call, rows: np.ndarray[Any, Any]) -> Any:
    if network.kind == "booster" and call.method == "predict" and hasattr(network.value, "save_config"):
        import xgboost

        return network.value.predict(xgboost.DMatrix(rows))
    return getattr(network.value, call.method)(rows)
