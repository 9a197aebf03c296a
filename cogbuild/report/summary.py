"""The end of a run: the failures with their logs, and the totals in one line; the same as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from cogbuild.engine import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cogbuild.engine import Result
    from cogbuild.library import Problem
    from cogbuild.verdict import Reason

__all__ = ["Summary", "problems_json", "reasons_as_json", "result_json", "together"]

_ORDER = (
    Status.BUILT,
    Status.RESTORED,
    Status.TESTED,
    Status.FRESH,
    Status.NOT_APPLICABLE,
    Status.FAILED,
    Status.BLOCKED,
    Status.CANCELLED,
)


@dataclass(frozen=True)
class Summary:
    """How many pairs ended how, and what is wrong."""

    counts: dict[Status, int]
    failures: tuple[Result, ...] = ()
    problems: tuple[Problem, ...] = ()
    #: Pairs that would have run, had the user not told doit to ignore them.
    ignored: int = 0
    #: What went wrong and was passed over, e.g. a damaged cache.
    notes: tuple[str, ...] = ()

    def line(self) -> str:
        """Return ``2 built, 1 restored, 40 fresh, 1 failed``."""
        parts = [f"{count} {status}" for status in _ORDER if (count := self.counts.get(status, 0))]
        parts += [f"{self.ignored} ignored"] if self.ignored else []
        return ", ".join(parts) or "no pairs"

    def lines(self) -> Iterator[str]:
        """Yield what is wrong, then the totals."""
        for note in self.notes:
            yield f"note: {note}"
        for problem in self.problems:
            yield str(problem.error)
        for result in self.failures:
            if result.status is Status.BLOCKED:
                yield f"blocked {result.pair}: {result.reason}"
            elif result.error is not None:
                yield str(result.error)
        yield self.line()

    def to_json(self) -> dict[str, int]:
        """Return counts by status, every status there."""
        return {str(status): self.counts.get(status, 0) for status in _ORDER}


def together(first: Summary | None, second: Summary | None) -> Summary | None:
    """Return the totals of two runs, one after the other."""
    if first is None or second is None:
        return first or second
    counts = {status: first.counts.get(status, 0) + second.counts.get(status, 0) for status in _ORDER}
    return Summary(
        counts,
        first.failures + second.failures,
        second.problems,
        first.ignored + second.ignored,
        tuple(dict.fromkeys(first.notes + second.notes)),
    )


def result_json(result: Result, model: str) -> dict[str, Any]:
    """Return how a pair ended as JSON; *model* is the whole ID, of which the pair's name has twelve digits."""
    repo, _, rest = result.pair.partition("@")
    return {
        "pair": result.pair,
        "repo": repo,
        "model": model,
        "adapter": rest.partition(":")[2],
        "status": str(result.status),
        "seconds": round(result.seconds, 3),
        "artifacts": [
            {
                "name": item.name,
                "uri": uri,
                "media_type": item.media_type,
                "digest": item.digest,
                "size": item.size,
            }
            for item, uri in zip(result.artifacts, result.uris, strict=True)
        ],
        "reason": result.reason,
        "reasons": reasons_as_json(result.reasons),
        "error": result.error.to_json() if result.error is not None else None,
        "log": result.log,
    }


def reasons_as_json(reasons: Iterable[Reason] | str) -> list[dict[str, Any]]:
    """Return reasons as JSON, as values or as the database keeps them; every key is there."""
    rows = json.loads(reasons) if isinstance(reasons, str) else [asdict(reason) for reason in reasons]
    names = ("code", "text", "label", "before", "after")
    return [{name: row.get(name) for name in names} for row in rows]


def problems_json(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    """Return live directories that can't be used as JSON."""
    return [{"path": problem.path, "error": problem.error.to_json()} for problem in problems]
