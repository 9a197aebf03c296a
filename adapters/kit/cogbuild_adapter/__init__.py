"""What Python adapters share. An adapter in ten lines:

    #!/usr/bin/env python3
    import json
    from cogbuild_adapter import examples, load, output_path, run

    def main():
        predictor = load()                       # as Cog does: imported, setup() called
        answers = [predictor.predict(example.input) for example in examples()]
        target = output_path("answers.json")
        target.write_text(json.dumps(answers, default=str))
        return target                            # becomes the one line on stdout

    run(main)

``python: {kit: true}`` in ``cog-adapter.yaml`` puts this package on the path and its files into the key. Importing it
needs the standard library only; ``load`` needs the ``cog`` package in the adapter's environment.
"""

from __future__ import annotations

from cogbuild_adapter.contract import (
    AdapterError,
    Example,
    NotApplicable,
    Refers,
    artifact_path,
    artifact_paths,
    artifact_reference,
    artifact_uris,
    examples,
    needed_paths,
    output_path,
    param,
    run,
)
from cogbuild_adapter.fidelity import Differences, report_fidelity
from cogbuild_adapter.networks import Network, called_networks, find_networks, observe
from cogbuild_adapter.predictor import Predictor, load
from cogbuild_adapter.replay import Case, cases
from cogbuild_adapter.watching import Call

__all__ = [
    "AdapterError",
    "Call",
    "Case",
    "Differences",
    "Example",
    "Network",
    "NotApplicable",
    "Predictor",
    "Refers",
    "artifact_path",
    "artifact_paths",
    "artifact_reference",
    "artifact_uris",
    "called_networks",
    "cases",
    "examples",
    "find_networks",
    "load",
    "needed_paths",
    "observe",
    "output_path",
    "param",
    "report_fidelity",
    "run",
]
