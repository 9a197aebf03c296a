"""Declarations survive the way through the database's memo."""

from __future__ import annotations

import pytest

from cogbuild.spec import (
    AdapterSpec,
    Example,
    ModelSource,
    ModelSpec,
    PythonSpec,
    Settings,
    Wishes,
    from_json,
    to_json,
)

VALUES = [
    AdapterSpec(name="onnx", script="adapter.py"),
    AdapterSpec(
        name="onnx",
        script="adapter.py",
        inputs=("**", "!docs/**"),
        uses=(),
        env_secret=("HF_TOKEN",),
        params={"shape": [1, [2]], "note": {"a": None}, "half": 0.5},
        python=PythonSpec(("onnx",), with_model=True, kit=True),
        needs=("docker-cpu",),
        timeout=1800.0,
    ),
    ModelSpec("predict", "Predictor", "predict.py"),
    ModelSpec(
        "src.infer",
        "Model",
        "src/infer.py",
        python_version="3.10",
        requirements=("numpy", "torch==2.0"),
        constraints=("scipy<2",),
        pip_options=("--pre",),
        examples=(Example({"x": [1, 2]}, ["a"]), Example({})),
    ),
    Wishes(),
    Wishes(
        ("onnx",), {"onnx": {"opset": 18, "dims": [1]}}, (Example({"text": "caf\u00e9"}, {"label": ["x"]}),)
    ),
    Settings(),
    Settings(adapters=("builtin:onnx",), models=(ModelSource("examples/*", "u/n", ("torch",)),), jobs=2),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_declaration_comes_back_from_json_as_it_was(value: object) -> None:
    """What was memoised equals what was parsed, tuples and lists apart where they differ."""
    text = to_json(value)
    assert from_json(type(value), text) == value
    assert to_json(from_json(type(value), text)) == text
