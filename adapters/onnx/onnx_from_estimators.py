"""scikit-learn estimators, those of XGBoost and LightGBM among them, and plain boosters: recorded calls to one ONNX graph."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from cogbuild_adapter import NotApplicable
from cogbuild_adapter.array_calls import all_entered

if TYPE_CHECKING:
    import numpy as np
    from cogbuild_adapter import Network
    from onnx import ModelProto

# skl2onnx makes graphs of this version of ai.onnx.ml with any opset; onnxmltools' converters know no newer one.
_ML_OPSET = 3
# The newest opset that onnxmltools' own conversion of boosters takes.
_BOOSTER_OPSET = 15


def export(network: Network, opset: int) -> ModelProto:
    """Return the graph of an estimator or booster; the number of rows is dynamic."""
    array = all_entered(network.calls)[0]
    if network.kind == "booster":
        return _booster(network.value, array, opset)
    return _estimator(network.value, {call.method for call in network.calls}, array, opset)


def _estimator(estimator: Any, methods: set[str], array: np.ndarray[Any, Any], opset: int) -> ModelProto:
    from skl2onnx import to_onnx
    from skl2onnx.common import data_types
    from sklearn.base import is_classifier

    boosted = _register_boosters()
    options: dict[str, bool] = {}
    if is_classifier(estimator):
        options["zipmap"] = False
        if {"predict_proba", "decision_function"} <= methods:
            raise NotApplicable(
                "the examples ask for probabilities and for raw scores, and one graph gives one of them"
            )
        if "decision_function" in methods:
            options["raw_scores"] = True
    return to_onnx(
        estimator,
        initial_types=[("X", _tensor_type(array, data_types))],
        options={id(estimator): options} if options else None,
        target_opset={"": opset, "ai.onnx.ml": _ML_OPSET} if boosted else opset,
    )


def _register_boosters() -> bool:
    """Teach skl2onnx the estimators of XGBoost and LightGBM that the model imported; return whether there are any."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    def register(kind: Any, convert: Any, **options: Any) -> None:
        is_classifier = kind.__name__.endswith("Classifier")
        shapes = (
            calculate_linear_classifier_output_shapes
            if is_classifier
            else calculate_linear_regressor_output_shapes
        )
        known = {"zipmap": [True, False, "columns"], "nocl": [True, False]} if is_classifier else options
        update_registered_converter(kind, f"Boosted{kind.__name__}", shapes, convert, options=known)

    xgboost, lightgbm = sys.modules.get("xgboost"), sys.modules.get("lightgbm")
    if xgboost is not None:
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost

        for name in ("XGBClassifier", "XGBRegressor", "XGBRFClassifier", "XGBRFRegressor"):
            register(getattr(xgboost, name), convert_xgboost)
    if lightgbm is not None:
        from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm

        for name in ("LGBMClassifier", "LGBMRegressor"):
            register(getattr(lightgbm, name), convert_lightgbm, split=None)
    return xgboost is not None or lightgbm is not None


def _booster(booster: Any, array: np.ndarray[Any, Any], opset: int) -> ModelProto:
    import onnxmltools
    from onnx import version_converter
    from onnxmltools.convert.common import data_types

    made = {
        "initial_types": [("X", _tensor_type(array, data_types))],
        "target_opset": min(opset, _BOOSTER_OPSET),
        "name": type(booster).__name__,  # else a random one
    }
    if type(booster).__module__.startswith("xgboost"):
        model = onnxmltools.convert_xgboost(booster, **made)
    else:
        model = onnxmltools.convert_lightgbm(booster, zipmap=False, **made)
    found = [item.version for item in model.opset_import if item.domain == ""]
    # A graph of nothing but a tree ensemble has no operator that the opset is about.
    return version_converter.convert_version(model, opset) if found and found != [opset] else model


def _tensor_type(array: np.ndarray[Any, Any], known: Any) -> Any:
    kinds = {
        "f": known.FloatTensorType,
        "i": known.Int64TensorType,
        "b": known.BooleanTensorType,
        "O": known.StringTensorType,
    }
    return kinds[array.dtype.kind]([None, *array.shape[1:]])
