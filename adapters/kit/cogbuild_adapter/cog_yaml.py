"""What the model's ``cog.yaml`` says about its image, in today's form and the form of 2021. Needs PyYAML."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cogbuild_adapter.contract import AdapterError


@dataclass(frozen=True)
class Model:
    """What goes into the model's image besides files."""

    reference: str  # predict.py:Predictor
    requirements: tuple[str, ...]  # arguments for `uv pip install`
    system_packages: tuple[str, ...]
    commands: tuple[str, ...]  # the shell commands of `run:`
    env: dict[str, str]
    config: str  # cog.yaml as JSON


def read() -> Model:
    """Return what the model in the working directory wants."""
    document: dict[str, Any] = yaml.safe_load(Path("cog.yaml").read_bytes()) or {}
    environment = document.get("environment")
    build: dict[str, Any] = document.get("build") or {}
    if isinstance(environment, dict):  # of 2021; today it is a list of NAME=value
        build = environment
    variables = environment if isinstance(environment, list) else []
    at_once = _at_once(document.get("concurrency"))
    wanted = [str(package) for package in build.get("python_packages") or []]
    if build.get("python_requirements"):
        wanted += ["--requirements", build["python_requirements"]]
    for key, option in (
        ("python_extra_index_urls", "--extra-index-url"),
        ("python_find_links", "--find-links"),
    ):
        for place in build.get(key) or []:
            wanted += [option, place]
    module, cls = os.environ["COG_MODEL_PYTHON_MODULE"], os.environ["COG_MODEL_CLASS"]
    steps = [*(build.get("run") or []), *(build.get("pre_install") or [])]
    return Model(
        reference=f"{module.replace('.', '/')}.py:{cls}",
        requirements=tuple(wanted),
        system_packages=tuple(build.get("system_packages") or ()),
        commands=tuple(step["command"] if isinstance(step, dict) else str(step) for step in steps),
        env=(
            {"COG_MAX_CONCURRENCY": str(at_once)} if at_once is not None else {}
        )  # how Cog's server hears of it
        | dict(item.partition("=")[::2] for item in variables),
        config=json.dumps(document, default=str, sort_keys=True),
    )


def _at_once(concurrency: Any) -> int | None:
    """Return how many predictions the model makes at once; None where that is not said."""
    limit = concurrency.get("max") if isinstance(concurrency, dict) else None
    if concurrency is None or (concurrency == {}):
        return None
    if type(limit) is not int or limit < 1:
        raise AdapterError(
            f"concurrency of cog.yaml has to be {{max: N}}, a number from 1 on, not {concurrency!r}"
        )
    return limit


def python_version() -> str:
    """Return the version of Python that the model's packages are locked for, such as ``3.11``."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"
