"""Does the coreml adapter make packages that say what the model computes, and say why where it can't?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from adapter_runs import Ran, environment_of, needs_torch, run_script, run_test, write_model
from test_onnx import CLASSIFIER, ENCODER, LIGHTGBM, SIZES, SKLEARN, SMALL_NETWORK, TEXTS, TORCH

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

#: The newest that coremltools takes.
OLD_SKLEARN = ("numpy==2.0.2", "scikit-learn==1.5.1")

NETWORK = """
import torch
from cog import BasePredictor
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        PARTS

    def forward(self, x):
        return FORWARD

class Predictor(BasePredictor):
    def setup(self) -> None:
        self.net = Net().eval()

    def predict(self, size: float) -> float:
        with torch.inference_mode():
            return float(self.net(INPUT).sum())
"""

#: Texts of two lengths in one batch, so that there is padding.
PADDED = (
    "nn.Embedding(50, 8), nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1, "
    "enable_nested_tensor=False)"
)
PICTURES = (
    "nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.SiLU(), nn.MaxPool2d(3, 2, ceil_mode=True), "
    "nn.Conv2d(8, 8, 3, dilation=2, padding=2, groups=4), nn.GELU(), nn.AvgPool2d(2, 1, 1), "
    "nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1, output_padding=1), nn.GroupNorm(2, 4), nn.Flatten(), nn.LazyLinear(3)"
)


def _source(parts: str, forward: str, given: str) -> str:
    assigned = f"self.parts = nn.Sequential({parts})"
    if "Lazy" in parts:
        assigned += "; self.parts(torch.zeros(1, 4, 16, 16))"
    return NETWORK.replace("PARTS", assigned).replace("FORWARD", forward).replace("INPUT", given)


def _torch(source: str, where: Path, examples: str = SIZES, **params: object) -> Ran:
    model = write_model(where / "model", source, examples)
    return run_script("coreml", model, where, env_dir=environment_of("coreml", TORCH), params=params)


def _judged(made: Ran, scratch: Path, packages: tuple[str, ...] = TORCH, **params: object) -> Ran:
    env_dir = environment_of("coreml", packages)
    return run_test("coreml", scratch / "model", made, scratch, env_dir=env_dir, params=params)


@needs_torch
@pytest.mark.parametrize(
    ("parts", "forward", "given", "way"),
    [
        pytest.param(
            PADDED,
            "self.parts[1](self.parts[0](x), src_key_padding_mask=x == 0) * (x != 0).unsqueeze(2)",
            "torch.tensor([[5, 7, 9, 0, 0], [1, 2, 3, 4, int(abs(size) * 10)]])",
            "torch.export",
            id="attention with padding",
        ),
        pytest.param(
            PICTURES,
            "self.parts(x)",
            "torch.ones(1, 4, 16, 16) * size",
            "torch.export, for the examples' batch size only",
            id="pictures",
        ),
        pytest.param(
            "nn.LSTM(3, 4, batch_first=True, bidirectional=True)",
            "self.parts(x)[0][:, -1]",
            "torch.arange(15.).reshape(1, 5, 3) * size / 9",
            "tracing",
            id="lstm",
        ),
        pytest.param(
            "nn.GRU(3, 4, batch_first=True)",
            "self.parts(x)[0][:, -1]",
            "torch.arange(15.).reshape(1, 5, 3) * size / 9",
            "tracing",
            id="gru, a loop",
        ),
    ],
)
def test_a_saved_program_computes_what_the_network_does(
    parts: str, forward: str, given: str, way: str, tmp_path: Path
) -> None:
    """Each kind of network goes one of the two ways, and what was saved agrees, with a batch of three where it is free."""
    made = _torch(_source(parts, forward, given), tmp_path)
    assert sorted(path.name for path in made.made()[""].iterdir()) == ["Data", "Manifest.json"]
    assert f"converted by {way}\ninputs x; outputs output" in made.log
    judged = _judged(made, tmp_path)
    assert (judged.code, judged.stdout) == (0, ""), judged.log
    (row,) = judged.fidelity
    assert (row["examples"], row["outputs"]) == (2, 2 if "only" in way else 3)
    assert row["absolute"] < 1e-5
    assert row["runtime"].startswith(("numpy ", "Core ML, "))


@needs_torch
def test_a_batch_that_is_unrolled_keeps_its_size(tmp_path: Path) -> None:
    """Rows gone through in a Python loop give a program of the examples' batch size, and not one that is wrong for others."""
    source = SMALL_NETWORK.replace("FORWARD", "torch.stack([row * 2 for row in x])")
    made = _torch(source.replace("CALL", "self.net(torch.ones(3, 4) * size)"), tmp_path)
    assert "for the examples' batch size only" in made.log
    judged = _judged(made, tmp_path)
    assert (judged.code, [row["outputs"] for row in judged.fidelity]) == (0, [2]), judged.log


@needs_torch
def test_names_lengths_and_masks(tmp_path: Path) -> None:
    """Inputs and outputs are called as in forward(), a mask may enter, and a length that no example has is right."""
    made = _torch(ENCODER, tmp_path, TEXTS)
    assert "inputs ids, mask; outputs hidden, pooled" in made.log
    judged = _judged(made, tmp_path)
    assert (judged.code, judged.stdout) == (0, ""), judged.log
    assert [(row["artifact"], row["outputs"]) for row in judged.fidelity] == [("", 8)]


@needs_torch
def test_several_networks_and_half_precision(tmp_path: Path) -> None:
    """Two networks are two packages; float16 is near, and farther than float32."""
    source = SMALL_NETWORK.replace("FORWARD", "x.sigmoid() * 3.3").replace(
        "CALL", "self.other(self.net(torch.ones(2, 3) * size))"
    )
    made = _torch(source.replace("torch.nn.Identity()", "torch.nn.Tanh()"), tmp_path, precision="float16")
    assert sorted(made.made()) == ["net", "other"]
    judged = _judged(made, tmp_path, precision="float16")
    assert (judged.code, judged.stdout) == (0, ""), judged.log
    assert [row["artifact"] for row in judged.fidelity] == ["net", "other"]
    assert max(row["absolute"] for row in judged.fidelity) > 1e-5
    assert _judged(made, tmp_path).code == 1


@needs_torch
def test_the_same_network_gives_the_same_bytes_and_identifiers(tmp_path: Path) -> None:
    """Two runs give the same files; other weights have another identifier."""
    source = _source("nn.Linear(3, 20)", "self.parts(x)", "torch.ones(1, 3) * size")
    first = _torch(source, tmp_path).made()[""]
    env_dir = environment_of("coreml", TORCH)
    second = run_script("coreml", tmp_path / "model", tmp_path, env_dir=env_dir).made()[""]
    (tmp_path / "model/predict.py").write_text(source.replace("manual_seed(0)", "manual_seed(1)"))
    other = run_script("coreml", tmp_path / "model", tmp_path, env_dir=env_dir)
    files = [path.relative_to(first) for path in sorted(first.rglob("*")) if path.is_file()]
    assert len(files) >= 2
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in files)
    assert b"conversion_date" not in (first / "Data/com.apple.CoreML/model.mlmodel").read_bytes()
    manifests = [json.loads((path / "Manifest.json").read_text()) for path in (first, other.made()[""])]
    assert manifests[0]["rootModelIdentifier"] in manifests[0]["itemInfoEntries"]
    assert set(manifests[0]["itemInfoEntries"]) != set(manifests[1]["itemInfoEntries"])
    (tmp_path / "model/predict.py").write_text(source)
    judged = _judged(other, tmp_path)
    assert (judged.code, judged.stdout) == (1, "")
    assert "call 1, forward, output output" not in judged.last_line
    assert judged.last_line.startswith("call 1, output output: the artifact is off by up to ")


@needs_torch
def test_an_operator_that_coremltools_does_not_know_is_named(tmp_path: Path) -> None:
    """No conversion either way means not applicable, with the operator's name; the traces stay in the log."""
    source = SMALL_NETWORK.replace("FORWARD", "torch.linalg.eigvals(x).real")
    made = _torch(source.replace("CALL", "self.net(torch.eye(3)[None] * size)"), tmp_path)
    assert (made.code, made.stdout) == (100, "")
    assert made.last_line == "coremltools 9.0 has no conversion for the operator linalg_eigvals"
    assert made.log.count("Traceback") >= 2


@needs_torch
def test_an_operation_that_the_test_cannot_execute_is_named(tmp_path: Path) -> None:
    """What is not proved does not pass: the test says which operation it lacks."""
    source = SMALL_NETWORK.replace(
        "FORWARD", "torch.nn.functional.interpolate(x, scale_factor=2.0, mode='bilinear')"
    )
    made = _torch(source.replace("CALL", "self.net(torch.ones(1, 1, 4, 4) * size)"), tmp_path)
    judged = _judged(made, tmp_path)
    assert (judged.code, judged.stdout) == (1, "")
    assert judged.last_line == (
        "the program uses upsample_bilinear, which this test cannot execute yet: it needs Apple's runtime"
    )


def test_parameters_are_refused_in_words(tmp_path: Path) -> None:
    """A precision or target that does not exist is refused with those that do."""
    model = write_model(tmp_path / "model", CLASSIFIER, SIZES)
    env_dir = environment_of("coreml", OLD_SKLEARN)
    ran = run_script("coreml", model, tmp_path, env_dir=env_dir, params={"precision": "int4"})
    assert (ran.code, ran.last_line) == (
        1,
        "the parameter precision is 'int4', but it has to be one of float32, float16",
    )
    ran = run_script("coreml", model, tmp_path, env_dir=env_dir, params={"target": "iOS3"})
    assert ran.last_line.startswith("the parameter target is 'iOS3', but it has to be one of iOS15, ")


ESTIMATOR = """
import numpy as np
from cog import BasePredictor
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

class Predictor(BasePredictor):
    def setup(self) -> None:
        rows = np.random.default_rng(0).normal(size=(100, 4))
        two, three = rows[:, 0] + rows[:, 1] > 0, np.digitize(rows[:, 0], [-0.5, 0.5])
        self.estimator = MADE

    def predict(self, size: float) -> float:
        rows = np.array([[size, 0.3, -size, 1], [0.1, size, 1, 2]])
        return float(np.sum(self.estimator.CALL(rows)))
"""


@pytest.mark.parametrize(
    ("made", "call"),
    [
        ("LinearRegression().fit(rows, rows[:, 0] * 2)", "predict"),
        ("make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, two.astype(int))", "predict_proba"),
        ("RandomForestRegressor(5).fit(rows, rows[:, 1])", "predict"),
        ("RandomForestClassifier(5).fit(rows, three)", "predict"),
        ("GradientBoostingClassifier(n_estimators=5).fit(rows, three)", "predict_proba"),
    ],
)
def test_estimators_of_a_scikit_learn_that_coremltools_takes(made: str, call: str, tmp_path: Path) -> None:
    """Linear models, trees and pipelines agree row by row."""
    source = ESTIMATOR.replace("MADE", made.replace("(5)", "(5, random_state=0)")).replace("CALL", call)
    model = write_model(tmp_path / "model", source, SIZES)
    ran = run_script("coreml", model, tmp_path, env_dir=environment_of("coreml", OLD_SKLEARN))
    judged = _judged(ran, tmp_path, OLD_SKLEARN)
    assert (judged.code, judged.stdout) == (0, ""), judged.log
    assert [(row["examples"], row["outputs"]) for row in judged.fidelity] == [(2, 3)]


def test_estimators_that_coremltools_does_not_take(tmp_path: Path) -> None:
    """Another kind of estimator, a newer scikit-learn and LightGBM are not applicable, each with its sentence."""
    source = ESTIMATOR.replace("MADE", "LogisticRegression().fit(rows, three)").replace("CALL", "predict")
    for packages, text, last_line in (
        (OLD_SKLEARN, source, "coremltools 9.0 cannot convert this LogisticRegression"),
        (SKLEARN, source, "coremltools 9.0 converts scikit-learn up to 1.5, and the model uses 1.9.1"),
        (
            LIGHTGBM,
            "from lightgbm import LGBMRegressor\n"
            + ESTIMATOR.replace("MADE", "LGBMRegressor().fit(rows, three)").replace("CALL", "predict"),
            "coremltools 9.0 has no conversion for lightgbm's LGBMRegressor",
        ),
    ):
        model = write_model(tmp_path / f"model{len(last_line)}", text, SIZES)
        ran = run_script("coreml", model, tmp_path, env_dir=environment_of("coreml", packages))
        assert (ran.code, ran.stdout, ran.last_line) == (100, "", last_line)
