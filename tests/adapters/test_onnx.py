"""Does the onnx adapter find, export and check the network, and say why where it can't?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from adapter_runs import EXAMPLES, Ran, environment_of, needs_torch, run_script, run_test, write_model

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

SKLEARN = ("numpy==2.4.6", "scikit-learn==1.9.1")
TORCH = ("numpy==2.4.6", "torch==2.13.0")

CLASSIFIER = """
import os, sys
print("at import")
os.system("echo from a child at import")
import numpy as np
from cog import BasePredictor, Input
from sklearn.linear_model import LogisticRegression

class Predictor(BasePredictor):
    def setup(self) -> None:
        print("in setup")
        rows = np.random.default_rng(0).normal(size=(50, 3))
        self.parts = {"one": [LogisticRegression().fit(rows, rows.sum(axis=1) > 0)]}

    def predict(self, size: float, times: int = Input(description="a default", default=2)) -> bool:
        os.write(1, b"in predict\\n")
        return bool(self.parts["one"][0].predict(np.full((1, 3), size * times))[0])
"""

UNKNOWN_ESTIMATOR = """
import numpy as np
from cog import BasePredictor
from sklearn.semi_supervised import LabelPropagation

class Predictor(BasePredictor):
    def setup(self) -> None:
        self.labels = LabelPropagation().fit(np.eye(3), [0, 1, 1])

    def predict(self, size: float) -> int:
        return int(self.labels.predict(np.full((1, 3), size))[0])
"""

ENCODER = """
import torch
from cog import BasePredictor, Input

class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Embedding(100, 16)
        layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.layers = torch.nn.TransformerEncoder(layer, 1)
        self.head = torch.nn.Linear(16, 4)

    def forward(self, ids, mask=None, scale=1.0):
        hidden = self.layers(self.embedding(ids), src_key_padding_mask=None if mask is None else ~mask)
        return {"hidden": hidden, "pooled": self.head(hidden.mean(1)) * scale}

class Predictor(BasePredictor):
    def setup(self) -> None:
        print("in setup")
        self.encoder = Encoder()

    def predict(self, text: str, scale: float = Input(description="a default", default=0.5)) -> list[float]:
        print("in predict")
        ids = torch.tensor([[ord(char) % 100 for char in text]])
        with torch.inference_mode():
            return self.encoder(ids, mask=torch.ones_like(ids, dtype=torch.bool), scale=scale)["pooled"][0].tolist()
"""

SMALL_NETWORK = """
import torch
from cog import BasePredictor

class Net(torch.nn.Module):
    def forward(self, x):
        return FORWARD

class Predictor(BasePredictor):
    def setup(self) -> None:
        self.net = Net()
        self.other = torch.nn.Identity()

    def predict(self, size: float) -> float:
        return float(CALL.sum())
"""

SIZES = "  - input: {size: 1.5}\n  - input: {size: -2.0}\n"
TEXTS = "  - input: {text: hello}\n  - input: {text: hello world}\n"


def _sklearn(predict: str, examples: str, where: Path, **params: object) -> Ran:
    model = write_model(where / "model", predict, examples)
    return run_script("onnx", model, where, env_dir=environment_of("onnx", SKLEARN), params=params)


def _torch(predict: str, examples: str, where: Path, **params: object) -> Ran:
    model = write_model(where / "model", predict, examples)
    return run_script("onnx", model, where, env_dir=environment_of("onnx", TORCH), params=params)


def _judged(made: Ran, model: Path, packages: tuple[str, ...], scratch: Path) -> Ran:
    return run_test("onnx", model, made, scratch, env_dir=environment_of("onnx", packages))


def test_a_model_that_prints_gives_one_line(tmp_path: Path) -> None:
    """What the model prints at import, in setup and in predict, itself or by a child, is log."""
    ran = _sklearn(CLASSIFIER, SIZES, tmp_path)
    assert ran.file().name == "model.onnx"
    for words in ("at import", "from a child at import", "in setup", "in predict"):
        assert words in ran.log.split("\n")
    assert "exporting parts.one[0] (LogisticRegression) from 2 recorded calls, opset 18" in ran.log


def test_a_graph_of_other_weights_does_not_pass_its_test(tmp_path: Path) -> None:
    """The test tells a graph whose answers are not the model's, in one sentence."""
    made = _sklearn(CLASSIFIER, SIZES, tmp_path)
    changed = CLASSIFIER.replace("> 0)", "< 0)")
    other = write_model(tmp_path / "other", changed, SIZES)
    judged = _judged(made, other, SKLEARN, tmp_path)
    assert (judged.code, judged.stdout) == (1, "")
    assert judged.last_line == "call 1, predict, output label: 1 of 1 values are not the model's"


def test_a_parameter_of_the_wrong_kind_is_refused(tmp_path: Path) -> None:
    """An opset that is no number is a failure that names the parameter."""
    ran = _sklearn(CLASSIFIER, SIZES, tmp_path, opset="newest")
    assert (ran.code, ran.stdout) == (1, "")
    assert ran.last_line == "the parameter opset is 'newest', but it has to be a whole number"


def test_a_network_without_examples_fails_with_the_way_out(tmp_path: Path) -> None:
    """A model with a network but without examples is the user's to put right."""
    ran = _sklearn(CLASSIFIER, "", tmp_path)
    assert (ran.code, ran.stdout) == (1, "")
    assert ran.last_line.startswith("the model has no examples: give at least one under `examples:`")


def test_an_example_that_does_not_predict_fails_by_its_number(tmp_path: Path) -> None:
    """An example that the model refuses is named by its number, with the reason."""
    ran = _sklearn(CLASSIFIER, SIZES + "  - input: {times: 1}\n", tmp_path)
    assert (ran.code, ran.stdout) == (1, "")
    assert ran.last_line == "the model cannot predict its example 3 of 3: ValueError: size: Field required"


def test_an_estimator_that_the_exporter_does_not_know_is_named(tmp_path: Path) -> None:
    """No converter means not applicable, with the estimator's name; the traceback stays in the log."""
    ran = _sklearn(UNKNOWN_ESTIMATOR, SIZES, tmp_path)
    assert (ran.code, ran.stdout) == (100, "")
    assert ran.last_line == "skl2onnx has no conversion for LabelPropagation"
    assert "Traceback" in ran.log


def test_a_model_without_a_network_is_not_applicable(tmp_path: Path) -> None:
    """The language guesser holds plain dictionaries; there is nothing to export."""
    model = EXAMPLES / "text-language"
    ran = run_script("onnx", model, tmp_path, env_dir=environment_of("onnx", model))
    assert (ran.code, ran.stdout) == (100, "")
    assert ran.last_line == "no PyTorch module, scikit-learn estimator or booster was found on the predictor"


@needs_torch
def test_a_length_that_differs_between_examples_is_dynamic(tmp_path: Path) -> None:
    """An encoder with keyword arguments and a dictionary as output keeps its batch and its length free."""
    ran = _torch(ENCODER, TEXTS, tmp_path)
    assert "inputs ids[batch, ids_1], mask[batch, ids_1];" in ran.log
    judged = _judged(ran, tmp_path / "model", TORCH, tmp_path)
    assert (judged.code, judged.stdout) == (0, ""), judged.log
    assert "over 8 outputs of 2 examples, in onnxruntime" in judged.last_line


@needs_torch
def test_an_operator_that_the_exporter_does_not_know_is_named(tmp_path: Path) -> None:
    """No conversion means not applicable, with the operator's name."""
    source = SMALL_NETWORK.replace("FORWARD", "torch.linalg.eigvals(x).real")
    ran = _torch(source.replace("CALL", "self.net(torch.eye(3)[None] * size)"), SIZES, tmp_path)
    assert (ran.code, ran.stdout) == (100, "")
    assert ran.last_line == "PyTorch's ONNX exporter has no conversion for the operator aten.linalg_eig"


@needs_torch
def test_a_choice_by_value_is_not_applicable(tmp_path: Path) -> None:
    """A branch on what a tensor holds has no place in a graph."""
    source = SMALL_NETWORK.replace("FORWARD", "x * 2 if x.sum() > 0 else x")
    ran = _torch(source.replace("CALL", "self.net(torch.ones(2, 3) * size)"), SIZES, tmp_path)
    assert (ran.code, ran.stdout) == (100, "")
    assert ran.last_line.startswith("Net cannot be exported: GuardOnDataDependentSymNode: ")


@needs_torch
def test_rows_that_are_not_independent_keep_their_number(tmp_path: Path) -> None:
    """Where two batches in one do not give twice the result, the first dimension is fixed."""
    source = SMALL_NETWORK.replace("FORWARD", "x.cumsum(0)")
    ran = _torch(source.replace("CALL", "self.net(torch.ones(2, 3) * size)"), SIZES, tmp_path)
    assert "inputs x[2, 3];" in ran.log
    assert _judged(ran, tmp_path / "model", TORCH, tmp_path).code == 0


@needs_torch
def test_two_networks_give_two_named_artifacts(tmp_path: Path) -> None:
    """Each network that the examples call is an artifact by its path, and each has its own fidelity."""
    source = SMALL_NETWORK.replace("FORWARD", "x + 1").replace(
        "CALL", "self.other['a b'][0](self.net(torch.ones(2, 3) * size))"
    )
    source = source.replace(
        "self.other = torch.nn.Identity()",
        "torch.manual_seed(0); self.other = {'a b': [torch.nn.Linear(3, 2)]}",
    )
    ran = _torch(source, SIZES, tmp_path)
    made = {name: path.name for name, path in ran.made().items()}
    assert made == {"net": "net.onnx", "other.a.b.0": "other.a.b.0.onnx"}
    judged = _judged(ran, tmp_path / "model", TORCH, tmp_path)
    assert (judged.code, judged.stdout) == (0, ""), judged.log
    assert [(row["artifact"], row["examples"]) for row in judged.fidelity] == [("net", 2), ("other.a.b.0", 2)]


@needs_torch
def test_a_batch_that_the_exporter_unrolls_keeps_its_size(tmp_path: Path) -> None:
    """Rows that are independent, but gone through in a Python loop, give a graph of the examples' batch size."""
    source = SMALL_NETWORK.replace("FORWARD", "torch.stack([row * 2 for row in x])")
    ran = _torch(source.replace("CALL", "self.net(torch.ones(3, 4) * size)"), SIZES, tmp_path)
    assert "inputs x[3, 4];" in ran.log
    assert _judged(ran, tmp_path / "model", TORCH, tmp_path).code == 0


@needs_torch
def test_a_network_is_chosen_by_its_path(tmp_path: Path) -> None:
    """The parameter names the network; a name that the predictor does not hold is refused with those it does."""
    source = SMALL_NETWORK.replace("FORWARD", "x + 1").replace(
        "CALL", "self.other(self.net(torch.ones(2, 3) * size))"
    )
    chosen = _torch(source, SIZES, tmp_path, network="net")
    assert chosen.file().name == "model.onnx"
    env_dir = environment_of("onnx", TORCH)
    wrong = run_script("onnx", tmp_path / "model", tmp_path, env_dir=env_dir, params={"network": "net, nets"})
    assert (wrong.code, wrong.last_line) == (
        1,
        "the parameter network names 'nets', but the predictor holds net (Net), other (Identity)",
    )


BOOSTED = """
import numpy as np
from cog import BasePredictor
IMPORT

class Predictor(BasePredictor):
    def setup(self) -> None:
        rows = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
        classes = np.digitize(rows[:, 0] + rows[:, 1], BINS)
        self.trees = TRAIN

    def predict(self, size: float) -> float:
        rows = np.float32([[size, 0.3, -size, np.nan], [0.1, size, 1, 2]])
        return float(np.sum(CALL))
"""

XGBOOST = ("numpy==2.4.6", "scikit-learn==1.9.1", "xgboost-cpu==3.2.0")
LIGHTGBM = ("numpy==2.4.6", "scikit-learn==1.9.1", "lightgbm==4.7.0")


@pytest.mark.parametrize(
    ("library", "bins", "train", "call"),
    [
        ("xgboost", [0], "lib.XGBClassifier(n_estimators=5).fit(rows, classes)", "predict_proba(rows)"),
        ("xgboost", [-1, 1], "lib.XGBClassifier(n_estimators=5).fit(rows, classes)", "predict(rows)"),
        ("xgboost", [0], "lib.XGBRegressor(n_estimators=5).fit(rows, rows[:, 2])", "predict(rows)"),
        (
            "xgboost",
            [0],
            "lib.train({'objective': 'binary:logistic'}, lib.DMatrix(rows, label=classes), 5)",
            "predict(lib.DMatrix(rows))",
        ),
        (
            "xgboost",
            [-1, 1],
            "lib.train({'objective': 'multi:softprob', 'num_class': 3}, lib.DMatrix(rows, label=classes), 5)",
            "inplace_predict(rows)",
        ),
        (
            "xgboost",
            [0],
            "lib.train({}, lib.DMatrix(rows, label=rows[:, 2]), 5)",
            "predict(lib.DMatrix(rows))",
        ),
        ("lightgbm", [0], "lib.LGBMClassifier(verbose=-1).fit(rows, classes)", "predict_proba(rows)"),
        ("lightgbm", [0], "lib.LGBMRegressor(verbose=-1).fit(rows, rows[:, 2])", "predict(rows)"),
        (
            "lightgbm",
            [0],
            "lib.train({'objective': 'binary', 'verbose': -1}, lib.Dataset(rows, label=classes), 5)",
            "predict(rows)",
        ),
        (
            "lightgbm",
            [-1, 1],
            "lib.train({'objective': 'multiclass', 'num_class': 3, 'verbose': -1}, lib.Dataset(rows, label=classes), 5)",
            "predict(rows)",
        ),
    ],
)
def test_boosted_trees_are_exported(
    library: str, bins: list[int], train: str, call: str, tmp_path: Path
) -> None:
    """XGBoost's and LightGBM's estimators and boosters give graphs with their answers, missing values included."""
    source = BOOSTED.replace("IMPORT", f"import {library} as lib").replace("BINS", str(bins))
    model = write_model(
        tmp_path / "model", source.replace("TRAIN", train).replace("CALL", f"self.trees.{call}"), SIZES
    )
    packages = XGBOOST if library == "xgboost" else LIGHTGBM
    made = run_script("onnx", model, tmp_path, env_dir=environment_of("onnx", packages))
    assert made.file().name == "model.onnx"
    judged = _judged(made, model, packages, tmp_path)
    assert (judged.code, judged.stdout) == (0, ""), judged.log
    (row,) = judged.fidelity
    assert (row["outputs"], row["examples"]) == (3, 2)
    assert row["absolute"] < 1e-5


def test_what_only_the_booster_knows_is_not_applicable(tmp_path: Path) -> None:
    """An argument that changes what a booster gives has no place in a graph; it is named."""
    source = BOOSTED.replace("IMPORT", "import lightgbm as lib").replace("BINS", "[0]")
    source = source.replace("TRAIN", "lib.train({'verbose': -1}, lib.Dataset(rows, label=classes), 5)")
    model = write_model(
        tmp_path / "model", source.replace("CALL", "self.trees.predict(rows, pred_leaf=True)"), SIZES
    )
    ran = run_script("onnx", model, tmp_path, env_dir=environment_of("onnx", LIGHTGBM))
    assert (ran.code, ran.last_line) == (
        100,
        "the predictor calls predict() with pred_leaf, and a graph gives plain predictions",
    )


@needs_torch
def test_an_opset_that_the_exporter_cannot_make_is_said(tmp_path: Path) -> None:
    """PyTorch's exporter only warns and keeps its own opset; the adapter does not pass that off as the one asked for."""
    source = SMALL_NETWORK.replace("FORWARD", "x + 1").replace("CALL", "self.net(torch.ones(2, 3) * size)")
    ran = _torch(source, SIZES, tmp_path, opset=99)
    assert (ran.code, ran.stdout) == (100, "")
    assert ran.last_line == "the exporter made a graph of opset 18 and cannot bring it to opset 99"
