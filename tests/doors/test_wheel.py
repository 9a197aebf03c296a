"""Installed from a wheel, away from the checkout: the shipped adapters travel with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_wheel_builds_in_a_directory_of_its_own(tmp_path: Path) -> None:
    """``pip install`` of a wheel, ``cogbuild init``, ``models add``, ``doit``: an artifact, and ``builtin:onnx`` is there."""

    def run(*argv: str | Path, cwd: Path = tmp_path) -> str:
        env = {**os.environ, "PATH": f"{tmp_path / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"}
        env.pop("VIRTUAL_ENV", None)
        ended = subprocess.run(
            [*map(str, argv)], cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path / "dist", TOP)
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    run(tmp_path / "venv" / "bin" / "pip", "install", "-q", *(tmp_path / "dist").glob("*.whl"))
    run("cogbuild", "init", "site")
    site = tmp_path / "site"
    assert "builtin:onnx" in run("cogbuild", "adapters", "ls", cwd=site)
    run("cogbuild", "models", "add", TOP / "examples" / "text-language", cwd=site)
    said = run("doit", cwd=site)
    assert said.endswith("1 built\n")
    artifact = next(line.strip() for line in said.splitlines() if line.strip().startswith("file://"))
    assert Path(artifact.removeprefix("file://")).stat().st_size > 10_000
    assert run("doit", cwd=site) == "1 fresh\n"


@pytest.mark.slow
def test_the_checkout_builds_its_examples(tmp_path: Path) -> None:
    """In a copy of the checkout, ``doit`` builds every example with every active adapter, and then has nothing to do."""
    tree = tmp_path / "checkout"
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=TOP, capture_output=True, text=True, timeout=60, check=True
    ).stdout
    for name in listed.split("\0"):
        if name:
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((TOP / name).read_bytes())
            (tree / name).chmod((TOP / name).stat().st_mode)

    def doit() -> str:
        ended = subprocess.run(
            [sys.executable, "-m", "doit", "-n", "2"],
            cwd=tree,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    first = doit()
    assert "not applicable local/text-language@" in first
    assert first.count("/model.onnx\n") >= 1
    assert first.count("/model.tar\n") >= 2
    assert "failed" not in first
    again = doit().splitlines()
    assert again[-1].endswith(" not applicable") or again[-1].endswith(" fresh")
    assert "built" not in again[-1]
