#!/usr/bin/env python3
"""Run the published graph in onnxruntime on what the examples put into the network, and compare with the model's own."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from cogbuild_adapter import AdapterError, artifact_path, examples, load, param, run, the_network

#: Allowed: ABSOLUTE + RELATIVE * |what the model gives|. Graphs compute in float32, and in another order.
ABSOLUTE = 1e-5
RELATIVE = 1e-3


class Differences:
    """The largest differences seen; labels and other exact values have to be equal."""

    def __init__(self) -> None:
        self.absolute = self.relative = 0.0
        self.compared = 0

    def check(self, where: str, wanted: np.ndarray[Any, Any], got: np.ndarray[Any, Any]) -> None:
        """Take one output into account; raise where it is too far off."""
        wanted = wanted.reshape(got.shape) if wanted.size == got.size else wanted
        self.compared += 1
        if wanted.shape != got.shape:
            raise AdapterError(f"{where}: the graph gives the shape {got.shape}, the model {wanted.shape}")
        if wanted.dtype.kind not in "fc":
            if not np.array_equal(wanted, got):
                raise AdapterError(
                    f"{where}: {np.sum(wanted != got)} of {wanted.size} values are not the model's"
                )
            return
        wanted, got = wanted.astype(np.float64), got.astype(np.float64)
        away = np.abs(got - wanted)
        self.absolute = max(self.absolute, float(np.nanmax(away, initial=0)))
        known = np.abs(wanted) > ABSOLUTE
        self.relative = max(self.relative, float(np.nanmax(away[known] / np.abs(wanted[known]), initial=0)))
        if not np.allclose(got, wanted, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True):
            raise AdapterError(
                f"{where}: the graph is off by up to {np.nanmax(away, initial=0):.2g}, "
                f"more than {ABSOLUTE:g} + {RELATIVE:g} of the model's value"
            )


def main() -> None:
    import onnxruntime

    network = the_network(load(), examples, param("network", ""))
    framework: Any = import_module(f"onnx_from_{network.kind}")
    try:
        session = onnxruntime.InferenceSession(str(artifact_path()), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise AdapterError(
            f"onnxruntime cannot load the graph: {str(error).strip().splitlines()[0]}"
        ) from error
    seen = Differences()
    for label, feed, wanted in framework.cases(network.value, network.calls, session):
        got = session.run(list(wanted), feed)
        for (name, value), answer in zip(wanted.items(), got, strict=True):
            seen.check(f"{label}, output {name}", value, answer)
    print(
        f"largest difference: absolute {seen.absolute:.2g}, relative {seen.relative:.2g}, "
        f"over {seen.compared} outputs of {len(network.calls)} calls, in onnxruntime {onnxruntime.__version__}"
    )


if __name__ == "__main__":
    run(main)
