#!/usr/bin/env python3
"""Check the pushed image: all of it is in the registry, it says what Cog's images say, and served it predicts."""

from __future__ import annotations

import json
import os
import time
import urllib.error
from pathlib import Path
from typing import Any

from cogbuild_adapter import AdapterError, Differences, report_fidelity, run
from cogbuild_adapter.images import fetch
from cogbuild_adapter.images.running import PATIENCE, any_client, ask, inputs_in_image, running

_LABELS = ("run.cog.version", "run.cog.config", "run.cog.openapi_schema", "run.cog.pip_freeze")


def main() -> None:
    name = os.environ["COG_ARTIFACT_URI"]
    image = fetch(name)
    if missing := image.missing():
        raise AdapterError(f"the registry lacks {len(missing)} parts of {name}")
    if absent := [label for label in _LABELS if label not in image.labels]:
        raise AdapterError(f"{name} has no label {', '.join(absent)}")
    json.loads(image.labels["run.cog.openapi_schema"])
    engine = any_client()
    if engine is None:
        print("no podman or docker can be used here: the image was looked at and not run")
        return
    given = json.loads(Path(os.environ["COG_EXAMPLES_FILE"]).read_text(encoding="utf-8"))
    seen = Differences()
    with running(engine, name, port_variable="PORT") as container:
        container.wait(_not_ready)
        _checks_input(container.url, json.loads(image.labels["run.cog.openapi_schema"]))
        for number, example in enumerate(given, 1):
            _predicts(container.url, f"example {number}", example, seen)
    version = f"cog {image.labels['run.cog.version']} in {engine[0]}"
    report_fidelity(seen, runtime=version, examples=len(given))


def _not_ready(url: str) -> str | None:
    """Return why the model is not set up yet; nothing where it is."""
    status = _status(url)
    if status in ("SETUP_FAILED", "DEFUNCT"):
        raise AdapterError(f"in the image the model's setup() fails: the server says {status}")
    return None if status == "READY" else f"the server says {status}"


def _status(url: str) -> str | None:
    try:
        found: str = ask(f"{url}/health-check")["status"]
    except (OSError, ValueError):
        return None
    return found


def _checks_input(url: str, schema: dict[str, Any]) -> None:
    """Where an input has to be given, the server refuses a request without it; it does so only with a schema."""
    if not schema["components"]["schemas"]["Input"].get("required"):
        return
    try:
        answer = ask(f"{url}/predictions", {"input": {}})
    except urllib.error.HTTPError as error:
        if error.code == 422:
            return
        raise AdapterError(f"to no input the server answers {error.code}, not 422") from None
    raise AdapterError(
        f"the server takes no input where one has to be given, and says {answer.get('status')}"
    )


def _predicts(url: str, where: str, example: dict[str, Any], seen: Differences) -> None:
    """Predict one example, and compare with its output where it has one."""
    try:
        answer = _predicted(url, inputs_in_image(example["input"]))
    except urllib.error.HTTPError as error:
        raise AdapterError(f"{where}: the server answers {error.code}: {error.read(300)!r}") from None
    if answer.get("status") != "succeeded":
        raise AdapterError(f"{where}: the prediction ends as {answer.get('status')}: {answer.get('error')}")
    if example.get("output") is not None:
        seen.check_json(where, example["output"], answer["output"])


def _predicted(url: str, values: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to one request; for a moment after one has ended, the server may still be busy with it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return ask(f"{url}/predictions", {"input": values})
        except urllib.error.HTTPError as error:
            if error.code != 409 or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


if __name__ == "__main__":
    run(main)
