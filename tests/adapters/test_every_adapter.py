"""What holds for every shipped adapter, whichever it is?"""

from __future__ import annotations

import os
import tarfile
from typing import TYPE_CHECKING

import pytest
from adapter_runs import (
    ADAPTER_NAMES,
    ADAPTERS,
    EXAMPLE_NAMES,
    EXAMPLES,
    Ran,
    adapter_spec,
    environment_of,
    needs_torch,
    run_script,
    run_test,
)
from adapters_table import keep_cell

from cogbuild.spec.names import artifact_variable

if TYPE_CHECKING:
    from pathlib import Path


def _cell(adapter: str, model: str) -> object:
    marks = [pytest.mark.slow] if adapter_spec(adapter).python is not None else []
    if marks and "torch" in model:
        marks.append(needs_torch)
    return pytest.param(adapter, model, marks=marks, id=f"{adapter}-{model}")


def _makes_files(adapter: str) -> bool:
    """Whether it makes files alone; what makes images has tests of its own, which bring a registry."""
    return not adapter_spec(adapter).passes("COG_DOCKER_REGISTRY")


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
    """What is made has the same bytes on every run and is near the model, or exit code 100 comes with one sentence."""
    env_dir = environment_of(adapter, EXAMPLES / model)
    needed = _needed(adapter, model, tmp_path)
    if isinstance(needed, str):
        keep_cell(adapter, model, {"not applicable": needed})
        return
    first, second = (
        run_script(adapter, EXAMPLES / model, tmp_path, env_dir=env_dir, more=needed) for _ in range(2)
    )
    assert first.code == second.code
    if first.code == 100:
        assert adapter_spec(adapter).api == 1
        assert (first.stdout, second.stdout) == ("", "")
        assert first.last_line == second.last_line != ""
        # The trace of what the converter said may stand above the reason, never in its place.
        assert not first.last_line.startswith((" ", "Traceback"))
        keep_cell(adapter, model, {"not applicable": first.last_line})
        return
    files, again = _files(first), _files(second)
    assert files == again
    assert not [name for name, held in files.items() if str(tmp_path).encode() in held], (
        "the artifact names a path of this machine"
    )
    if first.fidelity:  # the script has judged it already
        keep_cell(adapter, model, {"fidelity": first.fidelity})
    elif adapter_spec(adapter).test:
        judged = run_test(adapter, EXAMPLES / model, first, tmp_path, env_dir=env_dir)
        assert (judged.code, judged.stdout) == (0, ""), judged.log
        assert [row["artifact"] for row in judged.fidelity] == sorted(first.made())
        keep_cell(adapter, model, {"fidelity": judged.fidelity})
    else:
        assert adapter == "archive"
        keep_cell(adapter, model, {"same files": _same_files(first.file(), EXAMPLES / model)})


def _needed(adapter: str, model: str, scratch: Path) -> dict[str, str] | str:
    """Return the variables of what *adapter* needs, or why that does not apply to *model*."""
    variables: dict[str, str] = {}
    for name in adapter_spec(adapter).needs:
        made = run_script(name, EXAMPLES / model, scratch, env_dir=environment_of(name, EXAMPLES / model))
        if made.code == 100:
            return f"{name} is not applicable: {made.last_line}"
        variables[artifact_variable(name)] = next(iter(made.made().values())).as_uri()
    return variables


def _files(made: Ran) -> dict[str, bytes]:
    """Return the contents of all that was made, by artifact and path in it."""
    return {
        f"{name}:{path.relative_to(root) if path != root else root.name}": path.read_bytes()
        for name, root in made.made().items()
        for path in (sorted(root.rglob("*")) if root.is_dir() else [root])
        if path.is_file()
    }


def _same_files(archive: Path, model: Path) -> int:
    """Return how many files an archive holds, which are the model's, byte for byte."""
    with tarfile.open(archive) as tar:
        held = {
            item.name.removeprefix("./"): tar.extractfile(item).read()  # type: ignore[union-attr] # it is a file
            for item in tar
            if item.isfile()
        }
    assert held == {
        str(path.relative_to(model)): path.read_bytes() for path in model.rglob("*") if path.is_file()
    }
    return len(held)
