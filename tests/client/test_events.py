"""Server-sent events are read as the standard says, however the bytes are cut."""

from __future__ import annotations

import pytest

from cogbuild.client import events as module
from cogbuild.client.events import Sent, events

STREAM = (
    "id: 1\r\ndata: a\r\n\r\n:\n\nid: 2\rdata: bé\rdata: c\r\rdata\n\nretry: 5\nid: 3\ndata: half".encode()
)
SAID = [Sent("1", "a"), Sent("1", None), Sent("2", "bé\nc"), Sent("2", "")]


def test_events_are_the_same_however_they_are_cut() -> None:
    """Every pair of cuts gives the same events; what the end cuts off is none."""
    for first in range(len(STREAM) + 1):
        for second in range(first, len(STREAM) + 1):
            cut = [STREAM[:first], STREAM[first:second], b"", STREAM[second:]]
            assert list(events(cut)) == SAID, (first, second)


def test_one_byte_at_a_time() -> None:
    """The smallest pieces do as well."""
    assert list(events(bytes([byte]) for byte in STREAM)) == SAID


@pytest.mark.parametrize("line", [b"data: " + b"x" * 100, b"data: " + b"x" * 50 + b"\ndata: " + b"x" * 60])
def test_an_event_that_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch, line: bytes) -> None:
    """A server that goes on and on fills no memory."""
    monkeypatch.setattr(module, "LONGEST", 99)
    with pytest.raises(ValueError, match="too long"):
        list(events([line, b"\n\n"]))
