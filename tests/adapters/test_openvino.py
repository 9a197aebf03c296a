"""Does the openvino adapter turn ONNX graphs into IR that computes what the model does, and say why where it can't?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from adapter_runs import Ran, environment_of, needs_torch, run_script, run_test, write_model
from test_onnx import CLASSIFIER, ENCODER, SIZES, SKLEARN, SMALL_NETWORK, TEXTS, TORCH

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


def _chained(predict: str, examples: str, packages: tuple[str, ...], where: Path, **params: str) -> Ran:
    """Run onnx on a model and openvino on what that made."""
    model = write_model(where / "model", predict, examples)
    graphs = run_script("onnx", model, where, env_dir=environment_of("onnx", packages), params=params).made()
    given = {"COG_ARTIFACT_ONNX": next(iter(graphs.values())).as_uri()}
    for name, path in graphs.items():
        if name:
            given[f"COG_ARTIFACT_ONNX_{name.upper().replace('.', '_')}"] = path.as_uri()
    return run_script("openvino", model, where, env_dir=environment_of("openvino", packages), more=given)


def _judged(made: Ran, packages: tuple[str, ...], scratch: Path, **params: str) -> Ran:
    env_dir = environment_of("openvino", packages)
    return run_test("openvino", scratch / "model", made, scratch, env_dir=env_dir, params=params)


@needs_torch
def test_batch_and_length_stay_free(tmp_path: Path) -> None:
    """An encoder with a mask is right for other batches and for a length that no example has."""
    made = _chained(ENCODER, TEXTS, TORCH, tmp_path)
    assert "inputs ids[?,?], mask[?,?]" in made.log
    assert {file.name for file in made.made()[""].iterdir()} == {"model.xml", "model.bin"}
    judged = _judged(made, TORCH, tmp_path)
    assert (judged.code, judged.stdout) == (0, ""), judged.log
    (row,) = judged.fidelity
    assert (row["artifact"], row["examples"], row["outputs"]) == ("", 2, 8)
    assert row["runtime"].startswith("OpenVINO 20")
    assert row["runtime"].endswith(", CPU, f32")
    assert 0 < row["absolute"] < 1e-5


@needs_torch
def test_each_graph_of_several_is_an_artifact(tmp_path: Path) -> None:
    """Two graphs give two directories of the same names; a parameter that onnx was not given is found out."""
    source = SMALL_NETWORK.replace("FORWARD", "x * 2").replace(
        "CALL", "self.other(self.net(torch.ones(2, 3) * size))"
    )
    source = source.replace("torch.nn.Identity()", "torch.nn.ReLU()")
    made = _chained(source, SIZES, TORCH, tmp_path)
    assert sorted(made.made()) == ["net", "other"]
    judged = _judged(made, TORCH, tmp_path)
    assert (judged.code, judged.stdout) == (0, ""), judged.log
    assert [row["artifact"] for row in judged.fidelity] == ["net", "other"]
    judged = _judged(made, TORCH, tmp_path, network="net")
    assert (judged.code, judged.last_line) == (
        1,
        "onnx made other networks than the examples call: give openvino the same parameter `network` as onnx",
    )


def test_an_operator_that_openvino_does_not_know_is_named(tmp_path: Path) -> None:
    """scikit-learn's operators have no conversion; that is not applicable, and the reason names them."""
    made = _chained(CLASSIFIER, SIZES, SKLEARN, tmp_path)
    assert (made.code, made.stdout) == (100, "")
    assert made.last_line.startswith("OpenVINO 20")
    assert made.last_line.endswith(" has no conversion for ai.onnx.ml.LinearClassifier")
