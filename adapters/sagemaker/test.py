#!/usr/bin/env python3
"""Check the image by SageMaker's contract: it is whole, and run with `serve` it answers `/ping` and `/invocations`."""

from __future__ import annotations

import json
import os
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogbuild_adapter import AdapterError, Differences, report_fidelity, run
from cogbuild_adapter.cog_examples import given_examples
from cogbuild_adapter.images import fetch
from cogbuild_adapter.images.running import any_client, ask, inputs_to_send, running
from sagemaker_image import LABELS

if TYPE_CHECKING:
    from cogbuild_adapter.images.running import Container

_END_WITHIN = 30  # seconds that SageMaker gives a container


def main() -> None:
    name = os.environ["COG_ARTIFACT_URI"]
    if name.startswith("arn:"):
        from sagemaker_aws import SageMaker

        name = SageMaker(name.split(":")[3]).image_of(name)
    image = fetch(name)
    if missing := image.missing():
        raise AdapterError(f"the registry lacks {len(missing)} parts of {name}")
    if absent := [label for label in LABELS if label not in image.labels]:
        raise AdapterError(f"{name} has no label {', '.join(absent)}")
    engine = any_client()
    if engine is None:
        print("no podman or docker can be used here: the image was looked at and not run")
        return
    given = given_examples()
    seen = Differences()
    with running(engine, name, port_variable="SAGEMAKER_BIND_TO_PORT", command=["serve"]) as container:
        container.wait(_not_ready)
        # All at once: whatever the model takes at a time, the others wait.
        with ThreadPoolExecutor(max(len(given), 1)) as pool:
            answers = list(pool.map(lambda example: _predicted(container.url, example), given))
        for number, (example, answer) in enumerate(zip(given, answers, strict=True), 1):
            _judge(f"example {number}", example, answer, seen)
        _ends(container)
    version = f"cog {image.labels['run.cog.version']} behind /invocations in {engine[0]}"
    for artifact in _artifacts():
        report_fidelity(seen, runtime=version, examples=len(given), artifact=artifact)


def _artifacts() -> list[str]:
    """Return whose fidelity it is: the one artifact's, or the model's among several."""
    listed = os.environ.get("COG_ARTIFACTS_FILE")
    rows = Path(listed).read_text(encoding="utf-8").splitlines() if listed and Path(listed).exists() else []
    return ["model"] if len(rows) > 1 else [""]


def _not_ready(url: str) -> str | None:
    try:
        ask(f"{url}/ping")
    except urllib.error.HTTPError as error:
        status = json.load(error)["status"]
        if error.code != 503:
            raise AdapterError(f"/ping answers {error.code} while the server says {status}") from None
        if status in ("SETUP_FAILED", "DEFUNCT"):
            raise AdapterError(f"in the image the model's setup() fails: /ping says {status}") from None
        return f"/ping says {status}"
    except OSError as error:
        return f"/ping does not answer: {error}"
    return None


def _predicted(url: str, example: dict[str, Any]) -> Any:
    try:
        return ask(f"{url}/invocations", {"input": inputs_to_send(example["input"])})
    except urllib.error.HTTPError as error:
        return AdapterError(f"/invocations answers {error.code}: {error.read(300)!r}")


def _judge(where: str, example: dict[str, Any], answer: Any, seen: Differences) -> None:
    if isinstance(answer, AdapterError):
        raise AdapterError(f"{where}: {answer}")
    if example.get("output") is not None:
        seen.check_json(where, example["output"], answer["output"])


def _ends(container: Container) -> None:
    code = container.stop(_END_WITHIN)
    if code != 0:
        raise AdapterError(f"asked to end, the container ends with {code} within {_END_WITHIN} s, not with 0")


if __name__ == "__main__":
    run(main)
