"""What adapters said, as text that is safe on a terminal, and the list of attempts."""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING

from cogbuild.errors import printable
from cogbuild.report.tables import Cell, Column, table
from cogbuild.report.words import age, span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cogbuild.report.tables import Page
    from cogbuild.views.attempts import Tried

__all__ = ["Escaped", "attempt_lines", "attempt_note"]

_STYLES = {"built": "green", "failed": "red", "running": "cyan", "not applicable": "dim"}
_HARMLESS = re.compile(r"([\n\t]+)")


class Escaped:
    """Turns a log's bytes, piece by piece, into text in which control characters are escaped."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    def __call__(self, data: bytes, *, last: bool = False) -> str:
        """Return the next piece as text; line ends and tabs stay."""
        text = self._decoder.decode(data, last)
        return "".join(
            piece if number % 2 else printable(piece) for number, piece in enumerate(_HARMLESS.split(text))
        )


def attempt_note(tried: Tried, total: int) -> str:
    """Return which attempt it is and how it ended."""
    number = f"attempt {tried.number} of {total}" if tried.number else f"attempt {tried.id}, restored"
    if tried.status == "running":
        return f"{number}, running for {age(tried.started)}"
    spent = f" after {span(tried.seconds)}" if tried.seconds is not None else ""
    word = f", {tried.status}" if tried.number else ""
    return f"{number}{word}{spent}, {age(tried.started)} ago"


def attempt_lines(tried: Iterable[Tried], on: Page) -> Iterator[str]:
    """Yield the attempts as a table."""
    columns = [
        Column("#", right=True),
        Column("status"),
        Column("started", right=True),
        Column("took", right=True),
        Column("what", give=3),
        Column("attempt", give=2),
        Column("detail", give=1, cut=True),
    ]
    rows = [
        (
            str(item.number),
            Cell(item.status, _STYLES.get(item.status)),
            age(item.started),
            span(item.seconds) if item.seconds is not None else "",
            item.kind,
            item.id,
            printable(item.detail),
        )
        for item in tried
    ]
    return table(columns, rows, on)
