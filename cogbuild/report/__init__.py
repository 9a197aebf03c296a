"""What happened and what is, as text or JSON: wording and layout, no decisions.

Modules are imported when something of them is used: a listing needs no event, and plain lines need no terminal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cogbuild.report.plain import Plain
    from cogbuild.report.summary import Summary
    from cogbuild.report.watching import Watcher, watcher
    from cogbuild.report.words import age, amount, changed, reason_text, span

__all__ = [
    "Plain",
    "Summary",
    "Watcher",
    "age",
    "amount",
    "changed",
    "reason_text",
    "span",
    "watcher",
]

_MODULES = {"Plain": "plain", "Summary": "summary", "Watcher": "watching", "watcher": "watching"}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(name)
    from importlib import import_module

    return getattr(import_module(f"cogbuild.report.{_MODULES.get(name, 'words')}"), name)
