#!/usr/bin/env python3
"""Run the published graphs in onnxruntime on what the examples put into the networks, and on shapes that none has."""

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
    for name, network in networks.items():
        _judge(name, network, paths[name], len(given))


def _judge(name: str, network: Network, graph: Path, given: int) -> None:
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise AdapterError(
            f"onnxruntime cannot load the graph: {str(error).strip().splitlines()[0]}"
        ) from error
    seen = Differences()
    inputs = [value.name for value in session.get_inputs()]
    outputs = [value.name for value in session.get_outputs()]
    for case in cases(network, [_free(value) for value in session.get_inputs()]):
        asked = {outputs[at]: wanted for at, wanted in case.outputs.items()}
        try:
            got = session.run(list(asked), dict(zip(inputs, case.inputs, strict=True)))
        except Exception as error:
            first = str(error).strip().splitlines()[0]
            raise AdapterError(f"{case.label}: onnxruntime cannot run the graph: {first}") from error
        for (output, wanted), answer in zip(asked.items(), got, strict=True):
            seen.check(f"{case.label}, output {output}", wanted, answer)
    report_fidelity(seen, artifact=name, runtime=f"onnxruntime {onnxruntime.__version__}", examples=given)


def _free(value: Any) -> dict[int, int]:
    return {at: sys.maxsize for at, size in enumerate(value.shape) if not isinstance(size, int)}


if __name__ == "__main__":
    run(main)
