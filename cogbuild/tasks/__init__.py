"""Pairs as doit tasks; the only place that knows doit.

``loader`` is the door that ``doit`` opens (an entry point), ``running`` the one of ``cogbuild adapt``. Both make the same
tasks (``pairs``) and let doit order and run them; whether a pair has to run is asked of our verdict alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cogbuild.tasks.loader import LazyState, Loader

__all__ = ["LazyState", "Loader"]


def __getattr__(name: str) -> object:
    # The command line imports ``running`` alone; the entry points name this package.
    if name in __all__:
        from cogbuild.tasks import loader

        return getattr(loader, name)
    raise AttributeError(name)
