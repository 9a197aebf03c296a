"""The model's CPU image with the Open Inference Protocol (V2) served in it, on port 8080, above Cog's own server."""

from __future__ import annotations

import os
from pathlib import Path

from cogbuild_adapter import serving
from cogbuild_adapter.contract import AdapterError
from cogbuild_adapter.images.image import derive, fetch
from cogbuild_adapter.images.layers import layer
from cogbuild_adapter.images.reference import below_site, cpu_image, repository_name

PORT = 8080
SCHEMA_LABEL = "run.cog.openapi_schema"
_PLACE = "/opt/cogbuild/open-inference"
_SERVE = f'from serving.open_inference import main\n\nmain("{_PLACE}/schema.json")\n'


def push_open_inference() -> str:
    """Derive the image from ``COG_CPU_IMAGE``, push it, and return its name by digest.

    All adapters that serve this protocol share it, in the repository ``<user>/<name>-open-inference``.
    """
    user, name = os.environ["COG_REPO_USER"], os.environ["COG_REPO_NAME"]
    version = os.environ["COG_MODEL_ID"][:12]
    target = below_site(f"{repository_name(user, name + '-open-inference')}:{version}")
    base = fetch(cpu_image())
    if SCHEMA_LABEL not in base.labels:
        raise AdapterError(
            f"the image {os.environ['COG_CPU_IMAGE']} has no label {SCHEMA_LABEL}, which says what the model takes: "
            "let docker-cpu or `cog build` make it"
        )
    shim = layer(
        {
            f"{_PLACE}/serve.py": _SERVE,
            f"{_PLACE}/serving": Path(serving.__file__).parent,
            f"{_PLACE}/schema.json": base.labels[SCHEMA_LABEL],
        },
        comment="the Open Inference Protocol above Cog's server",
        skip=("__pycache__",),
    )
    settings = {"cmd": ["python", f"{_PLACE}/serve.py"], "env": {"MODEL_VERSION": version}, "ports": [PORT]}
    return derive(base, [shim], **settings).push(target)
