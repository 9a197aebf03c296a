"""Runs shipped adapters by hand, with the contract's variables and nothing else, in environments made by uv."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from uv import find_uv_bin

from cogbuild.spec import ADAPTER_FILE, MODEL_FILE, WISHES_FILE, AdapterSpec, ModelSpec
from cogbuild.spec.adapter import parse_adapter
from cogbuild.spec.model import parse_model, parse_wishes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).parents[2]
ADAPTERS = ROOT / "adapters"
EXAMPLES = ROOT / "examples"
KIT = ADAPTERS / "kit"
ADAPTER_NAMES = sorted(file.parent.name for file in ADAPTERS.glob(f"*/{ADAPTER_FILE}"))
EXAMPLE_NAMES = sorted(file.parent.name for file in EXAMPLES.glob(f"*/{MODEL_FILE}"))


def find_links() -> str:
    """Return where wheels lie that no index has."""
    return os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS", "")


_TORCH_WHEEL = any(wheel for place in find_links().split() for wheel in Path(place).glob("torch-*.whl"))
_TORCH_HERE = importlib.util.find_spec("torch") is not None

needs_torch = pytest.mark.skipif(
    not (_TORCH_WHEEL or _TORCH_HERE),
    reason="torch is not installed, and no wheel of it is in PIP_FIND_LINKS",
)


@dataclass(frozen=True)
class Ran:
    """How one run of an adapter's script ended."""

    code: int
    stdout: str
    log: str
    output: Path  # what was COG_OUTPUT_DIR
    listed: tuple[dict[str, str], ...] = ()  # the lines of COG_ARTIFACTS_FILE
    fidelity: tuple[dict[str, Any], ...] = ()  # the lines of COG_FIDELITY_FILE

    @property
    def last_line(self) -> str:
        return self.log.rstrip("\n").rpartition("\n")[2]

    def file(self) -> Path:
        """Return the file that the one line on stdout names."""
        assert self.code == 0, self.log
        assert self.stdout.endswith("\n"), self.stdout
        assert self.stdout.count("\n") == 1, self.stdout
        named = Path(self.stdout[:-1])
        assert named.is_relative_to(self.output)
        assert named.is_file()
        return named

    def made(self) -> dict[str, Path]:
        """Return what was made, files or directories, by name; the name of a single artifact is empty."""
        assert self.code == 0, self.log
        if self.listed:
            assert self.stdout == ""
        named = {row["name"]: Path(row["uri"]) for row in self.listed} or {"": Path(self.stdout[:-1])}
        for path in named.values():
            assert path.is_relative_to(self.output), self.stdout
            assert path.exists()
        return named


def adapter_spec(name: str) -> AdapterSpec:
    file = ADAPTERS / name / ADAPTER_FILE
    return parse_adapter(file.read_bytes(), file)


def model_spec(model: Path) -> ModelSpec:
    def read(path: str) -> bytes | None:
        return (model / path).read_bytes() if (model / path).is_file() else None

    return parse_model((model / MODEL_FILE).read_bytes(), model / MODEL_FILE, read)


def model_examples(model: Path) -> list[dict[str, Any]]:
    file = model / WISHES_FILE
    if not file.exists():
        return []
    wishes = parse_wishes(file.read_bytes(), file)
    return [{"input": dict(example.input), "output": example.output} for example in wishes.examples]


@functools.cache
def environment(*requirements: str) -> Path:
    """Return a directory with a Python that has *requirements*, made once in a test run by whoever asks first."""
    wanted = sorted(set(requirements))
    shared = Path(os.environ["COGBUILD_TEST_RUN"], "environments")
    where = shared / hashlib.sha256("\n".join(wanted).encode()).hexdigest()[:16]
    where.mkdir(parents=True, exist_ok=True)
    with open(where / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (where / "whole").exists():
            _make_environment(where / "env", wanted)
            (where / "whole").touch()
    return where / "env"


def _make_environment(where: Path, wanted: list[str]) -> None:
    env = os.environ | {"VIRTUAL_ENV": str(where)}
    if links := find_links():
        env["UV_FIND_LINKS"] = links
    borrow = _TORCH_HERE and not _TORCH_WHEEL and any(name.startswith("torch") for name in wanted)
    if borrow:  # the torch that is here costs nothing; PyPI's takes gigabytes
        wanted = [name for name in wanted if not name.startswith("torch")]
    uv = find_uv_bin()
    for command in (["venv", "-q", "-p", sys.executable, where], ["pip", "install", "-q", *wanted]):
        done = subprocess.run(
            [uv, *command], cwd=where.parent, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    if borrow:
        spec = importlib.util.find_spec("torch")
        assert spec is not None
        assert spec.origin is not None
        packages = next(where.glob("lib/python*/site-packages"))
        (packages / "borrowed.pth").write_text(f"{Path(spec.origin).parents[1]}\n")


def environment_of(adapter: str, model: Path | Sequence[str]) -> Path | None:
    """Return the environment that *adapter* declares, for a model or for the requirements of one."""
    python = adapter_spec(adapter).python
    if python is None:
        return None
    requirements = model_spec(model).requirements if isinstance(model, Path) else tuple(model)
    return environment(*python.packages, *requirements)


def run_script(
    adapter: str,
    model: Path,
    scratch: Path,
    *,
    script: str | None = None,
    env_dir: Path | None = None,
    params: Mapping[str, object] = {},
    cls: str = "Predictor",
    more: Mapping[str, str] = {},
    shell: Sequence[str] = (),
    in_place: bool = False,
) -> Ran:
    """Run an adapter's script, or another of its files, on a private copy of *model* below *scratch*.

    A copy loses owners and shared inodes; *in_place* runs in the model's own directory.
    """
    spec = adapter_spec(adapter)
    place = Path(tempfile.mkdtemp(dir=scratch))
    workspace, output = model if in_place else place / "workspace", place / "output"
    if not in_place:
        shutil.copytree(model, workspace, symlinks=True)
    output.mkdir()
    (place / "examples.json").write_text(json.dumps(model_examples(model)))
    paths = ["/usr/bin", "/bin"] if env_dir is None else [str(env_dir / "bin"), "/usr/bin", "/bin"]
    env = {"PATH": ":".join(paths), "HOME": str(place), "COG_OUTPUT_DIR": str(output)}
    env |= {f"COG_{name}_FILE": str(place / name) for name in ("ARTIFACTS", "FIDELITY")}
    env |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # each worker of pytest-xdist has one core
    given = {"COG_MODEL_PYTHON_MODULE": "predict", "COG_MODEL_CLASS": cls, "COG_MODEL_ID": "0" * 40}
    env |= {name: value for name, value in given.items() if spec.passes(name)}
    if spec.examples:
        env["COG_EXAMPLES_FILE"] = str(place / "examples.json")
    if spec.python is not None and spec.python.kit:
        env["PYTHONPATH"] = str(KIT)
    env |= {f"COG_PARAM_{name.upper()}": str(value) for name, value in {**spec.params, **params}.items()}
    argv = [*shell, str(ADAPTERS / adapter / (script or spec.script))]
    done = subprocess.run(
        argv,
        cwd=workspace,
        env={**env, **more},
        capture_output=True,
        timeout=300,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    listed, fidelity = (_rows(place / name) for name in ("ARTIFACTS", "FIDELITY"))
    log = done.stderr.decode(errors="replace")
    return Ran(done.returncode, done.stdout.decode(), log, output, listed, fidelity)


def _rows(file: Path) -> tuple[dict[str, Any], ...]:
    return tuple(map(json.loads, file.read_text().splitlines())) if file.exists() else ()


def run_test(adapter: str, model: Path, made: Ran, scratch: Path, **more: Any) -> Ran:
    """Run an adapter's test on what it made, with the variables that cogbuild gives a test."""
    test = adapter_spec(adapter).test
    assert test is not None
    paths = made.made()
    listed = scratch / f"listed-{made.output.parent.name}"
    listed.write_text(
        "".join(json.dumps({"name": name, "uri": path.as_uri()}) + "\n" for name, path in paths.items())
    )
    variables = {"COG_ARTIFACT_URI": next(iter(paths.values())).as_uri(), "COG_ARTIFACTS_FILE": str(listed)}
    return run_script(adapter, model, scratch, script=test, more=variables | more.pop("more", {}), **more)


def write_model(directory: Path, predict: str, examples: str = "") -> Path:
    """Write a model of one file and, where given, its examples (YAML)."""
    directory.mkdir()
    (directory / MODEL_FILE).write_text("predict: predict.py:Predictor\n")
    (directory / "predict.py").write_text(predict)
    if examples:
        (directory / WISHES_FILE).write_text(f"examples:\n{examples}")
    return directory
