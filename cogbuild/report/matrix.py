"""The matrix as text and JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cogbuild.report.tables import Cell, Column, table
from cogbuild.report.words import age, iso

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cogbuild.report.tables import Page
    from cogbuild.views.matrix import Matrix, Pair

__all__ = ["matrix_json", "matrix_lines", "models_a_page"]

#: State → (mark, style). The mark alone tells; colour helps.
_MARKS = {
    "fresh": ("+", "green"),
    "not applicable": ("-", "dim"),
    "failed": ("!", "red"),
    "blocked": ("b", "red"),
    "stale": ("*", "yellow"),
    "never built": ("n", "yellow"),
    "untested": ("t", "yellow"),
    "pending": ("w", "yellow"),
    "restorable": ("r", "cyan"),
    "orphaned": ("o", "dim"),
}
_SHORT = {" min": "m", " s": "s", " h": "h", " d": "d"}
_GAP = 2
_ID = 12
_REPO = 20  # columns that the repo keeps before the adapters' names give way
_CELL = 6  # columns of a usual cell, "+ 120d"
_PAGE = 20  # models where there is no terminal
_FEWEST = 5
_AROUND = 6  # lines of a page that are no models: key, head, legend, place and the prompt


def models_a_page(adapters: Sequence[str], on: Page) -> int:
    """Return how many models fit the terminal's height, before any of them is looked at."""
    if on.height is None or on.width is None:
        return _PAGE
    room = on.width - _ID - _GAP - _REPO
    tables = 1
    if sum(_GAP + max(len(name), _CELL) for name in adapters) > room:
        tables = -(-len(adapters) // max(1, room // (_GAP + _CELL)))
    return max(_FEWEST, (on.height - _AROUND - 2 * (tables - 1)) // tables)


def matrix_lines(matrix: Matrix, on: Page) -> Iterator[str]:
    """Yield key, table, legend and where the page stands."""
    cells = [[_cell(row.get(name)) for name in matrix.adapters] for _, row in matrix.rows]
    widest = max((len(cell.text) for row in cells for cell in row), default=1)
    heads, blocks = _blocks(matrix, widest, on)
    if heads != list(matrix.adapters):
        yield from _wrapped([f"{head} {name}" for head, name in zip(heads, matrix.adapters, strict=True)], on)
    for number, (start, end) in enumerate(blocks):
        if number:
            yield ""
        columns = [Column("model"), Column("repo", cut=True), *(Column(head) for head in heads[start:end])]
        rows: list[list[str | Cell]] = [
            [entry.model[:_ID], entry.repo, *row[start:end]]
            for (entry, _), row in zip(matrix.rows, cells, strict=True)
        ]
        yield from table(columns, rows, on)
    yield from _wrapped(
        [
            on.paint(f"{_MARKS[state][0]} {matrix.counts[state]} {state}", _MARKS[state][1])
            for state in sorted(matrix.counts, key=list(_MARKS).index)
        ],
        on,
    )
    yield _place(matrix)


def _cell(pair: Pair | None) -> Cell:
    if pair is None:
        return Cell("")
    mark, style = _MARKS[pair.state]
    if pair.since is None:
        return Cell(mark, style)
    ago = age(pair.since)
    for word, letter in _SHORT.items():
        ago = ago.replace(word, letter)
    return Cell(f"{mark} {ago}", style)


def _blocks(matrix: Matrix, widest: int, on: Page) -> tuple[list[str], list[tuple[int, int]]]:
    """Return heads and slices of the columns: names where they fit, else numbers, else several tables."""
    names = list(matrix.adapters)
    count = len(names)
    if on.width is None:
        return names, [(0, count)]
    repo = max((len(entry.repo) for entry, _ in matrix.rows), default=4)
    room = on.width - _ID - _GAP - min(repo, _REPO)
    if sum(_GAP + max(len(name), widest) for name in names) <= room:
        return names, [(0, count)]
    heads = [str(number) for number in range(1, count + 1)]
    each = _GAP + max(widest, len(heads[-1]) if heads else 1)
    fit = max(1, room // each)
    return heads, [(start, min(start + fit, count)) for start in range(0, count, fit)]


def _wrapped(items: Sequence[str], on: Page) -> Iterator[str]:
    """Yield *items*, three blanks apart, on as many lines as the width asks for."""
    line, length = "", 0
    for item in items:
        plain = len(item.partition("m")[2].rpartition("\x1b")[0]) if item.startswith("\x1b") else len(item)
        if line and on.width is not None and length + 3 + plain > on.width:
            yield line
            line, length = "", 0
        line, length = (f"{line}   {item}", length + 3 + plain) if line else (item, plain)
    if line:
        yield line


def _place(matrix: Matrix) -> str:
    if matrix.first is None:
        count = len(matrix.rows)
        return f"{count} model{'' if count == 1 else 's'}" + ("; there are more" if matrix.more else "")
    last = matrix.first + len(matrix.rows) - 1
    if matrix.first == 1 and not matrix.more:
        return f"{last} model{'' if last == 1 else 's'}"
    of = f" of {matrix.total:,}" if matrix.total is not None else ""
    return f"models {matrix.first}-{last}{of}" + ("; more with --page N or --all" if matrix.more else "")


def matrix_json(matrix: Matrix) -> dict[str, Any]:
    """Return the page as JSON."""
    return {
        "adapters": list(matrix.adapters),
        "first": matrix.first,
        "total": matrix.total,
        "more": matrix.more,
        "models": [
            {
                "model": entry.model,
                "repo": entry.repo,
                "added": iso(entry.added),
                "pairs": [
                    {
                        "adapter": pair.adapter,
                        "state": str(pair.state),
                        "since": iso(pair.since),
                        "seconds": pair.seconds,
                        "fidelity": pair.fidelity._asdict() if pair.fidelity else None,
                        "detail": pair.detail,
                    }
                    for pair in row.values()
                ],
            }
            for entry, row in matrix.rows
        ],
        "counts": {str(state): count for state, count in matrix.counts.items()},
    }
