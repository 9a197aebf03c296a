#!/usr/bin/env python3
"""Serve the model as Cog does, predict its examples, and report what its inputs are; README.md says how."""

from __future__ import annotations

import importlib.metadata
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogbuild_adapter import AdapterError, Differences, output_path, param, report_fidelity, run
from cogbuild_adapter.cog_examples import checks_input, given_examples, not_ready, predicts
from cogbuild_adapter.images.running import any_client, running
from cogbuild_adapter.schema import run_arguments, schema
from cogbuild_adapter.serving.cog_server import LOOPBACK, CogServer, NotReady

if TYPE_CHECKING:
    Examples = list[dict[str, Any]]


def main() -> Path:
    module, name = os.environ["COG_MODEL_PYTHON_MODULE"], os.environ["COG_MODEL_CLASS"]
    reference = f"{module.replace('.', '/')}.py:{name}"
    described = schema(reference)
    given = given_examples()
    _check_names(described, given)
    image = os.environ.get("COG_CPU_IMAGE", "")
    engine = any_client() if image else None
    seen = Differences()
    if engine is not None:
        with running(engine, image, port_variable="PORT") as container:
            container.wait(not_ready)
            _try(container.url, described, given, seen)
        runtime = f"the image, in {engine[0]}"
    else:
        _beside(reference, described, given, seen)
        runtime = f"cog {importlib.metadata.version('cog')}, in the model's environment"
    if seen.outputs:
        report_fidelity(seen, runtime=runtime, examples=len(given))
    report = {
        "runtime": runtime,
        "examples": len(given),
        "compared": seen.outputs,
        "run_arguments": run_arguments(described),
        "openapi": described,
    }
    target = output_path("test.json")
    target.write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return target


def _check_names(described: dict[str, Any], given: Examples) -> None:
    """Raise ``AdapterError`` for an example with inputs that the model has not, or without those that it wants."""
    inputs = described["components"]["schemas"]["Input"]
    for number, example in enumerate(given, 1):
        names = set(example["input"])
        for what, wrong in (
            ("names inputs that the model does not have", names - set(inputs["properties"])),
            ("lacks inputs that the model wants", set(inputs.get("required", ())) - names),
        ):
            if wrong:
                raise AdapterError(f"example {number} {what}: {', '.join(sorted(wrong))}")


def _beside(reference: str, described: dict[str, Any], given: Examples, seen: Differences) -> None:
    """Try the model with Cog's server in this environment."""
    file = Path(".cog", "openapi_schema.json")
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(described), encoding="utf-8")
    # The log is for people, and so are its lines.
    server = CogServer(env={"COG_PREDICT_TYPE_STUB": reference, "LOG_FORMAT": "console", "NO_COLOR": "1"})
    server.start()
    try:
        server.wait_until_ready(param("setup_seconds", 600))
        _try(f"http://{LOOPBACK}:{server.port}", described, given, seen)
    except NotReady as trouble:
        raise AdapterError(str(trouble)) from None
    finally:
        server.stop()


def _try(url: str, described: dict[str, Any], given: Examples, seen: Differences) -> None:
    checks_input(url, described)
    predicts(url, given, seen)


if __name__ == "__main__":
    run(main)
