"""A folder that MLServer serves: the model, its packages, and a runtime that runs Cog's own server for it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogbuild_adapter import AdapterError, NotApplicable, cog_yaml, output_path, packages, serving
from cogbuild_adapter.schema import schema
from cogbuild_adapter.serving.tensors import Interface

if TYPE_CHECKING:
    from cogbuild_adapter.cog_yaml import Model

_RUNTIME = Path(__file__).with_name("seldon_runtime.py")
#: What of the kit the runtime imports.
_SERVING = ("__init__.py", "cog_server.py", "tensors.py", "wire.py")
_LEFT_OUT = {"__pycache__", ".git"}


def check(how: str) -> Model:
    """Return what the model wants; say what a folder cannot bring before anything is made."""
    if how not in ("bundled", "server"):
        raise AdapterError(f"the parameter packages is {how!r}, but it has to be bundled or server")
    wanted = cog_yaml.read()
    if how == "bundled" and (wanted.system_packages or wanted.commands):
        what = ", ".join(wanted.system_packages) or "commands run when its image is built"
        raise NotApplicable(
            f"the model wants {what}, which a folder cannot bring: set the parameter packages to server and give "
            "MLServer an image that has it, or version to v1"
        )
    return wanted


def write_folder(wanted: Model, name: str, *, bundled: bool) -> Path:
    """Write the folder, for a model that is called *name*, with its packages where *bundled*, and return it."""
    folder = output_path("model")
    folder.mkdir()
    # The model's files first: importing it, or installing what it wants, may leave others.
    _copy(Path.cwd(), folder / "src")
    if bundled:
        frozen = packages.install(wanted.requirements, folder / "packages")
    else:
        frozen = packages.listed(wanted.requirements, folder / "packages")
    (folder / "requirements.txt").write_text(frozen + "\n", encoding="utf-8")
    described = schema(wanted.reference)
    (folder / "src" / ".cog").mkdir(exist_ok=True)
    (folder / "src" / ".cog" / "openapi_schema.json").write_text(json.dumps(described), encoding="utf-8")
    runtime = _write_runtime(folder)
    settings = {
        "name": name,
        "platform": "cog",
        "implementation": f"{runtime}.runtime.CogRuntime",
        **Interface(described).metadata(),
        "parameters": {
            "uri": ".",
            "version": os.environ["COG_MODEL_ID"][:12],
            "extra": {
                "predictor": wanted.reference,
                "env": wanted.env,
                # Packages hold compiled code for one Python.
                "python": cog_yaml.python_version() if bundled else "",
            },
        },
    }
    (folder / "model-settings.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return folder


def _copy(model: Path, target: Path) -> None:
    """Copy the model's files. Links inside it become files, since object stores hold no links; those that lead out go."""
    root = os.path.realpath(model)

    def ignored(place: str, names: list[str]) -> set[str]:
        def leads_out(path: str) -> bool:
            real = os.path.realpath(path)
            return os.path.islink(path) and not (real.startswith(root + "/") and os.path.exists(real))

        return {name for name in names if name in _LEFT_OUT or leads_out(os.path.join(place, name))}

    shutil.copytree(model, target, ignore=ignored)


def _write_runtime(folder: Path) -> str:
    """Write the runtime's package and return its name, which is that of its content.

    One MLServer holds many models and imports a module of one name once: what is called the same has to be the same.
    """
    sources: dict[str, Any] = {name: (Path(serving.__file__).parent / name).read_bytes() for name in _SERVING}
    sources["runtime.py"] = _RUNTIME.read_bytes()
    digest = hashlib.sha256(b"".join(hashlib.sha256(data).digest() for data in sources.values())).hexdigest()
    package = folder / f"cog_runtime_{digest[:12]}"
    package.mkdir()
    for name, data in sources.items():
        (package / name).write_bytes(data)
    return package.name
