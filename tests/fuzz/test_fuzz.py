"""The parsers of what others wrote keep their promise: over what fuzzing found, and under a short round of it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from targets import TARGETS, seeds

HERE = Path(__file__).resolve().parent


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_seeds_and_findings_keep_the_promise(target: str) -> None:
    """Valid input, what once broke a promise, and both cut off at every eighth of their length."""
    found = [path.read_bytes() for path in sorted((HERE / "corpus" / target).glob("[!.]*"))]
    inputs = [*seeds(target), *found]
    assert inputs
    for data in inputs:
        for eighths in range(9):
            TARGETS[target](data[: len(data) * eighths // 8])


@pytest.mark.slow
@pytest.mark.parametrize("target", sorted(TARGETS))
def test_a_short_round_finds_nothing(target: str, tmp_path: Path) -> None:
    """Five seconds each, guided by coverage. The long form: python tests/fuzz/fuzz.py TARGET --seconds 600."""
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("the package atheris is not installed")
    ran = subprocess.run(
        [sys.executable, str(HERE / "fuzz.py"), target, "--seconds", "5"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "stat::number_of_executed_units" in ran.stdout + ran.stderr
    assert list(tmp_path.iterdir()) == []
