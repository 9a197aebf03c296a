"""Does a server hold what it needs, and no more, however long it works? ``benchmarks/soak.py`` is the long form."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"


def _soak() -> ModuleType:
    spec = importlib.util.spec_from_file_location("soak", SOAK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_memory_stays_flat_while_all_kinds_of_requests_come() -> None:
    """Nothing goes wrong in half a minute of uploads, failures, builds and reading, and memory has settled."""
    ratio, done, wrong = _soak().soak(0.5, 4, say=False)
    assert wrong == []
    assert done > 50
    assert ratio < 1.1
