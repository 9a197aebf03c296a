"""Images by a container engine: for models whose image needs commands to be run in it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogbuild_adapter import AdapterError
from cogbuild_adapter.images import fetch, is_plain, scratch
from cogbuild_adapter.images.running import client

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cogbuild_adapter.cog_yaml import Model
    from cogbuild_adapter.images import Reference

_PACKAGES = {
    "docker": "docker.io",
    "podman": "podman",
    "cog": "cog's command line, which brings docker along",
}


def check(engine: str) -> None:
    """Say what is missing before work begins."""
    if engine == "none":
        return
    if engine not in _PACKAGES:
        raise AdapterError(
            f"the parameter engine is {engine!r}, but it has to be none, docker, podman or cog"
        )
    for tool in {"cog": ("cog", "docker")}.get(engine, (engine,)):
        if shutil.which(tool) is None:
            raise AdapterError(
                f"{tool} was not found: install {_PACKAGES[engine]}, or set the parameter engine to none"
            )
    client("docker" if engine == "cog" else engine)


def cog_build(target: Reference) -> str:
    """Let Cog's own command line build and push the model in the working directory."""
    _run(["cog", "build", "--tag", str(target)])
    return _pushed("docker", target)


@dataclass(frozen=True)
class Recipe:
    """What an image is built from."""

    base: Reference  # by digest
    wanted: Model
    contents: Mapping[str, Path | str | bytes]  # as for layer()
    schema: str
    settings: Mapping[str, Any]  # as for derive()


def build(engine: str, target: Reference, recipe: Recipe) -> str:
    """Build from a generated Dockerfile, and push."""
    context = scratch()
    _written(context, recipe.contents)
    shutil.copytree(
        Path(), context / "src", symlinks=True, ignore=shutil.ignore_patterns("__pycache__", ".git")
    )
    (context / "src" / ".cog").mkdir(exist_ok=True)
    (context / "src" / ".cog" / "openapi_schema.json").write_text(recipe.schema)
    for path in sorted(context.rglob("*")):
        os.utime(path, (0, 0), follow_symlinks=False)
    file = scratch() / "Dockerfile"
    file.write_text(dockerfile(recipe))
    print(file.read_text())
    command = [*client(engine), "build", "--tag", str(target), "--file", str(file)]
    for name, value in recipe.settings["labels"].items():  # in a Dockerfile a value has one line
        command += ["--label", f"{name}={value}"]
    if engine == "podman":  # docker gives layers the time at which it made them
        plain = [f"--tls-verify={'false' if is_plain(recipe.base.host) else 'true'}"]
        command += ["--timestamp", "0", "--format", "oci", *plain]
    _run([*command, str(context)])
    return _pushed(engine, target)


def dockerfile(recipe: Recipe) -> str:
    """Return the Dockerfile: system packages, the model's packages, its commands, its files."""
    wanted, settings = recipe.wanted, recipe.settings
    lines = [f"FROM {recipe.base}"]
    if wanted.system_packages:
        names = " ".join(shlex.quote(name) for name in wanted.system_packages)
        install = f"DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends {names}"
        lines.append(f"RUN apt-get update -qq && {install} && rm -rf /var/lib/apt/lists/*")
    lines += [f"ENV {name}={_quoted(value)}" for name, value in settings["env"].items()]
    lines += ["COPY opt /opt", *(f"RUN {command}" for command in wanted.commands)]
    lines += [f"EXPOSE {port}" for port in settings["ports"]]
    lines += [f"WORKDIR {settings['workdir']}", "COPY src /src", f"CMD {json.dumps(settings['cmd'])}"]
    return "\n".join(lines) + "\n"


def _quoted(value: str) -> str:
    """Return *value* as Dockerfiles quote: variables are not filled in."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$") + '"'


def _written(context: Path, contents: Mapping[str, Path | str | bytes]) -> None:
    for target, source in contents.items():
        at = context / target.strip("/")
        at.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, Path):
            shutil.copytree(source, at, symlinks=True)
        else:
            data = source.encode() if isinstance(source, str) else source
            at.write_bytes(data)
            at.chmod(0o755 if data.startswith(b"#!") else 0o644)


def _pushed(engine: str, target: Reference) -> str:
    """Push, and return the image's name by the digest that the registry gave it."""
    plain = ["--tls-verify=false"] if engine == "podman" and is_plain(target.host) else []
    _run([*client(engine), "push", *plain, str(target)])
    return str(target.by_digest(fetch(target).digest))


def _run(command: Sequence[str]) -> None:
    print("+", shlex.join(command)[:500])
    done = subprocess.run(command, check=False)
    if done.returncode:
        raise AdapterError(f"{command[0]} ended with exit code {done.returncode}; the log says why")
