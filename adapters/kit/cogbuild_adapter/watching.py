"""What enters and leaves networks while a predictor predicts.

Frameworks are imported only where a network of theirs is watched.
"""

from __future__ import annotations

import copy
import functools
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cogbuild_adapter.networks import Network

# A predictor that calls its network in a long loop would fill the memory with what it calls it with.
_CALLS_KEPT = 64
_METHODS = ("predict", "predict_proba", "decision_function", "transform", "inplace_predict")


@dataclass(frozen=True)
class Call:
    """One call of a network from outside of any network, copied as it was made."""

    method: str  # "forward" for PyTorch
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any


class _Watch:
    """How deep in watched networks we are: a call from inside another network belongs to that one."""

    def __init__(self) -> None:
        self.depth = 0


@contextmanager
def watched(networks: Sequence[Network]) -> Iterator[None]:
    """Keep in ``calls`` of each network what enters and leaves it."""
    with ExitStack() as undo:
        watch = _Watch()
        for network in networks:
            (_watch_torch if network.kind == "torch" else _watch_methods)(network, watch, undo)
        yield


def _watch_torch(network: Network, watch: _Watch, undo: ExitStack) -> None:
    module = network.value
    if module.training:
        print(f"note: {network} was left in training mode; it is exported in evaluation mode")
        module.eval()
    entered: list[tuple[Any, Any]] = []

    def before(_: Any, args: Any, kwargs: Any) -> None:
        watch.depth += 1
        entered.append(_copied_tensors((args, kwargs)) if watch.depth == 1 else ((), {}))

    def after(_: Any, _args: Any, _kwargs: Any, output: Any) -> None:
        watch.depth -= 1
        args, kwargs = entered.pop()
        # None: the call raised, and the model went on without it.
        if watch.depth == 0 and output is not None and len(network.calls) < _CALLS_KEPT:
            network.calls.append(Call("forward", args, kwargs, _copied_tensors(output)))

    undo.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
    undo.callback(module.register_forward_hook(after, with_kwargs=True, always_call=True).remove)


def _copied_tensors(tree: Any) -> Any:
    import torch
    from torch.utils._pytree import tree_map

    def copied(value: Any) -> Any:
        return value.detach().clone() if isinstance(value, torch.Tensor) else value

    # Tensors made under inference_mode() stay marked, and no exporter takes them; a clone made outside is free.
    with torch.inference_mode(mode=False), torch.no_grad():
        return tree_map(copied, tree)


def _watch_methods(network: Network, watch: _Watch, undo: ExitStack) -> None:
    for name in _METHODS:
        # getattr runs scikit-learn's own question whether this estimator, as configured, has the method.
        method = getattr(network.value, name, None)
        if method is not None:
            setattr(network.value, name, _recorded(network, name, method, watch))
            undo.callback(delattr, network.value, name)


def _recorded(network: Network, name: str, method: Callable[..., Any], watch: _Watch) -> Callable[..., Any]:
    @functools.wraps(method)
    def recorded(*args: Any, **kwargs: Any) -> Any:
        watch.depth += 1
        try:
            entered = _copied_arguments(args, kwargs) if watch.depth == 1 else ((), {})
            output = method(*args, **kwargs)
        finally:
            watch.depth -= 1
        if watch.depth == 0 and len(network.calls) < _CALLS_KEPT:
            network.calls.append(Call(name, *entered, copy.deepcopy(output)))
        return output

    return recorded


def _copied_arguments(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    def copied(value: Any) -> Any:
        return _dense(value) if type(value).__name__ == "DMatrix" else copy.deepcopy(value)

    return tuple(map(copied, args)), {name: copied(value) for name, value in kwargs.items()}


def _dense(matrix: Any) -> Any:
    """Return what XGBoost's own matrix holds as an array; what is absent in it is missing, and not zero."""
    import numpy as np

    rows = matrix.get_data().tocoo()
    array = np.full((matrix.num_row(), matrix.num_col()), np.nan, dtype=np.float32)
    array[rows.row, rows.col] = rows.data
    return array
