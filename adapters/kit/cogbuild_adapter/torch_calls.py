"""PyTorch modules: recorded calls as flat tensors, what may vary in them, and the cases of an artifact.

Needs torch, which the model brings.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from cogbuild_adapter.contract import NotApplicable
from cogbuild_adapter.replay import Case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cogbuild_adapter.watching import Call


@dataclass(frozen=True)
class Entry:
    """What entered the module in one call, as its signature names it, and flat."""

    spec: TreeSpec
    leaves: list[Any]

    @property
    def tensors(self) -> list[torch.Tensor]:
        return [leaf for leaf in self.leaves if isinstance(leaf, torch.Tensor)]

    @property
    def sizes(self) -> list[tuple[int, ...]]:
        return [tuple(tensor.shape) for tensor in self.tensors]

    @property
    def form(self) -> list[Any]:
        """What has to be the same in all calls that one graph can serve."""
        return [(leaf.dtype, leaf.dim()) if isinstance(leaf, torch.Tensor) else leaf for leaf in self.leaves]

    def changed(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Entry:
        """Return the entry with *change* made to each tensor that has dimensions."""
        leaves = [
            change(leaf) if isinstance(leaf, torch.Tensor) and leaf.dim() else leaf for leaf in self.leaves
        ]
        return Entry(self.spec, leaves)

    def repeated(self, times: int) -> Entry:
        """Return the entry with its batch, the first dimension of each tensor, *times* as large."""
        return self.changed(lambda tensor: torch.cat([tensor] * times))

    def bound(self, module: torch.nn.Module) -> inspect.BoundArguments:
        return inspect.BoundArguments(
            inspect.signature(module.forward), tree_unflatten(self.leaves, self.spec)
        )


@dataclass(frozen=True)
class Plan:
    """How a module is to be exported: with which inputs, and which dimensions of each tensor stay free."""

    entries: list[Entry]
    base: Entry
    moving: list[set[int]]


def entry_of(module: torch.nn.Module, call: Call) -> Entry:
    """Return what entered *module* in *call*."""
    signature = inspect.signature(module.forward)
    bound = signature.bind(*call.args, **call.kwargs)
    for name, given in bound.arguments.items():
        if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            raise NotApplicable(
                f"torch.export cannot follow {', '.join(given)}, which forward() takes only as **{name}"
            )
    leaves, spec = tree_flatten(dict(bound.arguments))
    return Entry(spec, leaves)


def outputs_of(module: torch.nn.Module, entry: Entry) -> list[torch.Tensor]:
    """Return the tensors that *module* gives for *entry*."""
    bound = entry.bound(module)
    with torch.no_grad():
        return flat_tensors(module(*bound.args, **bound.kwargs))


def flat_tensors(output: Any) -> list[torch.Tensor]:
    """Return the tensors in *output*, however they are nested."""
    return [leaf for leaf in tree_flatten(output)[0] if isinstance(leaf, torch.Tensor)]


def plan_of(module: torch.nn.Module, calls: Sequence[Call], *, free_batch: bool = True) -> Plan:
    """Return the plan: what differs between the calls is free, and with *free_batch* the batch where rows are independent."""
    entries = [entry_of(module, call) for call in calls]
    _check_alike(entries)
    moving = _moving(entries)
    base = max(entries, key=lambda entry: (_plain(entry, moving), sum(t.numel() for t in entry.tensors)))
    if free_batch and batched(module, base):
        # A size of 1 would be taken for a constant.
        base = base.repeated(2)
        for dims, tensor in zip(moving, base.tensors, strict=True):
            dims.update([0] if tensor.dim() else [])
    return Plan(entries, base, moving)


def _check_alike(entries: Sequence[Entry]) -> None:
    first = entries[0]
    for entry in entries[1:]:
        if entry.spec != first.spec or entry.form != first.form:
            raise NotApplicable(
                "the examples call the network with different arguments, tensor ranks, types or constants, "
                "and one graph has room for one kind of call"
            )


def _moving(entries: Sequence[Entry]) -> list[set[int]]:
    """Return, for each tensor, the dimensions that differ between the calls."""
    shapes = zip(*(entry.sizes for entry in entries), strict=True)
    return [
        {at for at, sizes in enumerate(zip(*of_one, strict=True)) if len(set(sizes)) > 1} for of_one in shapes
    ]


def _plain(entry: Entry, moving: Sequence[set[int]]) -> bool:
    """Whether no moving dimension has a size that an exporter would take for a constant."""
    return all(
        tensor.shape[at] > 1 for tensor, dims in zip(entry.tensors, moving, strict=True) for at in dims
    )


def batched(module: torch.nn.Module, entry: Entry) -> bool:
    """Whether the module treats the first dimension as independent rows: twice the rows give twice the result."""
    if len({len(tensor) for tensor in entry.tensors if tensor.dim()}) != 1:
        return False
    once = outputs_of(module, entry)
    try:
        twice = outputs_of(module, entry.repeated(2))
    except Exception as error:
        print(f"the batch size stays fixed: {type(error).__name__} with two batches in one")
        return False
    return len(once) == len(twice) and all(
        one.dim() > 0
        and two.shape == (2 * len(one), *one.shape[1:])
        and torch.allclose(two, torch.cat([one, one]), rtol=1e-3, atol=1e-5, equal_nan=True)
        for one, two in zip(once, twice, strict=True)
    )


def torch_cases(
    module: torch.nn.Module, calls: Sequence[Call], free: Sequence[Mapping[int, int]]
) -> Iterator[Case]:
    """Yield each recorded call, three batches in one, and lengths that no example has."""
    entries = [entry_of(module, call) for call in calls]
    for number, (entry, call) in enumerate(zip(entries, calls, strict=True), 1):
        yield _case(f"call {number}", entry, flat_tensors(call.output))
    if all(0 in dims for dims, tensor in zip(free, entries[0].tensors, strict=True) if tensor.dim()):
        larger = entries[0].repeated(3)
        if _fits(larger, free) and batched(module, entries[0]):
            yield _case("three batches in one", larger, outputs_of(module, larger))
    yield from _unseen(module, entries, free)


def _case(label: str, entry: Entry, outputs: list[torch.Tensor]) -> Case:
    return Case(
        label,
        tuple(tensor.numpy() for tensor in entry.tensors),
        {at: tensor.numpy() for at, tensor in enumerate(outputs)},
    )


def _unseen(
    module: torch.nn.Module, entries: Sequence[Entry], free: Sequence[Mapping[int, int]]
) -> Iterator[Case]:
    """Yield a case whose free dimensions, the batch aside, have sizes that no example has."""
    moving = [dims - {0} for dims in _moving(entries)]
    if not any(moving) or any(set(dims) - set(known) for dims, known in zip(moving, free, strict=True)):
        return
    base = max(entries, key=lambda entry: sum(tensor.numel() for tensor in entry.tensors))
    positions = {id(tensor): dims for tensor, dims in zip(base.tensors, moving, strict=True)}

    def doubled(tensor: torch.Tensor) -> torch.Tensor:
        changed = tensor
        for at in positions[id(tensor)]:
            changed = torch.cat([changed] * 2, at)
        return changed

    def shorter(tensor: torch.Tensor) -> torch.Tensor:
        changed = tensor
        for at in positions[id(tensor)]:
            changed = changed.narrow(at, 0, max(1, tensor.shape[at] - 1))
        return changed.contiguous()

    for label, change in (("twice the length", doubled), ("one shorter", shorter)):
        entry = base.changed(change)
        if entry.sizes in [known.sizes for known in entries] or not _fits(entry, free):
            continue
        try:
            outputs = outputs_of(module, entry)
        except Exception as error:
            print(f"note: the network itself does not take {label}: {type(error).__name__}")
            continue
        yield _case(label, entry, outputs)
        return


def _fits(entry: Entry, free: Sequence[Mapping[int, int]]) -> bool:
    return all(
        size <= known.get(at, size)
        for sizes, known in zip(entry.sizes, free, strict=True)
        for at, size in enumerate(sizes)
    )
