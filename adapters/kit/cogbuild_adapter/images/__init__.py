r"""Images without a daemon: derive one from another and push it, with the package ``oras`` and the standard library.

from cogbuild_adapter.images import below_site, derive, layer

shim = layer({"/opt/shim.py": Path("shim.py"), "/usr/bin/serve": "#!/bin/sh\nexec python /opt/shim.py\n"})
image = derive(os.environ["COG_CPU_IMAGE"], [shim], cmd=["serve"], ports=[8080], labels={"made.by": "shim"})
print(image.push(below_site("user/name-shim:1")))   # HOST/user/name-shim@sha256:…
"""

from __future__ import annotations

from cogbuild_adapter.images.image import Image, derive, empty, fetch
from cogbuild_adapter.images.layers import Layer, layer, scratch
from cogbuild_adapter.images.reference import Reference, below_site, cpu_image, parse, repository_name
from cogbuild_adapter.images.registry import RegistryError, Repository
from cogbuild_adapter.images.wire import is_plain

__all__ = [
    "Image",
    "Layer",
    "Reference",
    "RegistryError",
    "Repository",
    "below_site",
    "cpu_image",
    "derive",
    "empty",
    "fetch",
    "is_plain",
    "layer",
    "parse",
    "repository_name",
    "scratch",
]
