"""What happens in a run, as values: whoever watches decides how to show it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cogbuild.database.pairs import Artifact
    from cogbuild.errors import CogbuildError
    from cogbuild.verdict import Reason

__all__ = ["Event", "Line", "Listener", "Note", "Result", "Started", "Status"]


class Status(StrEnum):
    """How a pair ended in a run."""

    BUILT = "built"
    RESTORED = "restored"
    TESTED = "tested"  # only its test ran
    FRESH = "fresh"
    NOT_APPLICABLE = "not applicable"
    FAILED = "failed"
    BLOCKED = "blocked"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Started:
    """An adapter was started for a pair."""

    pair: str
    attempt: str
    reasons: tuple[Reason, ...]
    log: str


@dataclass(frozen=True)
class Line:
    """A line that an adapter wrote to stderr, without its end."""

    pair: str
    text: bytes


@dataclass(frozen=True)
class Note:
    """Something cogbuild says about a pair while it works."""

    pair: str
    text: str


@dataclass(frozen=True)
class Result:
    """How a pair ended; said only once it is durable."""

    pair: str
    status: Status
    seconds: float = 0.0
    artifacts: tuple[Artifact, ...] = ()
    uris: tuple[str, ...] = ()  # of the artifacts, as people use them
    reason: str | None = None  # of not applicable and blocked
    error: CogbuildError | None = None
    log: str | None = None
    reasons: tuple[Reason, ...] = field(default=())
    saved: float = 0.0  # seconds that the first run had taken, of what was restored


Event = Started | Line | Note | Result
Listener = Callable[[Event], None]
