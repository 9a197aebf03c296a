"""What an adapter wants of the machine and does not find: is it said, and before work begins?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cogbuild.adapters import builtins, load
from cogbuild.engine import Status
from cogbuild.lacking import lacks

if TYPE_CHECKING:
    from conftest import Sandbox
    from door import Door

pytest_plugins = ["door"]

REGISTRY = {"setting": "docker_registry"}
PROGRAM = {"program": "protoc-of-nobody", "package": "protobuf-compiler"}
ENGINE = {
    "programs": ["nobodys-podman", "nobodys-docker"],
    "package": "podman",
    "for": "nothing is tried out",
}
NO_REGISTRY = "no container registry: set docker_registry in cogbuild.yaml, or COGBUILD_DOCKER_REGISTRY"
NO_PROGRAM = "protoc-of-nobody is not installed (Debian: protobuf-compiler)"
NO_ENGINE = (
    "nobodys-podman or nobodys-docker is not installed (Debian: podman); without it nothing is tried out"
)


def test_nothing_is_begun_without_what_it_needs(box: Sandbox) -> None:
    """No process, no packages: the pair fails with all that is missing, alone; when it is there, it is built."""
    box.adapter("one", requires=[REGISTRY, PROGRAM, ENGINE], python={"packages": ["nobodys-package"]})
    box.adapter("two")
    model = box.add("a").model
    run = box.adapt()
    assert run.error("a one") == (
        f"one lacks what it can't work without on local/a@{model[:12]}\n"
        f"  lacks  {NO_REGISTRY}\n"
        f"         {NO_PROGRAM}\n"
        "hint: `cogbuild doctor` says this of all active adapters"
    )
    assert (run.ran, run.status("a two"), run.exit_code) == (["a two"], Status.BUILT, 1)


def test_what_is_only_missed_stops_nothing(box: Sandbox) -> None:
    """A need with a purpose is told of and no more, and none of it counts."""
    box.adapter("one", requires=[ENGINE])
    box.add("a")
    assert box.adapt().status("a one") is Status.BUILT
    box.adapter("one", requires=[{"program": "sh"}])
    assert box.adapt().counts[Status.FRESH] == 1


def test_it_works_when_it_is_there(box: Sandbox) -> None:
    """A setting that was made, a program that was installed where the adapter looks for it."""
    box.adapter("one", requires=[REGISTRY, PROGRAM])
    box.add("a")
    assert box.adapt().status("a one") is Status.FAILED
    box.configure(docker_registry="registry.local")
    programs = box.root / "bin"
    programs.mkdir()
    (programs / "protoc-of-nobody").write_text("#!/bin/sh\n")
    (programs / "protoc-of-nobody").chmod(0o755)
    box.environ["PATH"] += f":{programs}"
    assert box.adapt().status("a one") is Status.BUILT


def test_doctor_and_the_listing_say_it(box: Sandbox, cogbuild: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each active adapter; the listing also of those that are not active."""
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.delenv("COGBUILD_DOCKER_REGISTRY", raising=False)
    at = box.adapter("one", requires=[ENGINE, PROGRAM])
    assert f"one ({at}): can't work here\n" in (said := cogbuild("doctor")).out
    assert [line.strip() for line in said.out.splitlines() if "not installed" in line] == [
        NO_PROGRAM,
        NO_ENGINE,
    ]
    assert said.code == 0
    row = cogbuild("doctor", "--json").json["adapters"][0]
    assert (row["ready"], row["lacks"][1]["without"]) == (False, "nothing is tried out")
    listed = cogbuild("adapters", "ls").out
    assert f"  lacks: {NO_PROGRAM}\n  lacks: {NO_ENGINE}\n" in listed
    assert f"    lacks: {NO_REGISTRY}\n" in listed[listed.index("  docker-cpu  builtin:docker-cpu") :]
    box.adapter("one", requires=[ENGINE])
    assert f"one ({at}): ready\n" in cogbuild("doctor").out


@pytest.mark.parametrize(
    "text", ["[{}]", "[{setting: docker_registry, program: sh}]", "[{program: a/b}]", "[{setting: jobs}]"]
)
def test_a_requirement_that_is_none_is_refused(box: Sandbox, text: str) -> None:
    """With what was expected."""
    at = box.adapter("one", activate=False)
    (at / "cog-adapter.yaml").write_text(f"name: one\nscript: adapter.sh\nrequires: {text}\n")
    box.configure(adapters=[str(at)])
    with pytest.raises(Exception, match=r"requires.* was expected"):
        box.adapt()


# -- the shipped ones ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", builtins())
def test_a_shipped_adapter_goes_by_its_name(box: Sandbox, cogbuild: Door, name: str) -> None:
    """In the settings and with ``--adapter-dir``."""
    needed = load(project := box.project(), Path(builtin(name))).spec.needs
    project.close()
    assert (
        cogbuild(
            "status",
            "--adapter-dir",
            f"builtin:{name}",
            *[w for n in needed for w in ("--adapter-dir", f"builtin:{n}")],
        ).code
        == 0
    )
    box.configure(adapters=[f"builtin:{item}" for item in (name, *needed)])
    listed = cogbuild("adapters", "ls", "--json").json
    assert next((row["source"], row["error"]) for row in listed["active"]) == (f"builtin:{name}", None)
    assert {row["name"] for row in listed["active"] + listed["available"]} == set(builtins())


def builtin(name: str) -> str:
    """Return where a shipped adapter is."""
    from cogbuild.adapters import builtin_root

    return str(builtin_root() / name)


@pytest.mark.parametrize("name", builtins())
def test_a_shipped_adapter_that_pushes_images_says_that_it_wants_a_registry(box: Sandbox, name: str) -> None:
    """Who asks to be told of the registry can't do without one."""
    box.settings = {"adapters": []}
    with box.project() as project:
        spec = load(project, Path(builtin(name))).spec
        missing = [item.what for item in lacks(project, spec) if item.without is None]
    assert (NO_REGISTRY in missing) == ("COG_DOCKER_REGISTRY" in (spec.uses or ()))
