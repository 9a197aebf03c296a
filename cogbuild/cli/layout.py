"""Listings whose lines hold something to copy: a heading with its facts, then what must not be cut."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["heading", "wrapped"]

_GAP = "  "


def heading(head: str, facts: Iterable[str]) -> Iterator[str]:
    """Yield a heading with its facts behind it, or below it where the terminal is too narrow for both."""
    from cogbuild.report.tables import page

    said = _GAP.join(fact for fact in facts if fact)
    columns = page(sys.stdout).width
    if said and columns is not None and len(head) + len(_GAP) + len(said) > columns:
        yield head
        yield _GAP + said
    else:
        yield _GAP.join(part for part in (head, said) if part)


def wrapped(text: str, indent: str) -> Iterator[str]:
    """Yield words on as many lines as the terminal needs; a word that is longer than a line stays whole."""
    import textwrap

    from cogbuild.report.tables import page

    columns = page(sys.stdout).width
    if columns is None:
        yield indent + text
        return
    yield from textwrap.wrap(
        text,
        max(columns, 20),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
