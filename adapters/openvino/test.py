#!/usr/bin/env python3
"""Run the published IR on OpenVINO's CPU runtime, in float32, on what the examples put into the networks, and compare."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from cogbuild_adapter import (
    AdapterError,
    Differences,
    artifact_paths,
    called_networks,
    cases,
    examples,
    load,
    param,
    report_fidelity,
    run,
)

if TYPE_CHECKING:
    from pathlib import Path

    from cogbuild_adapter import Network


def main() -> None:
    given = examples()
    networks = called_networks(load(), lambda: given, param("network", ""))
    paths = artifact_paths()
    if set(networks) != set(paths):
        raise AdapterError(
            "onnx made other networks than the examples call: give openvino the same parameter `network` as onnx"
        )
    for name, network in networks.items():
        _judge(name, network, paths[name], len(given))


def _judge(name: str, network: Network, made: Path, given: int) -> None:
    import openvino

    # By default the plugin computes in what the processor is fastest at, which may be bfloat16.
    model = openvino.Core().compile_model(made / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    seen = Differences()
    for case in cases(network, [_free(value) for value in model.inputs]):
        got = model(list(case.inputs))
        for at, wanted in case.outputs.items():
            seen.check(f"{case.label}, output {model.outputs[at].any_name}", wanted, got[at])
    version = openvino.__version__.partition("-")[0]
    report_fidelity(seen, artifact=name, runtime=f"OpenVINO {version}, CPU, f32", examples=given)


def _free(value: Any) -> dict[int, int]:
    return {
        at: size.get_max_length() if size.get_max_length() > 0 else sys.maxsize
        for at, size in enumerate(value.partial_shape)
        if size.is_dynamic
    }


if __name__ == "__main__":
    run(main)
