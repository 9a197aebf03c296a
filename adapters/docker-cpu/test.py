#!/usr/bin/env python3
"""Check the pushed image: all of it is in the registry, it says what Cog's images say, and served it predicts."""

from __future__ import annotations

import json
import os

from cogbuild_adapter import AdapterError, Differences, report_fidelity, run
from cogbuild_adapter.cog_examples import checks_input, given_examples, not_ready, predicts
from cogbuild_adapter.images import fetch
from cogbuild_adapter.images.running import any_client, running

_LABELS = ("run.cog.version", "run.cog.config", "run.cog.openapi_schema", "run.cog.pip_freeze")


def main() -> None:
    name = os.environ["COG_ARTIFACT_URI"]
    image = fetch(name)
    if missing := image.missing():
        raise AdapterError(f"the registry lacks {len(missing)} parts of {name}")
    if absent := [label for label in _LABELS if label not in image.labels]:
        raise AdapterError(f"{name} has no label {', '.join(absent)}")
    schema = json.loads(image.labels["run.cog.openapi_schema"])
    engine = any_client()
    if engine is None:
        print("no podman or docker can be used here: the image was looked at and not run")
        return
    given = given_examples()
    seen = Differences()
    with running(engine, name, port_variable="PORT") as container:
        container.wait(not_ready)
        checks_input(container.url, schema)
        predicts(container.url, given, seen)
    version = f"cog {image.labels['run.cog.version']} in {engine[0]}"
    report_fidelity(seen, runtime=version, examples=len(given))


if __name__ == "__main__":
    run(main)
