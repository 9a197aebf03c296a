"""A run's events as messages of JSON, and back: what a server says of a job is shown as if the run were here.

A message has the keys of Cog's server of 2021, ``type`` and ``data``, so that its clients read it as text; ``pair`` and
``event`` beside them hold what the text was made of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cogbuild.engine import Line, Note, Result, Started, Status
from cogbuild.errors import printable
from cogbuild.errors.told import told
from cogbuild.report.plain import result_lines
from cogbuild.report.summary import problems_json, reasons_as_json, result_json
from cogbuild.report.words import reason_text
from cogbuild.verdict import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cogbuild.engine import Event
    from cogbuild.errors import CogbuildError
    from cogbuild.report.summary import Summary

__all__ = ["end_message", "event_of", "expect_message", "message_of"]


def message_of(event: Event, model: str = "") -> dict[str, Any]:
    """Return an event as a message; *model* is the whole ID of the pair's model, which a result tells."""
    said: dict[str, Any]
    if isinstance(event, Line):
        return {"type": "log_line", "data": printable(event.text), "pair": event.pair}
    if isinstance(event, Note):
        text = f"{event.pair}: {printable(event.text)}"
        said = {"kind": "note", "text": event.text}
        return {"type": "status", "data": text, "pair": event.pair, "event": said}
    if isinstance(event, Started):
        reasons = reasons_as_json(event.reasons)
        said = {"kind": "started", "attempt": event.attempt, "reasons": reasons, "log": event.log}
        text = f"{event.pair}: {reason_text(event.reasons)}"
        return {"type": "status", "data": text, "pair": event.pair, "event": said}
    text = "\n".join(result_lines(event))
    said = {"kind": "result", **result_json(event, model), "saved": event.saved}
    if event.error is not None:
        said["text"] = str(event.error)
    kind = "debug_line" if event.status is Status.FRESH else "status"
    return {"type": kind, "data": text, "pair": event.pair, "event": said}


def expect_message(pairs: int) -> dict[str, Any]:
    """Return the message that so many more pairs are going to run."""
    said = {"kind": "expect", "pairs": pairs}
    return {"type": "debug_line", "data": f"{pairs} more to do", "event": said}


def end_message(
    state: str,
    exit_code: int,
    *,
    summary: Summary | None = None,
    error: CogbuildError | None = None,
) -> dict[str, Any]:
    """Return the last message of a job: how it ended, *state* being done, failed or cancelled, and its totals."""
    said: dict[str, Any] = {"kind": "end", "state": state, "exit_code": exit_code}
    said["lines"] = list(summary.lines()) if summary is not None else []
    said["summary"] = summary.to_json() if summary is not None else None
    said["problems"] = problems_json(summary.problems) if summary is not None else []
    said["notes"] = list(summary.notes) if summary is not None else []
    said["error"] = error.to_json() if error is not None else None
    text = str(error) if error is not None else summary.line() if summary is not None else state
    if error is not None:
        said["text"] = text
    return {"type": "error" if exit_code else "status", "data": text, "event": said}


def event_of(message: Mapping[str, Any]) -> Event | None:
    """Return the event that a message was made of, None where it was made of none."""
    pair = message.get("pair")
    if not isinstance(pair, str):
        return None
    pair = printable(pair)  # whoever tells us of it may have called it anything
    if message.get("type") == "log_line":
        return Line(pair, _text(message.get("data")).encode("utf-8", "surrogateescape"))
    said = message.get("event")
    said = said if isinstance(said, dict) else {}
    kind = said.get("kind")
    if kind == "note":
        return Note(pair, _text(said.get("text")))
    if kind == "started":
        return Started(
            pair, _text(said.get("attempt")), _reasons(said.get("reasons")), _text(said.get("log"))
        )
    known = kind == "result" and said.get("status") in list(Status)
    return _result(pair, said) if known else None


def _result(pair: str, said: Mapping[str, Any]) -> Result:
    from cogbuild.database.pairs import Artifact

    rows = [row for row in said.get("artifacts") or () if isinstance(row, dict)]
    error = said.get("error")
    return Result(
        pair,
        Status(said["status"]),
        float(said.get("seconds") or 0),
        tuple(
            Artifact(
                printable(_text(row.get("name"))),
                _text(row.get("uri")),
                row.get("media_type"),
                row.get("digest"),
                row.get("size"),
            )
            for row in rows
        ),
        tuple(_text(row.get("uri")) for row in rows),
        said.get("reason"),
        told(error, _text(said.get("text"))) if isinstance(error, dict) else None,
        said.get("log"),
        _reasons(said.get("reasons")),
        float(said.get("saved") or 0),
    )


def _reasons(rows: object) -> tuple[Reason, ...]:
    return tuple(
        Reason(
            _text(row.get("code")),
            _text(row.get("text")),
            row.get("label"),
            row.get("before"),
            row.get("after"),
        )
        for row in (rows if isinstance(rows, list) else ())
        if isinstance(row, dict)
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
