"""Tables and rows as text: aligned, cut to the terminal's width, coloured where that is wanted."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["Cell", "Column", "Page", "facts", "heading", "page", "table", "wrapped"]

_GAP = "  "
_CODES = {"green": "32", "red": "31", "yellow": "33", "cyan": "36", "dim": "2", "bold": "1"}
# What a cut cell keeps: so much while there are columns to leave out instead, and so much when there are none.
_FAIR = 20
_LEAST = 8


@dataclass(frozen=True)
class Page:
    """Where text goes."""

    width: int | None = None  # None: as long as it is; what reads a pipe wants whole lines
    height: int | None = None  # None: not a terminal
    colour: bool = False

    def paint(self, text: str, style: str | None) -> str:
        """Return *text* in a style, where colour is wanted."""
        return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if self.colour and style else text


@dataclass(frozen=True)
class Cell:
    """A text and the style that it has where there is colour."""

    text: str
    style: str | None = None


@dataclass(frozen=True)
class Column:
    """How a column behaves when it does not fit."""

    head: str
    right: bool = False
    give: int = 0  # where there is too little room: 0 stays, higher ones are left out first
    cut: bool = False  # may be shortened, before any is left out


def page(stream: TextIO, environ: Mapping[str, str] | None = None) -> Page:
    """Return what *stream* shows: ``COLUMNS`` and ``NO_COLOR`` are heeded."""
    environ = os.environ if environ is None else environ
    terminal = stream.isatty()
    columns = environ.get("COLUMNS", "")
    width = int(columns) if columns.isascii() and columns.isdigit() and int(columns) else None
    size = shutil.get_terminal_size() if terminal else None
    return Page(
        width or (size.columns if size else None),
        size.lines if size else None,
        terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb",
    )


def table(columns: Sequence[Column], rows: Iterable[Sequence[str | Cell]], on: Page) -> Iterator[str]:
    """Yield a head and the rows; what does not fit is cut with an ellipsis, then left out."""
    cells = [[item if isinstance(item, Cell) else Cell(item) for item in row] for row in rows]
    widths = [
        max(len(column.head), *(len(row[at].text) for row in cells)) if cells else len(column.head)
        for at, column in enumerate(columns)
    ]
    shown = _fitted(columns, widths, on.width)
    yield on.paint(
        _line([(Cell(columns[at].head), widths[at], columns[at].right) for at in shown], Page()), "dim"
    )
    for row in cells:
        yield _line([(row[at], widths[at], columns[at].right) for at in shown], on)


def _fitted(columns: Sequence[Column], widths: list[int], width: int | None) -> list[int]:
    """Return which columns are shown, with *widths* made to fit: cut a little, then left out, then cut for good."""
    shown = list(range(len(columns)))
    while width is not None and _total(widths, shown) > width:
        least = max(shown, key=lambda at: columns[at].give)
        droppable = columns[least].give > 0
        if _cut(columns, widths, shown, width, _FAIR if droppable else _LEAST) or not droppable:
            break
        shown.remove(least)
    return shown


def _cut(columns: Sequence[Column], widths: list[int], shown: list[int], width: int, least: int) -> bool:
    """Shorten the widest of the columns that may be cut until all fits; False, and nothing done, where it can't."""
    over = _total(widths, shown) - width
    floors = {at: max(least, len(columns[at].head)) for at in shown if columns[at].cut}
    if sum(max(0, widths[at] - floor) for at, floor in floors.items()) < over:
        return False
    for _ in range(over):
        widths[max((at for at in floors if widths[at] > floors[at]), key=lambda at: widths[at])] -= 1
    return True


def _total(widths: list[int], shown: list[int]) -> int:
    return sum(widths[at] for at in shown) + len(_GAP) * (len(shown) - 1)


def _line(cells: Sequence[tuple[Cell, int, bool]], on: Page) -> str:
    parts = []
    for cell, width, right in cells:
        text = cell.text if len(cell.text) <= width else cell.text[: max(0, width - 1)] + "…"
        pad = " " * (width - len(text))
        parts.append(pad + on.paint(text, cell.style) if right else on.paint(text, cell.style) + pad)
    return _GAP.join(parts).rstrip()


def facts(rows: Iterable[tuple[str, str]], *, indent: str = "") -> Iterator[str]:
    """Yield labels and values, the values below each other; a value may have several lines."""
    rows = list(rows)
    width = max((len(label) for label, _ in rows), default=0)
    for label, value in rows:
        first, *more = value.split("\n")
        yield f"{indent}{label:<{width}}  {first}".rstrip()
        for line in more:
            yield f"{indent}{'':<{width}}  {line}".rstrip()


def heading(head: str, facts: Iterable[str], on: Page) -> Iterator[str]:
    """Yield a heading with its facts behind it, or below it where there is too little room for both."""
    said = _GAP.join(fact for fact in facts if fact)
    if said and on.width is not None and len(head) + len(_GAP) + len(said) > on.width:
        yield head
        yield _GAP + said
    else:
        yield _GAP.join(part for part in (head, said) if part)


def wrapped(text: str, indent: str, on: Page) -> Iterator[str]:
    """Yield words on as many lines as there have to be; a word that is longer than a line stays whole."""
    import textwrap

    if on.width is None:
        yield indent + text
        return
    yield from textwrap.wrap(
        text,
        max(on.width, 20),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
