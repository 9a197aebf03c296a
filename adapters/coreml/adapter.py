#!/usr/bin/env python3
"""Convert the networks that the model's predictor holds to Core ML; README.md says how and with which limits."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

import coreml_package
from cogbuild_adapter import AdapterError, called_networks, examples, load, output_path, param, run

if TYPE_CHECKING:
    from pathlib import Path

    from cogbuild_adapter import Network

# coremltools says at each import what is not there on Linux, and draws its progress.
logging.getLogger("coremltools").setLevel(logging.CRITICAL)
os.environ["TQDM_DISABLE"] = "1"


def main() -> Path | dict[str, Path]:
    settings = _settings()
    networks = called_networks(load(), examples, param("network", ""))
    made = {name: _made(network, name or "model", settings) for name, network in networks.items()}
    return made.get("") or made


def _settings() -> dict[str, Any]:
    import coremltools

    precisions = {"float32": coremltools.precision.FLOAT32, "float16": coremltools.precision.FLOAT16}
    targets = {target.name: target for target in coremltools.target if target >= coremltools.target.iOS15}
    precision, target = param("precision", "float32"), param("target", "iOS16")
    for name, value, known in (("precision", precision, precisions), ("target", target, targets)):
        if value not in known:
            raise AdapterError(
                f"the parameter {name} is {value!r}, but it has to be one of {', '.join(known)}"
            )
    return {
        "compute_precision": precisions[precision],
        "minimum_deployment_target": targets[target],
        "largest": param("largest", 1024),
    }


def _made(network: Network, name: str, settings: dict[str, Any]) -> Path:
    print(f"converting {network} from {len(network.calls)} recorded calls")
    if network.kind == "torch":
        from coreml_from_torch import convert

        spec, weights = convert(network, **settings)
    else:
        from coreml_from_estimators import convert as convert_estimator

        spec, weights = convert_estimator(network), None
    target = output_path(f"{name}.mlpackage")
    coreml_package.write(spec, weights, target, about=str(network))
    described = spec.description
    print(
        f"inputs {', '.join(item.name for item in described.input)}; "
        f"outputs {', '.join(item.name for item in described.output)}"
    )
    return target


if __name__ == "__main__":
    run(main)
