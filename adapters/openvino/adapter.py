#!/usr/bin/env python3
"""Convert the graphs that the onnx adapter made to OpenVINO's IR; README.md says with which limits."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cogbuild_adapter import NotApplicable, needed_paths, output_path, run

if TYPE_CHECKING:
    from pathlib import Path


def main() -> Path | dict[str, Path]:
    made = {name: _made(graph, name or "model") for name, graph in needed_paths("onnx").items()}
    return made.get("") or made


def _made(graph: Path, name: str) -> Path:
    import openvino

    core = openvino.Core()
    try:
        # Not convert_model(), which tells Intel about it over the network.
        model = core.read_model(graph)
        core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    except RuntimeError as error:
        # OpenVINO is deterministic, and its version counts: asking again would give the same answer.
        raise NotApplicable(_reason(str(error), openvino.__version__.partition("-")[0])) from error
    target = output_path(name)
    target.mkdir()
    openvino.save_model(model, target / "model.xml", compress_to_fp16=False)
    inputs = ", ".join(f"{value.any_name}{value.partial_shape}" for value in model.inputs)
    print(f"inputs {inputs}; outputs {', '.join(value.any_name for value in model.outputs)}")
    return target


def _reason(text: str, version: str) -> str:
    """Return one sentence on why there is no IR, by operator where OpenVINO names one."""
    if found := re.search(r"No conversion rule found for operations: (.+)", text):
        return f"OpenVINO {version} has no conversion for {found[1].strip()}"
    if found := re.search(r"Conversion is failed for: (.+)", text):
        return f"OpenVINO {version} cannot convert {found[1].strip()}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"OpenVINO {version} cannot read the graph: {lines[-1][:200] if lines else 'it does not say why'}"


if __name__ == "__main__":
    run(main)
