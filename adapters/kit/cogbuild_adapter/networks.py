"""The networks that a predictor holds, and what enters and leaves them while examples run.

Frameworks are never imported here: what the model did not import, the model cannot hold.
"""

from __future__ import annotations

import copy
import functools
import inspect
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from cogbuild_adapter.contract import AdapterError, Example, NotApplicable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cogbuild_adapter.predictor import Predictor

# A predictor that calls its network in a long loop would fill the memory with what it calls it with.
_CALLS_KEPT = 64
_DEPTH = 6
_SKLEARN_METHODS = ("predict", "predict_proba", "decision_function", "transform")


@dataclass(frozen=True)
class Call:
    """One call of a network from outside of any network, copied as it was made."""

    method: str  # "forward" for PyTorch
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any


@dataclass(frozen=True)
class Network:
    """A PyTorch module or a scikit-learn estimator that is not part of another one."""

    path: str  # how the predictor reaches it: "network", "stages[0].encoder"
    kind: Literal["torch", "sklearn"]
    value: Any
    calls: list[Call] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.path} ({type(self.value).__name__})"


def find_networks(predictor: Predictor) -> list[Network]:
    """Return the networks on the predictor, or else among its module's globals, in the order they were assigned."""
    found: dict[int, Network] = {}
    seen: set[int] = set()
    _search(getattr(predictor.value, "__dict__", {}), "", found, seen, _DEPTH)
    if not found:
        _search(vars(predictor.module), "", found, seen, _DEPTH)
    return list(found.values())


def _search(value: Any, path: str, found: dict[int, Network], seen: set[int], depth: int) -> None:
    if value is None or isinstance(value, (str, bytes, int, float, type, ModuleType)) or id(value) in seen:
        return
    seen.add(id(value))
    kind = _kind(value)
    if kind is not None:
        # A compiled module is a shell around the one that can be exported.
        found[id(value)] = Network(path, kind, getattr(value, "_orig_mod", value))
    elif depth:
        for step, part in _parts(value):
            _search(part, (path + step).removeprefix("."), found, seen, depth - 1)


def _kind(value: Any) -> Literal["torch", "sklearn"] | None:
    torch, sklearn = sys.modules.get("torch"), sys.modules.get("sklearn.base")
    if torch is not None and isinstance(value, torch.nn.Module):
        return "torch"
    return "sklearn" if sklearn is not None and isinstance(value, sklearn.BaseEstimator) else None


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in list(value.items()):
            yield (f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]"), item
    elif isinstance(value, (list, tuple)):
        for at, item in enumerate(value):
            yield f"[{at}]", item
    elif not inspect.isroutine(value):
        for name, item in list(getattr(value, "__dict__", {}).items()):
            yield f".{name}", item


def observe(predictor: Predictor, networks: Sequence[Network], given: Sequence[Example]) -> None:
    """Predict every example and keep, in ``calls`` of each network, what entered and left it."""
    with ExitStack() as undo:
        watch = _Watch()
        for network in networks:
            (_watch_torch if network.kind == "torch" else _watch_sklearn)(network, watch, undo)
        for number, example in enumerate(given, 1):
            try:
                predictor.predict(example.input)
            except Exception as error:
                where = f"example {number} of {len(given)}"
                raise AdapterError(f"the model cannot predict its {where}: {_brief(error)}") from error


def the_network(predictor: Predictor, given: Callable[[], Sequence[Example]], chosen: str = "") -> Network:
    """Return the one network that the examples call, with its calls; *chosen* names it by path where there are more."""
    networks = find_networks(predictor)
    if not networks:
        raise NotApplicable("no scikit-learn estimator or PyTorch module was found on the predictor")
    names = ", ".join(map(str, networks))
    if chosen and chosen not in [network.path for network in networks]:
        raise AdapterError(f"the parameter network is {chosen!r}, but the predictor holds {names}")
    observe(predictor, networks, given())
    called = [network for network in networks if network.calls and chosen in ("", network.path)]
    if not called:
        raise NotApplicable(f"the examples never call {chosen or names} in a way that can be exported")
    if len(called) > 1:
        several = ", ".join(map(str, called))
        raise NotApplicable(
            f"the examples call {len(called)} networks: {several}; the parameter `network` chooses one by its path"
        )
    return called[0]


class _Watch:
    """How deep in watched networks we are: a call from inside another network belongs to that one."""

    def __init__(self) -> None:
        self.depth = 0


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


def _watch_sklearn(network: Network, watch: _Watch, undo: ExitStack) -> None:
    for name in _SKLEARN_METHODS:
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
            entered = copy.deepcopy((args, kwargs)) if watch.depth == 1 else ((), {})
            output = method(*args, **kwargs)
        finally:
            watch.depth -= 1
        if watch.depth == 0 and len(network.calls) < _CALLS_KEPT:
            network.calls.append(Call(name, *entered, copy.deepcopy(output)))
        return output

    return recorded


def _brief(error: BaseException) -> str:
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
