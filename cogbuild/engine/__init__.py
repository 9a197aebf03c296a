"""One pair: judge → restore or run → publish → test → record.

The order of writes: bytes (published files, fsynced), then one database transaction (parts, attempt, outcome, what is
pending), then the cache, then the word "done" to whoever listens.

Modules are imported when something of them is used: a run with nothing to do starts nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cogbuild.engine.events import Event, Line, Listener, Note, Result, Started, Status
    from cogbuild.engine.run import Engine

__all__ = ["Engine", "Event", "Line", "Listener", "Note", "Result", "Started", "Status"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(name)
    from importlib import import_module

    return getattr(import_module(f"cogbuild.engine.{'run' if name == 'Engine' else 'events'}"), name)
