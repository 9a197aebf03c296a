"""Pairs as doit tasks; the only place that knows doit.

``loader`` is the door that ``doit`` opens (an entry point), ``running`` the one of ``cogbuild adapt``. Both make the same
tasks (``pairs``) and let doit order and run them; whether a pair has to run is asked of our verdict alone. ``chosen``
finds the pairs that a doit command is about, ``state`` and ``described`` answer what doit asks of them without running
them, ``own`` keeps doit's state of a user's own tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cogbuild.tasks.loader import Loader
    from cogbuild.tasks.own import LazyState

__all__ = ["BASENAME", "LazyState", "Loader"]

#: The task that every pair is a subtask of.
BASENAME = "adapt"

_LAZY = {"LazyState": "own", "Loader": "loader"}


def __getattr__(name: str) -> object:
    # The command line imports ``running`` alone; the entry points name this package.
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f"cogbuild.tasks.{_LAZY[name]}"), name)
    raise AttributeError(name)
