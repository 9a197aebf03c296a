"""PyTorch modules: recorded calls to one ONNX graph, and the cases on which the graph has to agree with the module."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from cogbuild_adapter import NotApplicable
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from cogbuild_adapter import Call
    from onnx import ModelProto


@dataclass(frozen=True)
class _Entry:
    """What entered the module in one call, as its signature names it, and flat."""

    spec: TreeSpec
    leaves: list[Any]

    @property
    def tensors(self) -> list[torch.Tensor]:
        return [leaf for leaf in self.leaves if isinstance(leaf, torch.Tensor)]

    @property
    def form(self) -> list[Any]:
        """What has to be the same in all calls that one graph can serve."""
        return [(leaf.dtype, leaf.dim()) if isinstance(leaf, torch.Tensor) else leaf for leaf in self.leaves]

    def repeated(self, times: int) -> _Entry:
        """Return the entry with its batch, the first dimension of each tensor, *times* as large."""
        leaves = [
            torch.cat([leaf] * times) if isinstance(leaf, torch.Tensor) and leaf.dim() else leaf
            for leaf in self.leaves
        ]
        return _Entry(self.spec, leaves)

    def bound(self, module: torch.nn.Module) -> inspect.BoundArguments:
        return inspect.BoundArguments(
            inspect.signature(module.forward), tree_unflatten(self.leaves, self.spec)
        )


def _entry(module: torch.nn.Module, call: Call) -> _Entry:
    signature = inspect.signature(module.forward)
    bound = signature.bind(*call.args, **call.kwargs)
    for name, given in bound.arguments.items():
        if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            raise NotApplicable(
                f"torch.export cannot follow {', '.join(given)}, which forward() takes only as **{name}"
            )
    leaves, spec = tree_flatten(dict(bound.arguments))
    return _Entry(spec, leaves)


def _outputs(module: torch.nn.Module, entry: _Entry) -> list[torch.Tensor]:
    bound = entry.bound(module)
    with torch.no_grad():
        return _flat_tensors(module(*bound.args, **bound.kwargs))


def _flat_tensors(output: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_flatten(output)[0] if isinstance(leaf, torch.Tensor)]


def export(module: torch.nn.Module, calls: Sequence[Call], opset: int) -> ModelProto:
    """Return the graph of *module*; what differs between the calls is dynamic, and the batch where it can be."""
    entries = [_entry(module, call) for call in calls]
    _check_alike(entries)
    moving = _moving(entries)
    base = max(entries, key=lambda entry: (_plain(entry, moving), sum(t.numel() for t in entry.tensors)))
    if _batched(module, base):
        # A size of 1 would be taken for a constant.
        base = base.repeated(2)
        for dims, tensor in zip(moving, base.tensors, strict=True):
            dims.update([0] if tensor.dim() else [])
    program = _exported(module, base, moving, opset)
    _check_moving(entries, moving, program.model_proto)
    return program.model_proto


def _check_alike(entries: Sequence[_Entry]) -> None:
    first = entries[0]
    for entry in entries[1:]:
        if entry.spec != first.spec or entry.form != first.form:
            raise NotApplicable(
                "the examples call the network with different arguments, tensor ranks, types or constants, "
                "and one graph has room for one kind of call"
            )


def _moving(entries: Sequence[_Entry]) -> list[set[int]]:
    """Return, for each tensor, the dimensions that differ between the calls."""
    shapes = zip(*([tuple(tensor.shape) for tensor in entry.tensors] for entry in entries), strict=True)
    return [
        {at for at, sizes in enumerate(zip(*of_one, strict=True)) if len(set(sizes)) > 1} for of_one in shapes
    ]


def _plain(entry: _Entry, moving: Sequence[set[int]]) -> bool:
    """Whether no moving dimension has a size that the exporter would take for a constant."""
    return all(
        tensor.shape[at] > 1 for tensor, dims in zip(entry.tensors, moving, strict=True) for at in dims
    )


def _batched(module: torch.nn.Module, entry: _Entry) -> bool:
    """Whether the module treats the first dimension as independent rows: twice the rows give twice the result."""
    if len({len(tensor) for tensor in entry.tensors if tensor.dim()}) != 1:
        return False
    once = _outputs(module, entry)
    try:
        twice = _outputs(module, entry.repeated(2))
    except Exception as error:
        print(f"the batch size stays fixed: {type(error).__name__} with two batches in one")
        return False
    return len(once) == len(twice) and all(
        one.dim() > 0
        and two.shape == (2 * len(one), *one.shape[1:])
        and torch.allclose(two, torch.cat([one, one]), rtol=1e-3, atol=1e-5, equal_nan=True)
        for one, two in zip(once, twice, strict=True)
    )


def _exported(module: torch.nn.Module, base: _Entry, moving: Sequence[set[int]], opset: int) -> Any:
    waiting = iter(moving)
    dims = [
        dict.fromkeys(sorted(next(waiting)), torch.export.Dim.AUTO) or None
        if isinstance(leaf, torch.Tensor)
        else None
        for leaf in base.leaves
    ]
    bound = base.bound(module)
    return torch.onnx.export(
        module,
        bound.args,
        kwargs=bound.kwargs,
        dynamo=True,
        dynamic_shapes=tree_unflatten(dims, base.spec),
        opset_version=opset,
        verbose=False,
    )


def _check_moving(entries: Sequence[_Entry], moving: Sequence[set[int]], model: ModelProto) -> None:
    """Refuse a graph in which a dimension became fixed that differs between the examples."""
    if len(model.graph.input) != len(moving):
        raise NotApplicable(
            f"the network takes {len(moving)} tensors, but the exporter made a graph with {len(model.graph.input)} inputs"
        )
    for position, (value, dims) in enumerate(zip(model.graph.input, moving, strict=True)):
        for at in dims:
            fixed = value.type.tensor_type.shape.dim[at].dim_value
            if fixed and len({entry.tensors[position].shape[at] for entry in entries}) > 1:
                raise NotApplicable(
                    f"dimension {at} of {value.name} differs between the examples, "
                    f"but the exporter fixed it to {fixed}"
                )


def cases(
    module: torch.nn.Module, calls: Sequence[Call], session: Any
) -> Iterator[tuple[str, dict[str, np.ndarray[Any, Any]], dict[str, np.ndarray[Any, Any]]]]:
    """Yield what the graph has to reproduce: a label, the inputs by name, the module's own outputs by name."""
    inputs, outputs = session.get_inputs(), session.get_outputs()

    def case(
        label: str, entry: _Entry, wanted: list[torch.Tensor]
    ) -> tuple[str, dict[str, Any], dict[str, Any]]:
        feed = {value.name: tensor.numpy() for value, tensor in zip(inputs, entry.tensors, strict=True)}
        return (
            label,
            feed,
            {value.name: tensor.numpy() for value, tensor in zip(outputs, wanted, strict=True)},
        )

    entries = [_entry(module, call) for call in calls]
    for number, (entry, call) in enumerate(zip(entries, calls, strict=True), 1):
        yield case(f"call {number}", entry, _flat_tensors(call.output))
    free = all(isinstance(value.shape[0], str) for value in inputs if value.shape)
    if free and _batched(module, entries[0]):
        larger = entries[0].repeated(3)
        yield case("three batches in one", larger, _outputs(module, larger))
