"""The image for SageMaker: the model's CPU image, and a layer with what serves it there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cogbuild_adapter import AdapterError, serving
from cogbuild_adapter.images import below_site, cpu_image, derive, fetch, layer, repository_name

if TYPE_CHECKING:
    from cogbuild_adapter.images import Image, Reference

HOME = "/opt/cogbuild/sagemaker"
PORT = 8080
#: What the shim has in common with other servers above Cog's; the kit's other servers are not in the image.
_SHARED = ("__init__.py", "cog_server.py", "door.py")
LABELS = {
    "com.amazonaws.sagemaker.capabilities.accept-bind-to-port": "true",  # so that it may stand beside others
}


def contents() -> dict[str, Path | str | bytes]:
    """Return the files of the layer by their paths in the image."""
    place = Path(serving.__file__).parent
    shared = {f"{HOME}/serving/{name}": place / name for name in _SHARED}
    return {HOME: Path(__file__).with_name("shim"), **shared}


def derived() -> Image:
    """Return the image, which is not sent yet."""
    name = cpu_image()
    base = fetch(name)
    if "run.cog.version" not in base.labels:
        raise AdapterError(f"{name} is no image that Cog or docker-cpu made: it has no label run.cog.version")
    return derive(
        base,
        [layer(contents(), comment="SageMaker's side")],
        entrypoint=["python", "-I", "-S", HOME],
        cmd=["serve"],
        labels=LABELS,
        ports=[PORT],
    )


def target() -> Reference:
    """Return where the image goes: beside the CPU image, whose layers are there already."""
    name = repository_name(os.environ["COG_REPO_USER"], os.environ["COG_REPO_NAME"])
    return below_site(f"{name}:{os.environ['COG_MODEL_ID'][:12]}-sagemaker")
