#!/usr/bin/env python3
"""Serve what was made where it is to be served, and ask it by Triton's client: in MLServer, or in a container."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
from importlib import metadata
from typing import TYPE_CHECKING

from cogbuild_adapter import (
    AdapterError,
    Differences,
    artifact_path,
    artifact_uris,
    examples,
    param,
    report_fidelity,
    run,
)
from cogbuild_adapter.images import scratch
from cogbuild_adapter.kubernetes import read_resource
from cogbuild_adapter.triton_client import Served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PATIENCE = 240  # seconds for setup()


def main() -> None:
    spec = read_resource()["spec"]
    if param("version", "v2") == "v1":
        from cogbuild_adapter.images.open_inference_check import check_image

        (component,) = spec["predictors"][0]["componentSpecs"]
        check_image(artifact_uris()["image"], component["spec"]["containers"][0], examples())
        return
    if spec["storageUri"] != artifact_uris()["model"]:
        raise AdapterError(f"the resource names {spec['storageUri']}, not {artifact_uris()['model']}")
    # Models may write beside their files, and the artifact has to stay as it is.
    folder = shutil.copytree(artifact_path("model"), scratch() / "model", symlinks=True)
    name = read_resource()["metadata"]["name"]
    given, seen = examples(), Differences()
    with _mlserver(folder) as url:
        model = Served(url, name, binary=False)
        model.wait(_PATIENCE)
        model.check_examples(given, seen)
        model.checks_input(json.loads((folder / "src" / ".cog" / "openapi_schema.json").read_text()))
    version = (
        f"MLServer {metadata.version('mlserver')}, asked by tritonclient {metadata.version('tritonclient')}"
    )
    report_fidelity(seen, artifact="model", runtime=version, examples=len(given))


@contextlib.contextmanager
def _mlserver(folder: Path) -> Iterator[str]:
    """Run MLServer for *folder*; yields its address."""
    ports = _free_ports(3)
    named = {
        f"MLSERVER_{kind}_PORT": str(port)
        for kind, port in zip(("HTTP", "GRPC", "METRICS"), ports, strict=True)
    }
    place = scratch()
    env = {**os.environ, **named, "MLSERVER_HOST": "127.0.0.1"}
    process = subprocess.Popen(["mlserver", "start", str(folder)], cwd=place, env=env)
    try:
        yield f"http://127.0.0.1:{ports[0]}"
        if process.poll() is not None:
            raise AdapterError(f"MLServer ended by itself, with {process.returncode}")
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    except subprocess.TimeoutExpired:
        raise AdapterError("MLServer did not end 30 s after it was asked to") from None
    finally:
        process.kill()
        process.wait()


def _free_ports(how_many: int) -> list[int]:
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(how_many)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


if __name__ == "__main__":
    run(main)
