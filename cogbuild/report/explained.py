"""Why a pair is what it is, as text and JSON."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from cogbuild.errors import printable
from cogbuild.report.summary import reasons_as_json
from cogbuild.report.tables import facts
from cogbuild.report.words import age, changed, iso, reason_text, span
from cogbuild.verdict import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cogbuild.database.pairs import Outcome
    from cogbuild.views.attempts import Tried
    from cogbuild.views.pair import Moved, Origin, PairView

__all__ = ["pair_json", "pair_lines", "stored_reasons"]

_MOST = 40  # rows that are shown; --json has them all


def pair_lines(view: PairView) -> Iterator[str]:
    """Yield what the pair is and why, the rows that moved, then its history."""
    yield _head(view)
    yield from _rows(view.moved)
    yield from facts(_history(view))
    if (advice := _advice(view)) is not None:
        yield f"hint: {advice}"


def _head(view: PairView) -> str:
    if view.verdict is None:
        return f"{view.name} is not judged: {view.unjudged}"
    said = "; ".join(printable(reason.text) for reason in view.verdict.reasons if reason.label is None)
    head = f"{view.name} is {view.verdict.kind}" + (f": {said}" if said else "")
    if not view.moved:
        return head
    count = len(view.moved)
    return f"{head}; {count} of {view.rows} rows differ{'s' if count == 1 else ''} from {view.against}"


def _rows(moved: tuple[Moved, ...]) -> Iterator[str]:
    width = max((len(printable(row.label)) for row in moved[:_MOST]), default=0)
    for row in moved[:_MOST]:
        yield f"  {printable(row.label):<{width}}  {changed(row.before, row.after)}"
        if row.path_before is not None and row.path is not None:
            yield f"  {'':<{width}}  diff {_path(row.path_before)} {_path(row.path)}"
        elif row.path is not None:
            yield f"  {'':<{width}}  {_path(row.path)}"
    if len(moved) > _MOST:
        yield f"  and {len(moved) - _MOST} more rows: --json lists them"


def _path(path: str) -> str:
    relative = os.path.relpath(path)
    return printable(path if relative.startswith("../../..") else relative)


def _history(view: PairView) -> Iterator[tuple[str, str]]:
    outcome, last = view.outcome, view.last
    if outcome is not None:
        yield outcome.how, f"{age(outcome.made)} ago{_made_by(view.origin)}"
        yield from _made(view, outcome)
    if last is not None and (outcome is None or last.id != outcome.attempt):
        yield "tried", _tried(last, said=_head(view))
        if last.log is not None:
            yield "log", _path(str(last.log))
    if view.key is not None or outcome is not None:
        yield "key", _keys(view)
    yield "added", f"{age(view.entry.added)} ago"


def _made(view: PairView, outcome: Outcome) -> Iterator[tuple[str, str]]:
    if outcome.reasons != "[]":
        yield "because", reason_text(stored_reasons(outcome.reasons), most=8)
    if outcome.reason is not None:
        yield "says", printable(outcome.reason)
    for item, uri in view.artifacts:
        yield item.name or "artifact", printable(uri)
    if outcome.lost is not None:
        yield "gone", printable(outcome.lost)
    elif outcome.seen is not None:
        yield "seen", f"{age(outcome.seen)} ago"
    if outcome.test_failed is not None:
        yield "test", f"refused it: {printable(outcome.test_failed)}"


def _made_by(origin: Origin | None) -> str:
    if origin is None:
        return ""
    spent = f" in {span(origin.ran.seconds)}" if origin.ran is not None else ""
    whose = f" for {origin.pair}" if origin.pair else ", which ran elsewhere" if origin.ran is None else ""
    return f"{spent}, by attempt {origin.attempt}{whose}"


def _tried(last: Tried, *, said: str) -> str:
    if last.seconds is None:
        return f"for {age(last.started)} and still running, as attempt {last.number}"
    word = f"{last.status} after {span(last.seconds)}"
    detail = printable(last.detail)
    return f"{age(last.started)} ago, {word}, as attempt {last.number}" + (
        f": {detail}" if detail and detail not in said else ""
    )


def _keys(view: PairView) -> str:
    then = view.outcome.key[:12] if view.outcome is not None else None
    now = view.key[:12] if view.key is not None else None
    if now is None:
        return f"{then} when it was made" if then else ""
    return now if then in (now, None) else f"{now} now, {then} when it was made"


def _advice(view: PairView) -> str | None:
    if view.verdict is None or view.verdict.settled:
        return None
    last = view.last
    if last is not None and last.status == "failed" and last.log is not None:
        return f"read its log with `cogbuild logs {view.entry.model[:12]} {view.adapter}`"
    if last is not None and last.seconds is None:
        return f"watch it with `cogbuild logs --follow {view.entry.model[:12]} {view.adapter}`"
    return (
        f"bring it up to date with `cogbuild adapt --model {view.entry.model[:12]} --adapter {view.adapter}`"
    )


def stored_reasons(text: str) -> list[Reason]:
    """Return the reasons that the database keeps as JSON."""
    return [Reason(**row) for row in json.loads(text)]


def pair_json(view: PairView) -> dict[str, Any]:
    """Return the same as JSON, with every row."""
    outcome, origin = view.outcome, view.origin
    return {
        "pair": view.name,
        "repo": view.entry.repo,
        "model": view.entry.model,
        "adapter": view.adapter,
        "added": iso(view.entry.added),
        "verdict": str(view.verdict.kind) if view.verdict else None,
        "unjudged": view.unjudged,
        "reasons": reasons_as_json([r for r in view.verdict.reasons if r.label is None])
        if view.verdict
        else [],
        "against": view.against,
        "moved": [
            {
                "label": row.label,
                "before": row.before,
                "after": row.after,
                "path": row.path,
                "path_before": row.path_before,
            }
            for row in view.moved
        ],
        "rows": view.rows,
        "key": view.key,
        "outcome": {
            "key": outcome.key,
            "how": outcome.how,
            "made": iso(outcome.made),
            "reasons": reasons_as_json(outcome.reasons),
            "not_applicable": outcome.reason,
            "artifacts": [
                {"name": item.name, "uri": uri, "digest": item.digest} for item, uri in view.artifacts
            ],
            "seen": iso(outcome.seen),
            "lost": outcome.lost,
            "test_failed": outcome.test_failed,
            "attempt": outcome.attempt or None,
            "seconds": origin.ran.seconds if origin and origin.ran else None,
            "from": origin.pair if origin else None,
            "manifest": view.manifest,
        }
        if outcome is not None
        else None,
        "last_attempt": tried_json(view.last) if view.last else None,
    }


def tried_json(tried: Tried) -> dict[str, Any]:
    """Return one attempt as JSON."""
    return {
        "number": tried.number,
        "attempt": tried.id,
        "kind": tried.kind,
        "status": tried.status,
        "started": iso(tried.started),
        "seconds": tried.seconds,
        "detail": tried.detail,
        "reasons": reasons_as_json(tried.reasons),
        "log": str(tried.log) if tried.log else None,
    }
