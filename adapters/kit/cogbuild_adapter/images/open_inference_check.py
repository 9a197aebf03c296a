"""For a ``test:``: an image that serves the Open Inference Protocol, run as its resource says."""

from __future__ import annotations

import json
from importlib import metadata
from typing import TYPE_CHECKING, Any

from cogbuild_adapter.contract import AdapterError
from cogbuild_adapter.fidelity import Differences, report_fidelity
from cogbuild_adapter.images.image import fetch
from cogbuild_adapter.images.open_inference import SCHEMA_LABEL
from cogbuild_adapter.images.running import any_client, running
from cogbuild_adapter.triton_client import Served

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cogbuild_adapter.contract import Example


def check_image(name: str, container: Mapping[str, Any], examples: list[Example]) -> None:
    """See that the registry has all of the image, and that a container like *container* predicts the examples."""
    if container["image"] != name:
        raise AdapterError(f"the resource runs {container['image']}, not {name}")
    image = fetch(name)
    if missing := image.missing():
        raise AdapterError(f"the registry lacks {len(missing)} parts of {name}")
    engine = any_client()
    if engine is None:
        print("no podman or docker can be used here: the image was looked at and not run")
        return
    called = next(item["value"] for item in container["env"] if item["name"] == "MODEL_NAME")
    seen = Differences()
    with running(engine, name, port_variable="PORT", env={"MODEL_NAME": called}) as served:
        for binary in (False, True):
            model = Served(served.url, called, binary=binary)
            served.wait(lambda _, model=model: None if model.ready() else "it does not say that it is ready")
            model.check_examples(examples, seen)
            model.checks_input(json.loads(image.labels[SCHEMA_LABEL]))
        if code := served.stop(30):
            raise AdapterError(f"asked to end, the container ends with {code}")
    version = f"{engine[0]}, asked by tritonclient {metadata.version('tritonclient')}"
    report_fidelity(seen, artifact="image", runtime=version, examples=len(examples))
