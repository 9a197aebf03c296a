"""What a run tells is the same after it went over the wire as JSON."""

from __future__ import annotations

import io
import json

import pytest

from cogbuild.database.pairs import Artifact
from cogbuild.engine import Event, Line, Note, Result, Started, Status
from cogbuild.errors.adapters import AdapterExited
from cogbuild.report.plain import Plain
from cogbuild.report.summary import Summary
from cogbuild.report.wire import end_message, event_of, expect_message, message_of
from cogbuild.verdict import Reason

PAIR = "ada/m@764afe713afe:onnx"
REASONS = (
    Reason("changed", "what it is made from changed"),
    Reason("row", "version 12", "param:opset", "17", "18"),
)
FAILED = AdapterExited(adapter="onnx", model="764afe713afe", took="2.0 s", it_said="KeyError: 'x'\nand more")
EVENTS: list[Event] = [
    Started(PAIR, "0660f91f90c81d20a1", REASONS, ".cogbuild/logs/a.log"),
    Line(PAIR, b"caf\xe9 \x1b[31mred"),
    Note(PAIR, "waits for the same work"),
    Result(PAIR, Status.BUILT, 1.25, (Artifact("", "ab/c/m.onnx", None, "00", 5),), ("file:///ab/c/m.onnx",)),
    Result(
        PAIR, Status.RESTORED, 0.1, (Artifact("a", "x:y"), Artifact("b", "x:z")), ("x:y", "x:z"), saved=9.0
    ),
    Result(PAIR, Status.NOT_APPLICABLE, reason="no network"),
    Result(PAIR, Status.FAILED, 2.0, error=FAILED, log=".cogbuild/logs/a.log"),
    Result(PAIR, Status.BLOCKED, reason="needs docker-cpu"),
    Result(PAIR, Status.CANCELLED),
    Result(PAIR, Status.FRESH),
]


def shown(events: list[Event]) -> tuple[str, str]:
    """Return what plain lines show of events, on stdout and on stderr."""
    out, log = io.StringIO(), io.StringIO()
    watch = Plain(out, log)
    for event in events:
        watch(event)
    return out.getvalue(), log.getvalue()


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_is_shown_the_same_after_the_wire(event: Event) -> None:
    """A message goes through JSON and is shown as the event that it was made of."""
    message = json.loads(json.dumps(message_of(event, "764afe7" * 6)))
    back = event_of(message)
    assert back is not None
    assert shown([back]) == shown([event])
    assert message["type"] in ("status", "log_line", "debug_line")


def test_an_error_keeps_words_facts_and_code() -> None:
    """What failed there is told here with the same text, title, JSON and exit code."""
    back = event_of(json.loads(json.dumps(message_of(EVENTS[6]))))
    assert isinstance(back, Result)
    assert back.error is not None
    assert (str(back.error), back.error.title, back.error.exit_code) == (str(FAILED), FAILED.title, 1)
    assert back.error.to_json() == json.loads(json.dumps(FAILED.to_json()))


def test_what_a_client_of_2021_reads_is_text() -> None:
    """Each message's data is what plain lines show, without the pair where the line is an adapter's."""
    assert message_of(EVENTS[1])["data"] == "caf\\xe9 \\x1b[31mred"
    assert message_of(EVENTS[3])["data"] == f"built    {PAIR}  1.2 s\n  file:///ab/c/m.onnx"
    assert expect_message(2)["data"] == "2 more to do"


def test_the_end_has_the_totals() -> None:
    """The last message says how the job ended, in the words of a run's end."""
    summary = Summary({Status.BUILT: 1, Status.FAILED: 1}, (Result(PAIR, Status.FAILED, error=FAILED),))
    end = json.loads(json.dumps(end_message("failed", 1, summary=summary)))
    assert end["type"] == "error"
    assert end["event"]["lines"] == list(summary.lines())
    assert end["event"]["summary"]["built"] == 1
    assert end_message("done", 0)["data"] == "done"
    assert end_message("failed", 1, error=FAILED)["event"]["text"] == str(FAILED)


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"type": "status"},
        {"pair": 3},
        {"pair": PAIR, "event": []},
        {"pair": PAIR, "event": {"kind": "result"}},
    ],
)
def test_a_message_of_no_event_is_none(message: dict[str, object]) -> None:
    """Stages of an upload, and what a newer server says, are no events."""
    assert event_of(message) is None


def test_names_that_a_server_invents_act_on_no_terminal() -> None:
    """Pairs and artifacts are named by whoever sends the message; they are escaped before they are shown."""
    said = {"kind": "result", "status": "built", "artifacts": [{"name": "\x1b[2J", "uri": "\x1b[31mx:y"}]}
    event = event_of({"type": "status", "pair": "a/b@\x1b]0;evil\x07:c", "event": said})
    assert event is not None
    assert "\x1b" not in shown([event])[0]
    assert shown([event])[0] == ("built    a/b@\\x1b]0;evil\\x07:c  0.0 s\n  \\x1b[2J: \\x1b[31mx:y\n")
