"""PyTorch modules: recorded calls to one ONNX graph."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

import torch
from cogbuild_adapter import NotApplicable
from cogbuild_adapter.torch_calls import flat_tensors, plan_of
from torch.utils._pytree import tree_unflatten

if TYPE_CHECKING:
    from cogbuild_adapter import Network
    from cogbuild_adapter.torch_calls import Plan
    from onnx import ModelProto


def export(network: Network, opset: int) -> ModelProto:
    """Return the graph of a module; what differs between the calls is dynamic, and the batch where it can be."""
    plan = plan_of(network.value, network.calls)
    model: ModelProto = _exported(network.value, plan, opset).model_proto
    if not _takes_the_examples(model, plan, network):
        print("the batch size stays fixed: the exporter made a graph of one size")
        plan = plan_of(network.value, network.calls, free_batch=False)
        model = _exported(network.value, plan, opset).model_proto
    _check_moving(plan, model)
    return model


def _takes_the_examples(model: ModelProto, plan: Plan, network: Network) -> bool:
    """Whether the graph runs on an example's own batch: one that was unrolled says that any will do, and takes one size."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    tensors = plan.entries[0].tensors
    if len(names) != len(tensors):
        return True  # said below in words
    try:
        got = session.run(None, {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)})
    except Exception:
        traceback.print_exc()
        return False
    wanted = flat_tensors(network.calls[0].output)
    return [array.shape for array in got] == [tuple(tensor.shape) for tensor in wanted]


def _exported(module: torch.nn.Module, plan: Plan, opset: int) -> Any:
    waiting = iter(plan.moving)
    dims = [
        dict.fromkeys(sorted(next(waiting)), torch.export.Dim.AUTO) or None
        if isinstance(leaf, torch.Tensor)
        else None
        for leaf in plan.base.leaves
    ]
    bound = plan.base.bound(module)
    return torch.onnx.export(
        module,
        bound.args,
        kwargs=bound.kwargs,
        dynamo=True,
        dynamic_shapes=tree_unflatten(dims, plan.base.spec),
        opset_version=opset,
        verbose=False,
    )


def _check_moving(plan: Plan, model: ModelProto) -> None:
    """Refuse a graph in which a dimension became fixed that differs between the examples."""
    if len(model.graph.input) != len(plan.moving):
        raise NotApplicable(
            f"the network takes {len(plan.moving)} tensors, "
            f"but the exporter made a graph with {len(model.graph.input)} inputs"
        )
    for position, (value, dims) in enumerate(zip(model.graph.input, plan.moving, strict=True)):
        for at in dims:
            fixed = value.type.tensor_type.shape.dim[at].dim_value
            if fixed and len({entry.tensors[position].shape[at] for entry in plan.entries}) > 1:
                raise NotApplicable(
                    f"dimension {at} of {value.name} differs between the examples, "
                    f"but the exporter fixed it to {fixed}"
                )
