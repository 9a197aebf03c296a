"""Pairs as doit tasks; the only place that knows doit.

``loader`` is the door that ``doit`` opens (an entry point), ``running`` the one of ``cogbuild adapt``. Both make the same
tasks (``pairs``) and let doit order and run them; whether a pair has to run is asked of our verdict alone. ``state`` and
``described`` answer what doit asks of pairs without running them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cogbuild.tasks.loader import Loader
    from cogbuild.tasks.state import LazyState

__all__ = ["LazyState", "Loader"]


def __getattr__(name: str) -> object:
    # The command line imports ``running`` alone; the entry points name this package.
    if name in __all__:
        from importlib import import_module

        return getattr(import_module(f"cogbuild.tasks.{'loader' if name == 'Loader' else 'state'}"), name)
    raise AttributeError(name)
