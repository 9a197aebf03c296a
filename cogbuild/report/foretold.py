"""What a run would do and why, as text or JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cogbuild.errors import printable
from cogbuild.report.summary import reasons_as_json
from cogbuild.report.words import changed
from cogbuild.verdict import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cogbuild.planner import Judged

__all__ = ["foretold_json", "foretold_lines", "totals"]

#: What a run does with a pair of each kind.
_DEEDS = {
    Kind.STALE: "run",
    Kind.RESTORABLE: "restore",
    Kind.UNTESTED: "test",
    Kind.PENDING: "wait",
    Kind.BLOCKED: "blocked",
    Kind.NOT_APPLICABLE: "skip",
    Kind.FRESH: "fresh",
}
_TOTALS = {
    Kind.STALE: "to run",
    Kind.RESTORABLE: "to restore",
    Kind.UNTESTED: "to test",
    Kind.PENDING: "to judge when what they need has ended",
    Kind.BLOCKED: "blocked",
    Kind.NOT_APPLICABLE: "not applicable",
    Kind.FRESH: "fresh",
}
_MOST = 8


def foretold_lines(judged: Judged) -> Iterator[str]:
    """Yield what would be done with a pair and why: a head, then the rows that moved."""
    reasons = judged.verdict.reasons
    said = "; ".join(reason.text for reason in reasons if reason.label is None)
    moved = [reason for reason in reasons if reason.label is not None]
    against = (
        f", compared with {moved[0].text}:" if moved and judged.outcome is None else ":" if moved else ""
    )
    yield f"{_DEEDS[judged.verdict.kind]:<7}  {judged.name}: {printable(said)}{against}"
    width = max((len(reason.label or "") for reason in moved[:_MOST]), default=0)
    for reason in moved[:_MOST]:
        yield f"           {printable(reason.label or ''):<{width}}  {changed(reason.before, reason.after)}"
    if len(moved) > _MOST:
        yield f"           and {len(moved) - _MOST} more rows"


def foretold_json(judged: Judged) -> dict[str, Any]:
    """Return the same as JSON."""
    return {
        "pair": judged.name,
        "repo": judged.entry.repo,
        "model": judged.entry.model,
        "adapter": judged.adapter.name,
        "verdict": str(judged.verdict.kind),
        "reasons": reasons_as_json(judged.verdict.reasons),
        "key": judged.key,
    }


def totals(counts: Mapping[str, int]) -> str:
    """Return the last line: ``2 to run, 1 to restore, 40 fresh``."""
    parts = [f"{counts[kind]} {word}" for kind, word in _TOTALS.items() if counts.get(kind)]
    return ", ".join(parts) or "no pairs"
