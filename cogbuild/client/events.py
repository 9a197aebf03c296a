"""Server-sent events: what a job says, read as it comes, taken up where the connection broke."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Sent", "events"]

#: A message that is longer is not one of ours.
LONGEST = 64 << 20


class Sent(NamedTuple):
    """One event, or a sign of life where *data* is None."""

    id: str | None
    data: str | None


def events(pieces: Iterable[bytes]) -> Iterator[Sent]:
    """Yield the events in a stream of bytes; one that is cut off by its end is left out.

    Raises ``ValueError`` for one that is too long.
    """
    last: str | None = None
    data: list[str] = []
    size = 0
    for line in _lines(pieces):
        if not line:
            if data:
                yield Sent(last, "\n".join(data))
            data, size = [], 0
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            size += len(value)
            if size > LONGEST:
                raise ValueError("an event is too long")
            data.append(value)
        elif name == "id" and "\0" not in value:
            last = value
        elif not name:
            yield Sent(last, None)


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """Yield lines without their end, which is LF, CRLF or CR."""
    held: list[bytes] = []
    size = 0
    cut = False  # the last piece ended in CR, and LF may follow
    for given in pieces:
        piece = given.removeprefix(b"\n") if cut and given else given
        cut = given.endswith(b"\r") if given else cut
        *whole, rest = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for line in whole:
            held.append(line)
            yield b"".join(held).decode("utf-8", "replace")
            held, size = [], 0
        held.append(rest)
        size += len(rest)
        if size > LONGEST:
            raise ValueError("an event is too long")
