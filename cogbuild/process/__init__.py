"""Child processes, supervised to their last descendant; nothing else in cogbuild starts any.

``capture`` is for tools of our own, a ``Pool`` for adapters. A pool's workers are in ``process.worker``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cogbuild.process.values import Command, Ended, Level, Protection, Reason, View

if TYPE_CHECKING:
    from cogbuild.process.capture import Captured, capture
    from cogbuild.process.pool import Pool, protection

__all__ = [
    "Captured",
    "Command",
    "Ended",
    "Level",
    "Pool",
    "Protection",
    "Reason",
    "View",
    "capture",
    "protection",
]

_LATER = {"Captured": "capture", "capture": "capture", "Pool": "pool", "protection": "pool"}


def __getattr__(name: str) -> object:
    # What needs subprocess is imported when it is used: a run with nothing to do starts nothing.
    if name not in _LATER:
        raise AttributeError(name)
    from importlib import import_module

    value = getattr(import_module(f"cogbuild.process.{_LATER[name]}"), name)
    globals()[name] = value
    return value
