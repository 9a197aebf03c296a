"""Adapters with an isolated Python environment: resolved once, locked, shared, counted."""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Sandbox

from cogbuild import quiet
from cogbuild.active import active
from cogbuild.engine import Status
from cogbuild.environment import find_python, python
from cogbuild.housekeeping import locking
from cogbuild.verdict import Kind

ADAPTER = """#!/usr/bin/env python3
import os, sys
import tinypkg
out = os.path.join(os.environ["COG_OUTPUT_DIR"], "v")
with open({ran!r}, "a") as ran:
    ran.write(os.environ["COG_REPO_NAME"] + " one\\n")
with open(out, "w") as file:
    file.write(f"tinypkg {{tinypkg.VERSION}} in {{sys.prefix != sys.base_prefix}}\\n")
print(out)
"""


def wheel(directory: Path, name: str, version: str) -> None:
    """Write a wheel with one module."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VERSION = '{version}'\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(directory / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


@pytest.fixture
def wheels(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of wheels, the only place where packages are looked for."""
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_"))]:
        monkeypatch.delenv(name)
    directory = tmp_path / "wheels"
    directory.mkdir()
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "uv-cache"))
    monkeypatch.setenv("UV_FIND_LINKS", str(directory))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    wheel(directory, "tinypkg", "1.0")
    return directory


def adapter(box: Sandbox, **python: object) -> Path:
    """Write the adapter that imports the package."""
    return box.adapter(
        "one", ADAPTER.format(ran=str(box.ran_file)), python={"packages": ["tinypkg"], **python}
    )


def test_an_environment_is_made_once_and_shared(box: Sandbox, wheels: Path) -> None:
    """A pair without a lock says so; the first run resolves and makes it, all models share it."""
    adapter(box)
    box.add("a")
    box.add("b")
    reasons = [reason.text for reason in box.look("a", "one").verdict.reasons]
    assert reasons[0] == "environment not resolved"
    run = box.adapt()
    assert box.artifact(run, "a one").read_text() == "tinypkg 1.0 in True\n"
    assert len([path for path in (box.data / "envs").iterdir() if not path.name.startswith(".")]) == 1
    assert sum("making environment" in line for line in run.log) == 1
    assert box.adapt().results == {}


def test_a_newer_release_changes_nothing_until_it_is_asked_for(box: Sandbox, wheels: Path) -> None:
    """The lock stays; a new model gets the same packages as the old ones."""
    adapter(box)
    box.add("a")
    box.adapt()
    wheel(wheels, "tinypkg", "2.0")
    box.add("b")
    run = box.adapt()
    assert run.ran == ["b one"]
    assert box.artifact(run, "b one").read_text() == "tinypkg 1.0 in True\n"


def test_another_requirement_is_another_key_and_names_the_package(box: Sandbox, wheels: Path) -> None:
    """The row of the package that moved is named with both versions."""
    adapter(box)
    box.add("a")
    box.adapt()
    wheel(wheels, "tinypkg", "2.0")
    adapter(box, packages=["tinypkg>=2"])
    run = box.adapt()
    assert run.ran == ["a one"]
    rows = {
        reason.label: (reason.before, reason.after) for reason in run.results["a one"].reasons if reason.label
    }
    before, after = rows["python:tinypkg"]
    assert (before or "").startswith("1.0 ")
    assert (after or "").startswith("2.0 ")


def test_packages_that_are_still_to_be_resolved_are_not_called_absent(box: Sandbox, wheels: Path) -> None:
    """Nobody knows them yet: the pair says so, and no row of a package does."""
    adapter(box)
    box.add("a")
    box.adapt()
    adapter(box, packages=["tinypkg>=1"])
    judged = box.look("a", "one")
    assert [reason.text for reason in judged.verdict.reasons] == ["environment not resolved"]
    box.script(
        box.root / "adapters/one/adapter.sh",
        ADAPTER.format(ran=str(box.ran_file)) + "# edited\n",
    )
    labels = [reason.label for reason in box.look("a", "one").verdict.reasons]
    assert labels == [None, "adapter:adapter.sh"]


def test_the_models_own_requirements_join(box: Sandbox, wheels: Path) -> None:
    """With with_model the environment of each model is its own; equal ones are shared."""
    wheel(wheels, "modelpkg", "3.0")
    script = ADAPTER.replace("import tinypkg", "import tinypkg, modelpkg")
    box.adapter(
        "one", script.format(ran=str(box.ran_file)), python={"packages": ["tinypkg"], "with_model": True}
    )
    cog = 'build:\n  python_version: "3.11"\n  python_packages: [modelpkg==3.0]\npredict: predict.py:Predictor\n'
    for name in "ab":
        box.add(name, {"cog.yaml": cog})
    assert box.adapt().exit_code == 0
    box.add("c")
    run = box.adapt()
    assert run.status("c one") is Status.FAILED
    assert "ModuleNotFoundError: No module named 'modelpkg'" in run.error("c one")


def test_a_python_that_is_not_here_is_said_in_the_log_and_counted(box: Sandbox, wheels: Path) -> None:
    """The model asks for 3.4; the running one is used, and the log says so."""
    box.adapter(
        "one", ADAPTER.format(ran=str(box.ran_file)), python={"packages": ["tinypkg"], "with_model": True}
    )
    box.add("a", {"cog.yaml": 'build:\n  python_version: "3.4"\npredict: predict.py:Predictor\n'})
    run = box.adapt()
    assert any("python 3.4 was asked for and is not here" in line for line in run.log)
    logs = [path.read_text() for path in (box.data / "logs").iterdir()]
    assert any("cogbuild: python 3.4 was asked for" in text for text in logs)
    judged = box.look("a", "one")
    assert judged.python is not None
    assert judged.python.lock is not None
    assert ("python", judged.python.python.version) in judged.python.lock.rows()


def test_what_cannot_be_resolved_fails_its_pair_alone(box: Sandbox, wheels: Path) -> None:
    """No such package: the pair fails in words, the others are built, the next run tries again."""
    box.adapter("other")
    adapter(box, packages=["no-such-package-here"])
    box.add("a")
    run = box.adapt()
    assert run.status("a other") is Status.BUILT
    assert run.status("a one") is Status.FAILED
    assert run.exit_code == 1
    assert box.look("a", "one").verdict.kind is Kind.STALE
    log = run.results["a one"].log
    assert log is not None
    assert "no-such-package-here" in Path(log).read_text()
    adapter(box)
    assert box.adapt().ran == ["a one"]


@pytest.fixture
def later(box: Sandbox, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str, str]]:
    """A model that asks for a Python which is not on PATH yet: how it is called there, where it is, and its version."""
    others = [(path, version) for path, version in python._installed("3") if version != find_python().version]
    if not others:
        pytest.skip("only one Python is installed here")
    path, version = others[0]
    place = box.root / "bin"
    place.mkdir()
    monkeypatch.setenv("PATH", str(place))  # all that uv looks at
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(box.root / "none"))
    find_python.cache_clear()
    script = ADAPTER.replace("import tinypkg", "import platform").replace(
        "tinypkg {{tinypkg.VERSION}}", "{{platform.python_version()}}"
    )
    box.adapter("one", script.format(ran=str(box.ran_file)), python={"packages": [], "with_model": True})
    box.add("a", {"cog.yaml": f'build:\n  python_version: "{version}"\npredict: predict.py:Predictor\n'})
    yield place / f"python{version.rpartition('.')[0]}", path, version
    find_python.cache_clear()


@pytest.mark.slow  # it asks every interpreter there is
def test_a_python_that_is_installed_later_is_used(box: Sandbox, later: tuple[Path, str, str]) -> None:
    """A run of everything notices that it came and that it went, also where nothing else is to be done."""
    name, path, version = later
    box.environ["PATH"] = str(name.parent)
    assert box.adapt().ran == ["a one"]
    time.sleep(2.1)
    assert box.adapt().results == {}
    assert quiet.fresh_pairs(str(box.data), box.environ) == 1
    name.symlink_to(path)
    assert quiet.fresh_pairs(str(box.data), box.environ) is None
    rows = [(row.label, row.before, row.after) for row in box.look("a", "one").verdict.reasons if row.label]
    assert rows == [("python", find_python().version, version)]
    run = box.adapt()
    assert run.ran == ["a one"]
    assert box.artifact(run, "a one").read_text().startswith(f"{version} ")
    assert box.adapt().results == {}
    name.unlink()
    assert box.adapt().status("a one") is Status.RESTORED


@pytest.mark.slow  # it asks every interpreter there is
def test_a_new_lock_has_its_pairs_judged(box: Sandbox, later: tuple[Path, str, str]) -> None:
    """A Python in a place that only uv knows is not noticed by runs; locking says "new", and then they are."""
    name, path, _ = later
    assert box.adapt().ran == ["a one"]
    name.symlink_to(path)
    find_python.cache_clear()  # as another process
    assert box.adapt().ran == []
    with box.project() as project:
        (group,) = locking.groups(project, active(project))
        assert locking.lock(project, group, upgrade=False).state == "new"
    assert box.adapt().ran == ["a one"]


def test_a_python_below_the_directory_for_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There uv runs, and it names such a one by a path from there; we do not run there."""
    running = find_python()
    name = f"python{running.version.rpartition('.')[0]}"
    (tmp_path / name).symlink_to(running.path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    found = [path for path, _ in python._installed(running.version)]
    assert str(tmp_path / name) in found
    assert all(map(os.path.isabs, found))
