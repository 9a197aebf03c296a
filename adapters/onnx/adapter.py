#!/usr/bin/env python3
"""Export the networks that the model's predictor holds to ONNX; README.md says how and with which limits."""

from __future__ import annotations

import re
import textwrap
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cogbuild_adapter import NotApplicable, called_networks, examples, load, output_path, param, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cogbuild_adapter import Network
    from onnx import ModelProto


def main() -> Path | dict[str, Path]:
    opset = param("opset", 18)
    networks = called_networks(load(), examples, param("network", ""))
    made = {name: _made(network, name or "model", opset) for name, network in networks.items()}
    return made.get("") or made


def _made(network: Network, name: str, opset: int) -> Path:
    _check_size(network.value)
    framework: Any = import_module("onnx_from_torch" if network.kind == "torch" else "onnx_from_estimators")
    print(f"exporting {network} from {len(network.calls)} recorded calls, opset {opset}")
    try:
        model = framework.export(network, opset)
    except (MemoryError, OSError, ImportError, NotApplicable):
        raise
    except Exception as error:
        # The exporter is deterministic, and its environment counts: asking again would give the same answer.
        raise NotApplicable(_reason(error, network)) from error
    _check_opset(model, opset)
    return _written(model, output_path(f"{name}.onnx"))


def _check_opset(model: ModelProto, opset: int) -> None:
    """Refuse a graph of another opset: exporters that cannot convert to the one asked for only warn."""
    found = next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), opset)
    if found != opset:
        raise NotApplicable(
            f"the exporter made a graph of opset {found} and cannot bring it to opset {opset}"
        )


def _check_size(network: Any) -> None:
    """Refuse early what would not fit: one protobuf message, and so one ONNX file, ends at 2 GB."""
    state: dict[str, Any] = getattr(network, "state_dict", dict)()
    size = sum(
        tensor.numel() * tensor.element_size() for tensor in state.values() if hasattr(tensor, "numel")
    )
    if size >= 2**31:
        raise NotApplicable(
            f"the network has {size / 1e9:.1f} GB of weights, and one ONNX file holds 2 GB at most"
        )


def _written(model: ModelProto, target: Path) -> Path:
    import onnx

    _anonymised(model)
    _name_dimensions(model)
    # onnxmltools lists them in the order of a set, and some twice.
    opsets = {item.domain: item.version for item in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(*item) for item in sorted(opsets.items()))
    onnx.checker.check_model(model, full_check=True)
    target.write_bytes(model.SerializeToString(deterministic=True))
    shapes = ", ".join(f"{value.name}{_shape(value)}" for value in model.graph.input)
    print(f"inputs {shapes}; outputs {', '.join(value.name for value in model.graph.output)}")
    return target


def _anonymised(model: ModelProto) -> None:
    """Drop what says where and when the graph was made: file paths, stack traces, memory addresses."""
    for message in _messages(model):
        for name in ("doc_string", "metadata_props"):
            if name in message.DESCRIPTOR.fields_by_name:
                message.ClearField(name)


def _messages(message: Any) -> Iterator[Any]:
    """Yield *message* and all messages in it, except the weights, which are many and say nothing."""
    yield message
    for kind, value in message.ListFields():
        if kind.type == kind.TYPE_MESSAGE and kind.name not in ("raw_data", "metadata_props"):
            for part in value if hasattr(value, "add") else (value,):
                yield from _messages(part)


def _name_dimensions(model: ModelProto) -> None:
    """Call the sizes that the caller chooses ``batch`` and ``<input>_<dimension>`` instead of the exporter's numbers."""
    names: dict[str, str] = {}
    for value in model.graph.input:
        for at, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value"):
                dim.dim_param = dim.dim_param or "batch"
                names.setdefault(dim.dim_param, f"{value.name}_{at}" if at else "batch")
    for message in _messages(model):
        if message.DESCRIPTOR.name == "Dimension" and message.dim_param:
            message.dim_param = re.sub(
                r"[A-Za-z_]\w*", lambda found: names.get(found[0], found[0]), message.dim_param
            )


def _shape(value: Any) -> str:
    dims = value.type.tensor_type.shape.dim
    return str([dim.dim_param or dim.dim_value for dim in dims]).replace("'", "")


def _reason(error: Exception, network: Network) -> str:
    """Return one sentence on why the exporter gave up, by operator or estimator where it names one."""
    text = "\n".join(str(link) for link in _chain(error))
    if found := re.search(r"No ONNX function found for <OpOverload\(op='([\w.:]+)'", text):
        return f"PyTorch's ONNX exporter has no conversion for the operator {found[1]}"
    if found := re.search(
        r"Unable to find a (?:shape calculator|converter) for (?:type|alias) '(?:<class ')?([\w.]+)", text
    ):
        return f"skl2onnx has no conversion for {found[1].rpartition('.')[2]}"
    # The exporter's own wrapper tells how to report bugs; what went wrong is in its cause.
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
    first = re.split(r"\n|(?<=[.;]) ", str(cause).strip())[0]
    return f"{type(network.value).__name__} cannot be exported: {type(cause).__name__}: {textwrap.shorten(first, 200)}".rstrip(
        ": "
    )


def _chain(error: BaseException | None) -> list[BaseException]:
    return [] if error is None else [error, *_chain(error.__cause__ or error.__context__)]


if __name__ == "__main__":
    run(main)
