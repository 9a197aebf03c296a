"""Listings for people: a heading with facts, a table that fits the terminal."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from cogbuild.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["heading", "table", "width"]

_GAP = "  "


def width() -> int | None:
    """Return the columns of the terminal; None where output goes elsewhere, and nothing is cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def heading(head: str, facts: Iterable[str]) -> Iterator[str]:
    """Yield a heading with its facts behind it, or below it where they do not fit."""
    said = _GAP.join(fact for fact in facts if fact)
    line = _GAP.join(part for part in (head, said) if part)
    columns = width()
    if columns is None or len(line) <= columns or not said:
        yield line
    else:
        yield head
        yield _GAP + said


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows with aligned columns below their titles; a terminal too narrow cuts the last column."""
    shown = [[printable(cell) for cell in row] for row in rows]
    sizes = [max(len(row[at]) for row in [list(titles), *shown]) for at in range(len(titles))]
    columns = width()
    for row in [list(titles), *shown]:
        cells = [cell.ljust(size) for cell, size in zip(row, sizes, strict=True)]
        line = _GAP.join(cells).rstrip()
        yield line if columns is None or len(line) <= columns else line[: columns - 1] + "…"
