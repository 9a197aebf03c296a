"""What is wanted for a model: its image, its adapters, their parameters; changed here for whoever asks."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cogbuild.database import models
from cogbuild.errors import is_text, printable
from cogbuild.errors.commands import BadParam, NothingToSet
from cogbuild.spec.names import is_adapter_name, is_param_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cogbuild.database.models import EntryRow
    from cogbuild.project import Project
    from cogbuild.spec import AdapterSpec

__all__ = ["Wish", "change", "notes", "param"]

_MAX_DEPTH = 64  # as in declarations
#: Notes that are said of one wish, and characters of a name in one: over HTTP they are a header.
_MOST, _LONGEST = 10, 64


@dataclass(frozen=True)
class Wish:
    """A change: what is not named stays as it is."""

    cpu_image: str | None = None  # "" takes it away
    adapters: Sequence[str] = ()
    every: bool = False  # every active adapter is wanted again
    params: Sequence[tuple[str, str, Any]] = ()  # adapter, name, value; None takes it away

    def __post_init__(self) -> None:
        if self.cpu_image is None and not (self.adapters or self.every or self.params):
            raise NothingToSet


def param(text: str) -> tuple[str, str, Any]:
    """Return (adapter, name, value) of ``ADAPTER.NAME=JSON``; an adapter's name may hold dots, a parameter's not."""
    left, equals, value = text.partition("=")
    adapter, _, name = left.rpartition(".")
    if not equals or not is_adapter_name(adapter) or not is_param_name(name):
        raise BadParam(given=text, reason="it has not the form ADAPTER.NAME=JSON")
    try:
        read = json.loads(value)
    except (ValueError, RecursionError):
        raise BadParam(given=text, reason=f"{value!r} is not JSON") from None
    if (problem := _problem(read)) is not None:
        raise BadParam(given=text, reason=problem)
    return adapter, name, read


def _problem(value: Any, depth: int = 0) -> str | None:
    """Return why a value that Python takes for JSON could be neither kept nor handed to an adapter."""
    if depth > _MAX_DEPTH:
        return f"it nests more than {_MAX_DEPTH} levels deep"
    if isinstance(value, float) and not math.isfinite(value):
        return "JSON has no such number"
    if isinstance(value, str) and not is_text(value):
        return "it holds NUL or half a character"
    inside = (
        [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
    )
    return next((problem for item in inside if (problem := _problem(item, depth + 1)) is not None), None)


def notes(wish: Wish, active: Mapping[str, AdapterSpec | None]) -> list[str]:
    """Return what no *active* adapter answers to: it may come, or be mistyped. None: one that can't be used just now."""
    found = list(dict.fromkeys(_unanswered(wish, active)))
    more = [f"note: and {len(found) - _MOST} more"] if len(found) > _MOST else []
    return [f"note: {problem}" for problem in found[:_MOST]] + more


def _unanswered(wish: Wish, active: Mapping[str, AdapterSpec | None]) -> Iterator[str]:
    set_here = [(adapter, name) for adapter, name, value in wish.params if value is not None]
    for adapter in (*wish.adapters, *(adapter for adapter, _ in set_here)):
        if adapter not in active:
            yield f"no active adapter is called {_named(adapter, active)}"
    for adapter, name in set_here:
        spec = active.get(adapter)
        if spec is not None and name not in spec.params:
            yield f"{adapter} declares no parameter {_named(name, spec.params)}"


def _named(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    closest = ", ".join(get_close_matches(name, sorted(known)))
    return printable(name[:_LONGEST]) + (f"; closest: {closest}" if closest else "")


def change(project: Project, entries: Iterable[EntryRow], wish: Wish) -> list[EntryRow]:
    """Change what is wanted for each of *entries*; return them as they are then."""
    eids = []
    for entry in entries:
        settings = _changed(entry.settings, wish)
        image = entry.cpu_image if wish.cpu_image is None else wish.cpu_image or None
        project.database.write(
            lambda con, entry=entry, settings=settings, image=image: models.change_entry(  # type: ignore[misc]
                con, entry.eid, settings=settings, cpu_image=image
            )
        )
        eids.append(entry.eid)
    return [new for eid in eids if (new := models.find(project.con, eid)) is not None]


def _changed(settings: dict[str, Any], wish: Wish) -> dict[str, Any]:
    params = {adapter: dict(given) for adapter, given in settings.get("params", {}).items()}
    for adapter, name, value in wish.params:
        if value is None:
            params.get(adapter, {}).pop(name, None)
        else:
            params.setdefault(adapter, {})[name] = value
    adapters = None if wish.every else list(wish.adapters) if wish.adapters else settings.get("adapters")
    return {
        **settings,
        "adapters": adapters,
        "params": {name: given for name, given in params.items() if given},
    }
