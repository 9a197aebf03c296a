#!/usr/bin/env python3
"""Read the saved packages back and execute them on what the examples put into the networks, and compare with the model.

By Apple's runtime where there is one; elsewhere operation by operation in numpy.
"""

from __future__ import annotations

import logging
import platform
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from cogbuild_adapter import (
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
from coreml_estimators import evaluated
from coreml_program import Program

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cogbuild_adapter import Case, Network

    Array = np.ndarray[Any, Any]

logging.getLogger("coremltools").setLevel(logging.CRITICAL)

#: Allowed: absolute and relative difference; float16 has three digits, and they add up.
_ALLOWED = {"float32": (1e-5, 1e-4), "float16": (1e-2, 2e-2)}


def main() -> None:
    given = examples()
    networks = called_networks(load(), lambda: given, param("network", ""))
    paths = artifact_paths()
    for name, network in networks.items():
        _judge(name, network, paths[name], len(given))


def _judge(name: str, network: Network, package: Path, given: int) -> None:
    program = Program(package)
    seen = Differences(*_ALLOWED[param("precision", "float32")])
    answers = (_apple if sys.platform == "darwin" else _ours)(program, package, network.kind == "torch")
    outputs = [item.name for item in program.spec.description.output]
    for case in cases(network, _free(program.spec, network.kind == "torch")):
        got = answers(case)
        for at, wanted in case.outputs.items():
            seen.check(f"{case.label}, output {outputs[min(at, len(outputs) - 1)]}", wanted, got[at])
    report_fidelity(seen, artifact=name, runtime=_runtime(), examples=given)


def _runtime() -> str:
    if sys.platform == "darwin":
        return f"Core ML, macOS {platform.mac_ver()[0]}"
    return f"numpy {np.__version__} op by op, not Apple's runtime"


def _free(spec: Any, is_torch: bool) -> list[dict[int, int]]:
    """Return the free dimensions of each input; an estimator takes one row, and as many one after the other."""
    if not is_torch:
        return [{0: sys.maxsize}]
    return [
        {
            at: size.upperBound
            for at, size in enumerate(item.type.multiArrayType.shapeRange.sizeRanges)
            if size.lowerBound != size.upperBound
        }
        for item in spec.description.input
    ]


def _fed(spec: Any, case: Case) -> dict[str, Array]:
    # Core ML has no scalars: they are vectors of one.
    return {
        item.name: np.atleast_1d(array)
        for item, array in zip(spec.description.input, case.inputs, strict=True)
    }


def _ours(program: Program, _package: Path, is_torch: bool) -> Callable[[Case], Any]:
    spec = program.spec

    def answered(case: Case) -> dict[int, Array]:
        if is_torch:
            made = program.run(_fed(spec, case))
            return dict(enumerate(made[item.name] for item in spec.description.output))
        rows = [evaluated(spec, row.astype(np.float64)) for row in case.inputs[0]]
        if rows[0].labels is None:
            return {0: np.array([row.numbers for row in rows])}
        return {0: np.array([row.label for row in rows]), 1: np.array([row.numbers for row in rows])}

    return answered


def _apple(program: Program, package: Path, is_torch: bool) -> Callable[[Case], Any]:
    import coremltools

    model = coremltools.models.MLModel(str(package), compute_units=coremltools.ComputeUnit.CPU_ONLY)
    names = [item.name for item in program.spec.description.output]

    def answered(case: Case) -> dict[int, Array]:
        if is_torch:
            fed = {
                name: array.astype(np.float32 if array.dtype.kind == "f" else np.int32)
                for name, array in _fed(program.spec, case).items()
            }
            made = model.predict(fed)
            return dict(enumerate(made[name] for name in names))
        (taken,) = (item.name for item in program.spec.description.input)
        rows = [model.predict({taken: row}) for row in case.inputs[0]]
        return {at: np.array([_plain(row[name]) for row in rows]) for at, name in enumerate(names)}

    return answered


def _plain(value: Any) -> Any:
    return [value[label] for label in sorted(value)] if isinstance(value, dict) else value


if __name__ == "__main__":
    run(main)
