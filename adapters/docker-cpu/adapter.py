#!/usr/bin/env python3
"""Make the model's CPU image and push it to the site's registry; README.md says what is in it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cpu_image_engines as engines
from cogbuild_adapter import AdapterError, NotApplicable, cog_yaml, packages, param, run
from cogbuild_adapter.images import below_site, derive, fetch, layer, parse, repository_name, scratch
from cogbuild_adapter.schema import schema

if TYPE_CHECKING:
    from cogbuild_adapter.cog_yaml import Model
    from cogbuild_adapter.images import Image, Reference

HOME = "/opt/cogbuild"
#: What serves the model where the base image has Python under its versioned name only, as Debian's has.
PYTHON = '#!/bin/sh\nexec python3 "$@"\n'
COMMAND = ["python", "-m", "cog.server.http"]
PORT = 5000


def main() -> str:
    engine, wanted, target = param("engine", "none"), cog_yaml.read(), _target()
    engines.check(engine)  # before anything is fetched
    _check_commands(wanted, engine)
    if engine == "cog":
        return engines.cog_build(target)
    name = parse(param("base", "python:{python}-slim").replace("{python}", cog_yaml.python_version()))
    base = fetch(name)
    _check_python(base, str(name))
    place = scratch()
    # The model's files first: importing it, or installing what it wants, may leave others.
    sources = layer({"/src": Path()}, comment="the model", skip=("__pycache__", ".git"), into=place)
    frozen = packages.install(wanted.requirements, place / "packages")
    contents: dict[str, Path | str | bytes] = {
        f"{HOME}/packages": place / "packages",
        f"{HOME}/bin/python": PYTHON,
    }
    described = json.dumps(schema(wanted.reference), separators=(",", ":"))
    labels = {
        "run.cog.version": _version(frozen, "cog"),
        "run.cog.config": wanted.config,
        "run.cog.openapi_schema": described,
        "run.cog.pip_freeze": frozen,
    }
    settings: dict[str, Any] = {
        "cmd": COMMAND,
        "env": _env(base, wanted),
        "labels": labels,
        "ports": [PORT],
        "workdir": "/src",
    }
    if engine != "none":
        recipe = engines.Recipe(name.by_digest(base.digest), wanted, contents, described, settings)
        return engines.build(engine, target, recipe)
    layers = [
        layer(contents, comment="the model's packages", into=place),
        sources,
        layer({"/src/.cog/openapi_schema.json": described}, comment="the model's schema", into=place),
    ]
    return derive(base, layers, **settings).push(target)


def _target() -> Reference:
    """Return where the image goes: a repository for the repo, a tag for the version, so that no sweep takes it."""
    name = repository_name(os.environ["COG_REPO_USER"], os.environ["COG_REPO_NAME"])
    return below_site(f"{name}:{os.environ['COG_MODEL_ID'][:12]}")


def _check_commands(wanted: Model, engine: str) -> None:
    if engine == "none" and (wanted.system_packages or wanted.commands):
        packages_ = ", ".join(wanted.system_packages)
        what = f"system packages ({packages_})" if packages_ else "commands run when its image is built"
        raise NotApplicable(
            f"the model wants {what}, which needs a container engine: set the parameter engine to docker or podman"
        )


def _check_python(base: Image, name: str) -> None:
    """Refuse a base that says itself that it has another Python."""
    found, wanted = base.env.get("PYTHON_VERSION", ""), cog_yaml.python_version()
    if found and found.split(".")[:2] != wanted.split("."):
        raise AdapterError(
            f"the base image {name} has Python {found}, but the model's packages are for {wanted}"
        )


def _env(base: Image, wanted: Model) -> dict[str, str]:
    path = base.env.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    return {
        "PATH": f"{HOME}/packages/bin:{path}:{HOME}/bin",
        "PYTHONPATH": f"{HOME}/packages",
        "PYTHONUNBUFFERED": "1",
        "COG_PREDICT_TYPE_STUB": wanted.reference,
        **wanted.env,
    }


def _version(frozen: str, package: str) -> str:
    return next(line.partition("==")[2] for line in frozen.splitlines() if line.startswith(f"{package}=="))


if __name__ == "__main__":
    run(main)
