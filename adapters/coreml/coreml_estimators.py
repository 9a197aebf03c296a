"""Reads saved Core ML models that are no programs, and evaluates them in numpy: linear models, trees, scalers, pipelines.

Written from Apple's description of the file format and not from the converter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from cogbuild_adapter import AdapterError

if TYPE_CHECKING:
    from collections.abc import Callable

    Array = np.ndarray[Any, Any]

_BRANCHES: dict[int, Callable[[float, float], bool]] = {
    0: lambda value, threshold: value <= threshold,
    1: lambda value, threshold: value < threshold,
    2: lambda value, threshold: value >= threshold,
    3: lambda value, threshold: value > threshold,
    4: lambda value, threshold: value == threshold,
    5: lambda value, threshold: value != threshold,
}
_LEAF = 6


class Answer:
    """What a model says of one row: numbers, or a label with the probability of each class."""

    def __init__(self, numbers: Array, labels: list[Any] | None = None) -> None:
        self.numbers = numbers
        self.labels = labels

    @property
    def label(self) -> Any:
        """The most likely class."""
        assert self.labels is not None
        return self.labels[int(self.numbers.argmax())]


def evaluated(spec: Any, row: Array) -> Answer:
    """Return what the model in *spec* says of *row*."""
    kind = spec.WhichOneof("Type")
    if kind in ("pipeline", "pipelineClassifier", "pipelineRegressor"):
        parts = (spec.pipeline if kind == "pipeline" else getattr(spec, kind).pipeline).models
        answer = Answer(row)
        for part in parts:
            answer = evaluated(part, answer.numbers)
        return answer
    if kind not in _KINDS:
        raise AdapterError(
            f"the package holds a {kind}, which this test cannot execute yet: it needs Apple's runtime"
        )
    return _KINDS[kind](getattr(spec, kind), row)


def _scaled(scaler: Any, row: Array) -> Answer:
    return Answer((row + np.array(scaler.shiftValue or [0.0])) * np.array(scaler.scaleValue or [1.0]))


def _linear(model: Any, row: Array) -> Array:
    weights = np.array([item.value for item in model.weights])
    return weights @ row + np.array(model.offset or [0.0])


def _regressed(model: Any, row: Array) -> Answer:
    values = _linear(model, row)
    if model.postEvaluationTransform == 1:
        values = 1 / (1 + np.exp(-values))
    return Answer(values)


def _classified(model: Any, row: Array) -> Answer:
    scores = _linear(model, row)
    if model.postEvaluationTransform == 0:
        scores = 1 / (1 + np.exp(-scores))
    labels = _labels(model)
    if len(scores) == 1:
        # The first class is the reference, and the one score is of the second.
        return Answer(np.array([1 - scores[0], scores[0]]), labels)
    return Answer(scores / scores.sum(), labels)


def _trees(ensemble: Any, row: Array) -> Array:
    nodes = {(node.treeId, node.nodeId): node for node in ensemble.nodes}
    children = {
        (node.treeId, child)
        for node in ensemble.nodes
        if node.nodeBehavior != _LEAF
        for child in (node.trueChildNodeId, node.falseChildNodeId)
    }
    total = np.zeros(ensemble.numPredictionDimensions) + np.array(ensemble.basePredictionValue or [0.0])
    for key in sorted(set(nodes) - children):
        node = nodes[key]
        while node.nodeBehavior != _LEAF:
            value = row[node.branchFeatureIndex]
            goes = (
                node.missingValueTracksTrueChild
                if np.isnan(value)
                else _BRANCHES[node.nodeBehavior](value, node.branchFeatureValue)
            )
            node = nodes[node.treeId, node.trueChildNodeId if goes else node.falseChildNodeId]
        for held in node.evaluationInfo:
            total[held.evaluationIndex] += held.evaluationValue
    return total


def _tree_regressed(model: Any, row: Array) -> Answer:
    return Answer(_transformed(_trees(model.treeEnsemble, row), model.postEvaluationTransform))


def _tree_classified(model: Any, row: Array) -> Answer:
    values = _transformed(_trees(model.treeEnsemble, row), model.postEvaluationTransform)
    labels = _labels(model)
    if len(values) == 1:
        values = np.array([1 - values[0], values[0]])
    return Answer(values, labels)


def _transformed(values: Array, how: int) -> Array:
    if how == 0:
        return values
    if how == 1:
        raised = np.exp(values - values.max())
        return raised / raised.sum()
    if how == 2:
        return 1 / (1 + np.exp(-values))
    raise AdapterError(f"the trees end in the transform {how}, which this test cannot execute yet")


def _labels(model: Any) -> list[Any]:
    kind = model.WhichOneof("ClassLabels")
    return list(getattr(model, kind).vector)


_KINDS: dict[str, Callable[[Any, Array], Answer]] = {
    "scaler": _scaled,
    "glmRegressor": _regressed,
    "glmClassifier": _classified,
    "treeEnsembleRegressor": _tree_regressed,
    "treeEnsembleClassifier": _tree_classified,
}
