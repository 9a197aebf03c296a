"""A model that is served over the Open Inference Protocol, asked by Triton's client. Needs ``tritonclient[http]``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cogbuild_adapter.contract import AdapterError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cogbuild_adapter.contract import Example
    from cogbuild_adapter.fidelity import Differences

_SENT = {"INT64": "int64", "FP64": "float64", "BOOL": "bool", "BYTES": "object"}


class Served:
    """The model *name* at *url*; *binary* says whether tensors are sent and wanted in binary."""

    def __init__(self, url: str, name: str, *, binary: bool) -> None:
        import tritonclient.http as triton

        self._triton, self.name, self.binary = triton, name, binary
        self.client = triton.InferenceServerClient(urlsplit(url).netloc, network_timeout=300)

    def ready(self) -> bool:
        """Whether the server and the model say that they are ready."""
        try:
            return self.client.is_server_ready() and self.client.is_model_ready(self.name)
        except OSError:  # nobody listens yet
            return False

    def wait(self, patience: float) -> None:
        """Return when the model is ready; ``AdapterError`` where that takes longer than *patience* seconds."""
        deadline = time.monotonic() + patience
        while not self.ready():
            if time.monotonic() > deadline:
                raise AdapterError(f"the model is not ready after {patience:g} s")
            time.sleep(0.3)

    def check_examples(self, examples: list[Example], seen: Differences) -> None:
        """Predict the examples and compare what comes with their outputs."""
        described = self.client.get_model_metadata(self.name)
        for number, example in enumerate(examples, 1):
            try:
                got = self.infer(example.input, described)
            except self._triton.InferenceServerException as error:
                raise AdapterError(f"example {number}: the server says: {error}") from None
            if example.output is not None:
                seen.check_json(f"example {number}", example.output, _output(got, described, example.output))

    def infer(self, values: Mapping[str, Any], described: Mapping[str, Any]) -> dict[str, Any]:
        """Return the tensors of the output, as lists by name, for inputs by name."""
        kinds = {item["name"]: item for item in described["inputs"]}
        if unknown := [name for name in values if name not in kinds]:
            raise AdapterError(f"the served model has no input {unknown[0]}")
        inputs = [self._input(kinds[name], value) for name, value in values.items()]
        outputs = [
            self._triton.InferRequestedOutput(item["name"], binary_data=self.binary)
            for item in described["outputs"]
        ]
        result = self.client.infer(self.name, inputs, outputs=outputs or None)
        names = [item["name"] for item in result.get_response()["outputs"]]
        return {name: result.as_numpy(name).tolist() for name in names}

    def checks_input(self, schema: Mapping[str, Any]) -> None:
        """Where *schema* has an input that has to be given, a request without it is refused as the client's mistake."""
        if schema["components"]["schemas"]["Input"].get("required") and not self._refuses_nothing():
            raise AdapterError("a request without the inputs that have to be given is not refused")

    def _refuses_nothing(self) -> bool:
        try:
            self.infer({}, {"inputs": [], "outputs": []})
        except self._triton.InferenceServerException as error:
            return str(error.status()) in ("400", "422")
        return False

    def _input(self, described: Mapping[str, Any], value: Any) -> Any:
        import numpy as np

        values = value if described["shape"] == [-1] else [value]
        if described["datatype"] == "BYTES":
            values = [_as_bytes(item) for item in values]
        array = np.array(values, dtype=_SENT[described["datatype"]])
        sent = self._triton.InferInput(described["name"], list(array.shape), described["datatype"])
        sent.set_data_from_numpy(array, binary_data=self.binary)
        return sent


def _as_bytes(value: Any) -> bytes:
    """Return an element of BYTES: text, a file of the model written ``@file``, or JSON."""
    if not isinstance(value, str):
        return json.dumps(value).encode()
    if value[:1] == "@" and Path(value[1:]).is_file():
        return Path(value[1:]).read_bytes()
    return value.encode()


def _output(got: Mapping[str, list[Any]], described: Mapping[str, Any], wanted: Any) -> Any:
    """Return the output as the model gives it, from its tensors."""
    lists = {item["name"]: item["shape"] == [-1] for item in described["outputs"]}
    values = {name: _plain(items if lists[name] else items[0]) for name, items in got.items()}
    if isinstance(wanted, dict) and set(lists) != {"output"}:
        # What the model left out has no tensor.
        return {name: _read(values.get(name), wanted.get(name)) for name in {**wanted, **values}}
    return _read(values.get("output"), wanted)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _read(value: Any, wanted: Any) -> Any:
    """Return JSON as what it means, where no text was expected."""
    return json.loads(value) if isinstance(value, str) and not isinstance(wanted, str) else value
