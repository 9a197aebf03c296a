"""The networks that a predictor holds.

Frameworks are never imported here: what the model did not import, the model cannot hold.
"""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from cogbuild_adapter.contract import AdapterError, Example, NotApplicable
from cogbuild_adapter.watching import Call, watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cogbuild_adapter.predictor import Predictor

Kind: TypeAlias = Literal["torch", "sklearn", "booster"]

_DEPTH = 6


@dataclass(frozen=True)
class Network:
    """A PyTorch module, a scikit-learn estimator or a booster that is not part of another one."""

    path: str  # how the predictor reaches it: "network", "stages[0].encoder"
    kind: Kind  # XGBoost's and LightGBM's estimators are "sklearn", their own Booster is "booster"
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


def _kind(value: Any) -> Kind | None:
    for kind, module, name in (
        ("torch", "torch.nn", "Module"),
        ("sklearn", "sklearn.base", "BaseEstimator"),
        ("booster", "xgboost", "Booster"),
        ("booster", "lightgbm", "Booster"),
    ):
        base = getattr(sys.modules.get(module), name, None)
        if base is not None and isinstance(value, base):
            return kind  # type: ignore[return-value] # one of the four above
    return None


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
    with watched(networks):
        for number, example in enumerate(given, 1):
            try:
                predictor.predict(example.input)
            except Exception as error:
                where = f"example {number} of {len(given)}"
                raise AdapterError(f"the model cannot predict its {where}: {_brief(error)}") from error


def called_networks(
    predictor: Predictor, given: Callable[[], Sequence[Example]], chosen: str = ""
) -> dict[str, Network]:
    """Return the networks that the examples call, with their calls, by the name of the artifact that is made of each.

    The name of a single one is empty. *chosen* names some by path, between commas.
    """
    networks = find_networks(predictor)
    if not networks:
        raise NotApplicable("no PyTorch module, scikit-learn estimator or booster was found on the predictor")
    wanted = [path.strip() for path in chosen.split(",") if path.strip()]
    if unknown := [path for path in wanted if path not in [network.path for network in networks]]:
        names = ", ".join(map(str, networks))
        raise AdapterError(f"the parameter network names {unknown[0]!r}, but the predictor holds {names}")
    # All are watched, so that a call from inside another one is not taken for one from outside.
    observe(predictor, networks, given())
    asked = [network for network in networks if not wanted or network.path in wanted]
    called = [network for network in asked if network.calls]
    if not called or (wanted and len(called) < len(asked)):
        absent = ", ".join(str(network) for network in asked if not network.calls)
        raise NotApplicable(f"the examples never call {absent} in a way that can be exported")
    return {"": called[0]} if len(called) == 1 else _named(called)


def _named(networks: Sequence[Network]) -> dict[str, Network]:
    named: dict[str, Network] = {}
    for network in networks:
        name = re.sub(r"[^A-Za-z0-9_-]+", ".", network.path).strip(".") or "network"
        while name in named:
            name += "-"
        named[name] = network
    return named


def _brief(error: BaseException) -> str:
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
