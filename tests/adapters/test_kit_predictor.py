"""Does the kit load and call a predictor as Cog does, in each of the forms that Cog knows?"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from adapter_runs import KIT, environment

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

MAIN = """
import json, os
from cogbuild_adapter import load, run

def main():
    predictor = load()
    return json.dumps([predictor.predict(given) for given in json.loads(os.environ["GIVEN"])], default=str)

run(main)
"""


def _predict(model: dict[str, str], given: list[dict[str, Any]], where: Path, reference: str) -> Any:
    """Return what the predictor at *reference* (``module:Class``) gives for each of *given*."""
    for name, content in model.items():
        (where / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (where / "model" / name).write_text(content)
    (where / "adapter.py").write_text(MAIN)
    module, _, cls = reference.partition(":")
    done = subprocess.run(
        [environment("cog>=0.23,<0.24") / "bin/python", "-B", where / "adapter.py"],
        cwd=where / "model",
        env={
            "PYTHONPATH": str(KIT),
            "COG_MODEL_PYTHON_MODULE": module,
            "COG_MODEL_CLASS": cls,
            "GIVEN": json.dumps(given),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_defaults_and_types_are_cogs(tmp_path: Path) -> None:
    """Inputs that are not given get their default, and given ones become what the signature says."""
    source = """
from cog import BasePredictor, Input, Path
class Predictor(BasePredictor):
    def setup(self) -> None:
        self.ready = "ready"
    def predict(self, size: int, name: str = Input(description="", default="Ann"), tags: list[str] | None = None) -> str:
        return f"{self.ready} {size!r} {name!r} {tags!r}"
"""
    given: list[dict[str, Any]] = [{"size": "3"}, {"size": 4, "name": "Bob", "tags": ["a"]}]
    assert _predict({"predict.py": source}, given, tmp_path, "predict:Predictor") == [
        "ready 3 'Ann' None",
        "ready 4 'Bob' ['a']",
    ]


def test_a_runner_in_a_directory_with_modules_beside_the_root(tmp_path: Path) -> None:
    """A class with run() in a subdirectory imports what lies in the model's root."""
    runner = """
from helper import twice
class Runner:
    def run(self, size: int) -> int:
        return twice(size)
"""
    files = {"src/run.py": runner, "helper.py": "def twice(size):\n    return 2 * size\n"}
    assert _predict(files, [{"size": 4}], tmp_path, "src.run:Runner") == [8]


def test_functions_and_async_setups_and_iterators(tmp_path: Path) -> None:
    """A function, a coroutine and a generator are called as what they are; iterators are read to their end."""
    source = """
from collections.abc import AsyncIterator, Iterator
def doubled(size: int = 2) -> int:
    return 2 * size
class Waiting:
    async def setup(self) -> None:
        self.step = 10
    async def run(self, size: int) -> AsyncIterator[int]:
        for number in range(size):
            yield number * self.step
class Listing:
    def run(self, size: int) -> Iterator[int]:
        yield from range(size)
"""
    files = {"predict.py": source}
    assert _predict(files, [{}, {"size": 4}], tmp_path, "predict:doubled") == [4, 8]
    assert _predict(files, [{"size": 3}], tmp_path, "predict:Waiting") == [[0, 10, 20]]
    assert _predict(files, [{"size": 3}], tmp_path, "predict:Listing") == [[0, 1, 2]]


def test_files_of_the_model_and_data_uris_are_paths(tmp_path: Path) -> None:
    """A path input takes ``@file`` of the model, a relative path, and a ``data:`` URI."""
    source = """
from cog import Path
class Runner:
    def run(self, text: Path) -> str:
        return text.read_text()
"""
    files = {"run.py": source, "hello.txt": "hello"}
    given = [{"text": "@hello.txt"}, {"text": "hello.txt"}, {"text": "data:text/plain,good%20day"}]
    assert _predict(files, given, tmp_path, "run:Runner") == ["hello", "hello", "good day"]


def test_a_reference_without_a_class_is_runner(tmp_path: Path) -> None:
    """Where the reference names no class, Cog takes Runner."""
    source = "class Runner:\n    def run(self, size: int) -> int:\n        return size + 1\n"
    assert _predict({"run.py": source}, [{"size": 1}], tmp_path, "run") == [2]
