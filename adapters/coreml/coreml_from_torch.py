"""PyTorch modules: recorded calls to an ML program, by torch.export or else by tracing: each covers what the other does not."""

from __future__ import annotations

import re
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import coreml_package
import numpy as np
import torch
from cogbuild_adapter import NotApplicable
from cogbuild_adapter.torch_calls import flat_tensors, plan_of
from coreml_program import Program
from torch.utils._pytree import keystr, tree_flatten_with_path, tree_unflatten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cogbuild_adapter import Network
    from cogbuild_adapter.torch_calls import Plan

_UNKNOWN_OPERATOR = re.compile(
    r"Unsupported fx node [\w.]+, kind ([\w.]+)|convert function for op '([\w.]+)' not implemented"
)
_FIXED_ERRORS = (MemoryError, OSError, ImportError)


def convert(network: Network, *, largest: int, **how: Any) -> tuple[Any, Path]:
    """Return the specification of *network* as an ML program, and the directory of its weights."""
    failures: list[Exception] = []
    for free_batch in (True, False):
        plan = plan_of(network.value, network.calls, free_batch=free_batch)
        for way in (_exported, _traced):
            try:
                model = way(network.value, plan, largest, how)
                spec = model.get_spec()
                _name(spec, network.value, plan)
                _free_shapes(spec, plan, largest)
                _check(spec, Path(model.weights_dir), plan, network)
            except _FIXED_ERRORS:
                raise
            except Exception as error:
                traceback.print_exception(error)
                failures.append(error)
            else:
                by = "torch.export" if way is _exported else "tracing"
                print(f"converted by {by}" + ("" if free_batch else ", for the examples' batch size only"))
                return spec, Path(model.weights_dir)
        if any(_UNKNOWN_OPERATOR.search(str(error)) for error in failures):
            break
    # All ways are deterministic, and their versions count: asking again would give the same answer.
    raise NotApplicable(_reason(failures, type(network.value).__name__))


def _exported(module: torch.nn.Module, plan: Plan, _largest: int, how: dict[str, Any]) -> Any:
    import coremltools

    dims = tuple(dict.fromkeys(sorted(free), torch.export.Dim.AUTO) or None for free in plan.moving)
    flat = _Flat(module, plan).eval()
    program = torch.export.export(flat, tuple(plan.base.tensors), dynamic_shapes=(dims,))
    return coremltools.convert(program.run_decompositions(_decompositions()), **how)


def _decompositions() -> dict[Any, Callable[..., Any]]:
    """Return what coremltools would get wrong, in operators that it gets right.

    It ignores the type that ``zeros_like`` and its kin are asked for: a padding mask then becomes its own contrary.
    """

    def filled(like: torch.Tensor, value: float, dtype: torch.dtype | None) -> torch.Tensor:
        return torch.full(like.shape, value, dtype=dtype or like.dtype)

    aten = torch.ops.aten
    return {
        aten.zeros_like.default: lambda like, dtype=None, **_: filled(like, 0, dtype),
        aten.empty_like.default: lambda like, dtype=None, **_: filled(like, 0, dtype),
        aten.ones_like.default: lambda like, dtype=None, **_: filled(like, 1, dtype),
        aten.full_like.default: lambda like, value, dtype=None, **_: filled(like, value, dtype),
    }


class _Flat(torch.nn.Module):
    """A module that takes and gives tensors only: what else entered it is part of it."""

    def __init__(self, module: torch.nn.Module, plan: Plan) -> None:
        super().__init__()
        self.module = module
        self._plan = plan

    def forward(self, *tensors: torch.Tensor) -> Any:
        from cogbuild_adapter.torch_calls import Entry

        waiting = iter(tensors)
        base = self._plan.base
        leaves = [next(waiting) if isinstance(leaf, torch.Tensor) else leaf for leaf in base.leaves]
        bound = Entry(base.spec, leaves).bound(self.module)
        given = flat_tensors(self.module(*bound.args, **bound.kwargs))
        return given[0] if len(given) == 1 else tuple(given)


def _traced(module: torch.nn.Module, plan: Plan, largest: int, how: dict[str, Any]) -> Any:
    import coremltools

    fast = torch.backends.mha.get_fastpath_enabled()
    # The fast path is one operator of PyTorch's own that no converter knows.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            flat = _Flat(module, plan).eval()
            traced = torch.jit.trace(flat, tuple(plan.base.tensors), check_trace=False)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    inputs = [
        coremltools.TensorType(
            name=f"input_{at}",
            shape=[
                coremltools.RangeDim(1, max(largest, size), default=size) if dim in dims else size
                for dim, size in enumerate(tensor.shape)
            ],
            dtype=np.float32 if tensor.is_floating_point() else np.int32,
        )
        for at, (tensor, dims) in enumerate(zip(plan.base.tensors, plan.moving, strict=True))
    ]
    return coremltools.convert(traced, inputs=inputs, convert_to="mlprogram", **how)


def _name(spec: Any, module: torch.nn.Module, plan: Plan) -> None:
    """Call inputs and outputs as forward() does: the converter has names of its own."""
    bound = plan.base.bound(module)
    with torch.no_grad():
        given = module(*bound.args, **bound.kwargs)
    entered = tree_unflatten(plan.base.leaves, plan.base.spec)
    for what, features, tree, single in (
        ("takes", spec.description.input, entered, ""),
        ("gives", spec.description.output, given, "output"),
    ):
        names = list(_names(tree, single))
        if len(names) != len(features):
            raise NotApplicable(
                f"the network {what} {len(names)} tensors, but the converter made a program "
                f"with {len(features)} {'inputs' if what == 'takes' else 'outputs'}"
            )
        _rename(spec, [feature.name for feature in features], names)


def _names(tree: Any, single: str) -> Iterator[str]:
    for path, leaf in tree_flatten_with_path(tree)[0]:
        if isinstance(leaf, torch.Tensor):
            steps = re.sub(r"\W+", "_", keystr(path)).strip("_")
            yield (f"output_{steps}" if steps[:1].isdigit() else steps) or single


def _rename(spec: Any, old: list[str], new: list[str]) -> None:
    import coremltools

    taken = set(_value_names(spec))
    for before, name in zip(old, new, strict=True):
        after = name
        while after != before and after in taken:
            after += "_"
        if after != before:
            coremltools.utils.rename_feature(spec, before, after)
            taken.add(after)


def _value_names(spec: Any) -> Iterator[str]:
    function = spec.mlProgram.functions["main"]
    blocks = [function.block_specializations[function.opset]]
    yield from (item.name for item in function.inputs)
    for block in blocks:
        for operation in block.operations:
            yield from (item.name for item in operation.outputs)
            blocks.extend(operation.blocks)


def _free_shapes(spec: Any, plan: Plan, largest: int) -> None:
    """Let free dimensions begin at 1, which torch.export leaves out, and end somewhere, which Core ML needs.

    What a recorded call entered with is the shape by default.
    """
    usual = plan.entries[0].sizes
    for at, (item, dims) in enumerate(zip(spec.description.input, plan.moving, strict=True)):
        array = item.type.multiArrayType
        seen = [max(entry.sizes[at][dim] for entry in plan.entries) for dim in range(len(usual[at]))]
        for dim in dims:
            ranges = array.shapeRange.sizeRanges
            free = bool(ranges) and ranges[dim].lowerBound != ranges[dim].upperBound
            if not free:
                raise NotApplicable(
                    f"dimension {dim} of {item.name} is free in the network, but the converter fixed it"
                )
            ranges[dim].lowerBound = 1
            ranges[dim].upperBound = min(ranges[dim].upperBound, max(largest, seen[dim]))
        if usual[at]:
            array.shape[:] = usual[at]


def _check(spec: Any, weights: Path, plan: Plan, network: Network) -> None:
    """Refuse a program that is wrong on an example, so that the next way is tried; the test looks closer.

    A loop over the batch is unrolled by tracing, and the program says that any batch will do.
    """
    with tempfile.TemporaryDirectory() as scratch:
        coreml_package.write(spec, weights, Path(scratch, "tried.mlpackage"), about="")
        program = Program(Path(scratch, "tried.mlpackage"))
        if program.lacking:
            return
        pairs = zip(spec.description.input, plan.entries[0].tensors, strict=True)
        got = program.run({item.name: np.atleast_1d(tensor.numpy()) for item, tensor in pairs})
    wanted = flat_tensors(network.calls[0].output)
    for item, tensor in zip(spec.description.output, wanted, strict=True):
        array, value = got[item.name], np.atleast_1d(tensor.numpy())
        if array.shape != value.shape or not np.allclose(array, value, rtol=0.05, atol=0.01, equal_nan=True):
            raise NotApplicable("the program that coremltools made does not compute what the network does")


def _reason(failures: list[Exception], network: str) -> str:
    """Return one sentence on why neither way went, by operator where one is named."""
    import coremltools

    for error in failures:
        if found := _UNKNOWN_OPERATOR.search(str(error)):
            operator = (found[1] or found[2]).partition(".")[0]
            return f"coremltools {coremltools.__version__} has no conversion for the operator {operator}"
    known = [error for error in failures if isinstance(error, NotApplicable)]
    if known:
        return str(known[0])
    first = failures[0]
    lines = str(first).strip().splitlines() or [""]
    return f"{network} cannot be converted: {type(first).__name__}: {lines[0][:200]}".rstrip(": ")
