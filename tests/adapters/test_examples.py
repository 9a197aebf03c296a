"""Do the example models run under Cog as it is, and predict what they say?"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from adapter_runs import EXAMPLE_NAMES, EXAMPLES, environment, model_examples, model_spec, needs_torch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVED = [
    pytest.param(name, marks=[pytest.mark.slow, needs_torch] if "torch" in name else [pytest.mark.slow])
    for name in EXAMPLE_NAMES
]


#: Cog: a prediction is still under way.
_BUSY = 409


def _answer(url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    for _ in range(100):
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)
        except urllib.error.HTTPError as refusal:
            with refusal:
                if refusal.code != _BUSY:
                    raise
            time.sleep(0.1)  # it says so for a moment after each prediction, longer on a loaded machine
    raise TimeoutError(f"{url} stayed busy")


@contextmanager
def _served(model: Path, env_dir: Path, log: Path) -> Iterator[str]:
    """Serve *model* with Cog's own server and yield its address once it is ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spec = model_spec(model)
    env = os.environ | {
        "PATH": f"{env_dir / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "COG_PREDICT_TYPE_STUB": f"{spec.file}:{spec.cls}",
        "PORT": str(port),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [str(env_dir / "bin/python"), "-m", "cog.server.http", "--host", "127.0.0.1"]
    with (
        log.open("wb") as file,
        subprocess.Popen(command, cwd=model, env=env, stdout=file, stderr=file) as server,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_ready(url, server, log)
            yield url
        finally:
            server.terminate()


def _wait_until_ready(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    status, until = "", time.monotonic() + 60
    while status != "READY":
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < until, f"{status}: {log.read_text()}"
        time.sleep(0.05)
        try:
            status = _answer(f"{url}/health-check")["status"]
        except urllib.error.URLError:
            continue


@pytest.mark.parametrize("name", EXAMPLE_NAMES)
def test_an_example_model_has_examples_with_outputs(name: str) -> None:
    """An example model gives at least two examples, each with the output to expect."""
    examples = model_examples(EXAMPLES / name)
    assert len(examples) >= 2
    assert all(example["input"] and example["output"] for example in examples)


@pytest.mark.parametrize("name", SERVED)
def test_cogs_own_server_gives_the_outputs_of_the_examples(name: str, tmp_path: Path) -> None:
    """Cog's own HTTP server answers every example with the output that is written beside it."""
    model = shutil.copytree(EXAMPLES / name, tmp_path / name)
    env_dir = environment("cog>=0.23,<0.24", *model_spec(model).requirements)
    with _served(model, env_dir, tmp_path / "log") as url:
        for example in model_examples(model):
            answer = _answer(f"{url}/predictions", {"input": example["input"]})
            assert answer["status"] == "succeeded", answer
            assert answer["output"] == example["output"]


def test_training_the_text_model_again_gives_its_weights(tmp_path: Path) -> None:
    """The committed profiles are what the training script makes of the corpus."""
    model = shutil.copytree(EXAMPLES / "text-language", tmp_path / "model")
    (model / "profiles.json").unlink()
    subprocess.run([sys.executable, "-B", "train.py"], cwd=model, check=True)
    assert (model / "profiles.json").read_bytes() == (EXAMPLES / "text-language/profiles.json").read_bytes()


@pytest.mark.slow
def test_training_the_scikit_learn_model_again_gives_its_weights(tmp_path: Path) -> None:
    """The committed numbers are, to the last printed digits, what the training script finds."""
    model = shutil.copytree(EXAMPLES / "digits-sklearn", tmp_path / "model")
    env_dir = environment("cog>=0.23,<0.24", *model_spec(model).requirements)
    subprocess.run([env_dir / "bin/python", "-B", "train.py"], cwd=model, check=True)
    made, kept = (
        json.loads((at / "weights.json").read_text()) for at in (model, EXAMPLES / "digits-sklearn")
    )
    assert made["accuracy"] == kept["accuracy"] > 0.95
    for name in ("mean", "scale", "intercept"):
        assert made[name] == pytest.approx(kept[name], abs=0.0005)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "script", "made"),
    [
        pytest.param("encoder-torch", "make.py", "weights.pt", marks=needs_torch),
        ("wine-xgboost", "train.py", "trees.json"),
        ("diabetes-lightgbm", "train.py", "trees.txt"),
    ],
)
def test_making_weights_again_gives_the_same_file(name: str, script: str, made: str, tmp_path: Path) -> None:
    """The committed weights are what the script makes."""
    model = shutil.copytree(EXAMPLES / name, tmp_path / "model")
    (model / made).unlink()
    requirements = {*model_spec(model).requirements, "scikit-learn==1.9.1"}
    subprocess.run([environment(*sorted(requirements)) / "bin/python", "-B", script], cwd=model, check=True)
    assert (model / made).read_bytes() == (EXAMPLES / name / made).read_bytes()
