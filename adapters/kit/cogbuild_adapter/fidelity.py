"""How far an artifact is from its model: one number kept with it.

Needs numpy where arrays are compared.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogbuild_adapter.contract import AdapterError

if TYPE_CHECKING:
    import numpy as np


@dataclass
class Differences:
    """The largest differences seen between a model and its artifact; labels and other exact values have to be equal.

    A number may be off by *allowed_absolute* + *allowed_relative* * |what the model gives|.
    """

    allowed_absolute: float = 1e-5
    allowed_relative: float = 1e-3
    absolute: float = field(default=0.0, init=False)
    relative: float = field(default=0.0, init=False)
    outputs: int = field(default=0, init=False)  # how many were compared

    def check(self, where: str, wanted: np.ndarray[Any, Any], got: np.ndarray[Any, Any]) -> None:
        """Take one output into account; raise ``AdapterError`` where it is too far off."""
        import numpy as np

        wanted = wanted.reshape(got.shape) if wanted.size == got.size else wanted
        self.outputs += 1
        if wanted.shape != got.shape:
            raise AdapterError(f"{where}: the artifact gives the shape {got.shape}, the model {wanted.shape}")
        if wanted.dtype.kind not in "fc":
            if not np.array_equal(wanted, got):
                raise AdapterError(
                    f"{where}: {np.sum(wanted != got)} of {wanted.size} values are not the model's"
                )
            return
        wanted, got = wanted.astype(np.float64), got.astype(np.float64)
        away = np.abs(got - wanted)
        self.absolute = max(self.absolute, float(np.nanmax(away, initial=0)))
        known = np.abs(wanted) > self.allowed_absolute
        self.relative = max(self.relative, float(np.nanmax(away[known] / np.abs(wanted[known]), initial=0)))
        if not np.allclose(
            got, wanted, rtol=self.allowed_relative, atol=self.allowed_absolute, equal_nan=True
        ):
            raise AdapterError(
                f"{where}: the artifact is off by up to {np.nanmax(away, initial=0):.2g}, "
                f"more than {self.allowed_absolute:g} + {self.allowed_relative:g} of the model's value"
            )

    def check_json(self, where: str, wanted: Any, got: Any) -> None:
        """Take one output that was sent as JSON into account; needs no numpy."""
        self.outputs += 1
        if not self._same(wanted, got):
            raise AdapterError(f"{where}: the output is {got}, not {wanted}")

    def _same(self, wanted: Any, got: Any) -> bool:
        if isinstance(wanted, dict):
            keys = isinstance(got, dict) and set(got) == set(wanted)
            return keys and all(self._same(wanted[key], got[key]) for key in wanted)
        if isinstance(wanted, list):
            long = isinstance(got, list) and len(got) == len(wanted)
            return long and all(self._same(one, other) for one, other in zip(wanted, got, strict=True))
        if not isinstance(wanted, float) or not isinstance(got, (int, float)):
            return bool(got == wanted)
        away = abs(got - wanted)
        self.absolute = max(self.absolute, away)
        if abs(wanted) > self.allowed_absolute:
            self.relative = max(self.relative, away / abs(wanted))
        return away <= self.allowed_absolute + self.allowed_relative * abs(wanted)


def report_fidelity(seen: Differences, *, runtime: str, examples: int, artifact: str = "") -> None:
    """Keep with *artifact* (empty where there is one) how far it is from the model, and say so in the log.

    *runtime* is what ran it, with its version: ``onnxruntime 1.32.0``. *examples* is how many examples were replayed.
    """
    row = {
        "artifact": artifact,
        "runtime": runtime,
        "absolute": seen.absolute,
        "relative": seen.relative,
        "examples": examples,
        "outputs": seen.outputs,
    }
    # A cogbuild that keeps such rows names the file; any other has them in the log.
    if name := os.environ.get("COG_FIDELITY_FILE"):
        with Path(name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    print(
        f"{f'{artifact}: ' if artifact else ''}largest difference: absolute {seen.absolute:.2g}, "
        f"relative {seen.relative:.2g}, over {seen.outputs} outputs of {examples} examples, in {runtime}"
    )
