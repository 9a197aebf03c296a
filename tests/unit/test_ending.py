"""How a process ended, in words."""

from __future__ import annotations

import errno
import signal

import pytest

from cogbuild.engine.ending import error_of
from cogbuild.errors import span
from cogbuild.process import Ended, Reason

FACTS = {"adapter": "onnx", "model": "u/m@0123456789ab", "log": "logs/1.log"}


def said(ended: Ended) -> str:
    """Return the message for an ending."""
    return str(error_of(ended, FACTS, limit=60.0))


def test_ending_well_is_no_error() -> None:
    """Exit 0 has nothing to say."""
    assert error_of(Ended(Reason.EXIT, code=0), FACTS, limit=None) is None


@pytest.mark.parametrize(
    ("ended", "message"),
    [
        (
            Ended(Reason.EXIT, code=3, seconds=4.21, last_line=b"KeyError: \x1b[31m'vocab'"),
            (
                "onnx failed on u/m@0123456789ab after 4.2 s\n  log      logs/1.log\n  status   3\n"
                "  it said  KeyError: \\x1b[31m'vocab'"
            ),
        ),
        (
            Ended(Reason.SIGNAL, signal=signal.SIGSEGV, seconds=0.1),
            "onnx was ended by SIGSEGV on u/m@0123456789ab after 0.1 s\n  log  logs/1.log",
        ),
        (
            Ended(Reason.TIMEOUT, seconds=60.2),
            (
                "onnx took longer than 1 min on u/m@0123456789ab and was ended\n  log  logs/1.log\n"
                "hint: give it more time with timeout: in its cog-adapter.yaml"
            ),
        ),
        (
            Ended(Reason.MEMORY, seconds=75),
            (
                "onnx ran out of memory on u/m@0123456789ab after 1 min 15 s\n  log  logs/1.log\n"
                "hint: run fewer at once with -j, or give the machine more memory"
            ),
        ),
        (
            Ended(Reason.LOST, detail="its first process was ended"),
            "the worker that ran onnx on u/m@0123456789ab died\n  log     logs/1.log\n  reason  its first process was ended",
        ),
        (
            Ended(Reason.NOT_STARTED, errno=errno.ENOEXEC),
            "onnx could not be started on u/m@0123456789ab\n  log     logs/1.log\n  reason  the script has no #! line",
        ),
    ],
    ids=lambda value: str(value.reason) if isinstance(value, Ended) else "",
)
def test_each_ending_has_its_own_words(ended: Ended, message: str) -> None:
    """Exit, signal, timeout, memory, a lost worker and a script that can't start are told apart."""
    assert said(ended) == message


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (59.94, "59.9 s"), (60, "1 min"), (125, "2 min 5 s"), (3600, "1 h"), (7260, "2 h 1 min")],
)
def test_times_for_people(seconds: float, text: str) -> None:
    """Seconds, minutes and hours."""
    assert span(seconds) == text
