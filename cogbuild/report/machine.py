"""What this machine and this project give, as text and JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cogbuild.errors import printable
from cogbuild.report.tables import facts
from cogbuild.report.words import amount

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cogbuild.process import Protection
    from cogbuild.views.machine import AdapterState, Machine

__all__ = ["machine_json", "machine_lines"]

#: What each level of protection means for an adapter that runs.
_MEANING = {
    "namespaces": "each adapter runs in namespaces of its own: it ends with all its descendants, sees no other "
    "adapter's processes, and finds the data directory hidden",
    "bubblewrap": "each adapter runs in a bubblewrap of its own: it ends with all its descendants, sees no other "
    "adapter's processes, and finds the data directory hidden",
    "cgroup": "each adapter runs in a control group: it ends with all its descendants; nothing is hidden from it",
    "subreaper": "what an adapter leaves behind is found and ended; nothing is hidden from it",
}


def machine_lines(found: Machine) -> Iterator[str]:
    """Yield the facts, then each trouble in the form of errors."""
    yield from facts(_rows(found))
    for note in found.notes:
        yield f"note: {printable(note)}"
    for error in [*found.troubles, *(item.error for item in found.adapters if item.error is not None)]:
        yield ""
        yield str(error)


def _rows(found: Machine) -> Iterator[tuple[str, str]]:
    yield "python", printable(found.python)
    yield "uv", printable(found.uv or "missing: adapters that declare python: can't run")
    yield from _protection(found.protection)
    if found.root is None:
        yield "project", "none here: make one with `cogbuild init`"
        return
    yield "project", printable(found.root)
    yield "settings", printable(found.settings or "none")
    yield "data", _data(found)
    if found.free is not None:
        yield "free disk", amount(found.free)
    if found.models is not None:
        yield "database", f"format {found.database}, {_count(found.models, 'model')}"
    if found.cache is not None:
        yield "cache", f"format {found.cache}, {_count(found.records or 0, 'record')}"
    if found.environments is not None:
        yield "locked", _count(found.environments, "Python environment")
    yield "adapters", "\n".join(map(_adapter, found.adapters)) or "none"


def _protection(of: Protection | None) -> Iterator[tuple[str, str]]:
    if of is None:
        yield "protection", "none works"
        return
    notes = dict(of.notes)
    yield "protection", f"{of.level}: {_MEANING[of.level]}"
    why = notes.pop("overlay", None)
    meaning = "a model's workspace costs nothing, however large it is"
    copied = "each run gets a copy of the model" + (f": {why}" if why else "")
    yield "overlay", f"yes: {meaning}" if of.overlay else f"no: {printable(copied)}"
    for level, reason in notes.items():
        yield f"no {level}", printable(reason)


def _data(found: Machine) -> str:
    if found.models is None and not found.troubles:
        return f"{printable(found.data or '')}, not made yet"
    return f"{printable(found.data or '')}, {'writable' if found.writable else 'not writable'}"


def _adapter(item: AdapterState) -> str:
    name = item.name or "?"
    where = f" ({item.named})" if item.named != name else ""
    state = item.error.title if item.error else "ready" if item.ready else "can't work here"
    return "\n".join(
        [printable(f"{name}{where}: {state}"), *(f"  {printable(lack.text)}" for lack in item.lacks)]
    )


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def machine_json(found: Machine) -> dict[str, Any]:
    """Return the same as JSON."""
    protection = found.protection
    return {
        "python": found.python,
        "uv": found.uv,
        "protection": {
            "level": str(protection.level),
            "meaning": _MEANING[protection.level],
            "overlay": protection.overlay,
            "notes": dict(protection.notes),
        }
        if protection is not None
        else None,
        "project": found.root,
        "settings": found.settings,
        "data": found.data,
        "writable": found.writable,
        "free": found.free,
        "models": found.models,
        "database_format": found.database,
        "cache_format": found.cache,
        "records": found.records,
        "locked_environments": found.environments,
        "adapters": [
            {
                "name": item.name,
                "named": item.named,
                "ready": item.ready,
                "lacks": [{"what": lack.what, "without": lack.without} for lack in item.lacks],
                "error": item.error.to_json() if item.error is not None else None,
            }
            for item in found.adapters
        ],
        "notes": found.notes,
        "troubles": [error.to_json() for error in found.troubles],
    }
