"""The end of a run in one line, and the failures with their logs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cogbuild.engine import Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cogbuild.engine import Result
    from cogbuild.library import Problem

__all__ = ["Summary"]

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

    def line(self) -> str:
        """Return ``2 built, 1 restored, 40 fresh, 1 failed``."""
        parts = [f"{count} {status}" for status in _ORDER if (count := self.counts.get(status, 0))]
        return ", ".join(parts) or "nothing to do"

    def lines(self) -> Iterator[str]:
        """Yield what is wrong, then the totals."""
        for problem in self.problems:
            yield str(problem.error)
        for result in self.failures:
            if result.status is Status.BLOCKED:
                yield f"blocked {result.pair}: {result.reason}"
            elif result.error is not None:
                yield str(result.error)
        yield self.line()

    def to_json(self) -> dict[str, Any]:
        """Return counts by status, every status there."""
        return {str(status): self.counts.get(status, 0) for status in _ORDER}
