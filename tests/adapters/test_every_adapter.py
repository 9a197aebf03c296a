"""What holds for every shipped adapter, whichever it is?"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from adapter_runs import (
    ADAPTER_NAMES,
    ADAPTERS,
    EXAMPLE_NAMES,
    EXAMPLES,
    adapter_spec,
    environment_of,
    needs_torch,
    run_script,
)

if TYPE_CHECKING:
    from pathlib import Path


def _cell(adapter: str, model: str) -> object:
    marks = [pytest.mark.slow] if adapter_spec(adapter).python is not None else []
    if marks and "torch" in model:
        marks.append(needs_torch)
    return pytest.param(adapter, model, marks=marks, id=f"{adapter}-{model}")


def _makes_files(adapter: str) -> bool:
    """Whether it makes files; what makes images has tests of its own, which bring a registry."""
    return "COG_DOCKER_REGISTRY" not in (adapter_spec(adapter).uses or ())


MATRIX = [_cell(name, model) for name in filter(_makes_files, ADAPTER_NAMES) for model in EXAMPLE_NAMES]


@pytest.mark.parametrize("name", ADAPTER_NAMES)
def test_an_adapter_declares_itself(name: str) -> None:
    """An adapter is named as its directory, says what it makes, and its scripts are executable."""
    spec = adapter_spec(name)
    assert spec.name == name
    assert spec.description
    assert spec.timeout
    for script in filter(None, (spec.script, spec.test)):
        assert os.access(ADAPTERS / name / script, os.X_OK)


@pytest.mark.parametrize("name", ADAPTER_NAMES)
def test_an_adapters_page_names_its_parameters(name: str) -> None:
    """README.md says what the adapter makes, and every parameter of its declaration."""
    page = (ADAPTERS / name / "README.md").read_text()
    assert page.startswith(f"# {name}\n\nMakes ")
    assert [param for param in adapter_spec(name).params if f"| `{param}` |" not in page] == []


@pytest.mark.parametrize(("adapter", "model"), MATRIX)
def test_an_adapter_keeps_the_contract(adapter: str, model: str, tmp_path: Path) -> None:
    """One line that names a file with the same bytes on every run, or exit code 100 with one sentence."""
    env_dir = environment_of(adapter, EXAMPLES / model)
    first, second = (run_script(adapter, EXAMPLES / model, tmp_path, env_dir=env_dir) for _ in range(2))
    assert first.code == second.code
    if first.code == 100:
        assert adapter_spec(adapter).api == 1
        assert (first.stdout, second.stdout) == ("", "")
        assert first.last_line == second.last_line != ""
        assert "Traceback" not in first.log
        return
    assert first.file().read_bytes() == second.file().read_bytes()
    assert str(tmp_path).encode() not in first.file().read_bytes(), (
        "the artifact names a path of this machine"
    )
    if test := adapter_spec(adapter).test:
        uri = first.file().as_uri()
        judged = run_script(
            adapter, EXAMPLES / model, tmp_path, script=test, env_dir=env_dir, more={"COG_ARTIFACT_URI": uri}
        )
        assert (judged.code, judged.stdout) == (0, ""), judged.log
