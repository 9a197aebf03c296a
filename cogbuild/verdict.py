"""The rebuilder: facts in, verdict and reasons out. Touches nothing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cogbuild.fingerprint.manifest import Change

__all__ = ["Facts", "Kind", "Need", "NeedState", "Reason", "Verdict", "judge", "with_changes"]


class Kind(StrEnum):
    """What a pair is."""

    FRESH = "fresh"
    RESTORABLE = "restorable"
    UNTESTED = "untested"
    STALE = "stale"
    PENDING = "pending"
    BLOCKED = "blocked"
    NOT_APPLICABLE = "not applicable"


class NeedState(StrEnum):
    """How a needed pair stands."""

    DONE = "done"
    PLANNED = "planned"
    FAILED = "failed"
    NOT_MADE = "not made"
    NOT_APPLICABLE = "not applicable"
    ABSENT = "absent"


@dataclass(frozen=True)
class Need:
    """One needed adapter and how its pair of the same model stands."""

    adapter: str
    state: NeedState
    detail: str = ""


@dataclass(frozen=True)
class Reason:
    """Why a verdict is what it is; *label*, *before* and *after* name a manifest row that moved."""

    code: str
    text: str
    label: str | None = None
    before: str | None = None
    after: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What a pair is, and why."""

    kind: Kind
    reasons: tuple[Reason, ...] = ()
    settled: bool = False  # nothing is left to do: fresh, or not applicable and recorded so


@dataclass(frozen=True)
class Facts:
    """All that a verdict depends on."""

    key: str | None  # the current action key; None: it can't be known yet
    outcome_key: str | None = None  # None: no outcome
    not_applicable: str | None = None  # the outcome's reason
    lost: str | None = None  # why the outcome's artifact is known to be gone
    test: str | None = None  # digest of the adapter's test now
    outcome_test: str | None = None  # of the test that passed or failed the outcome
    test_failed: str | None = None
    restorable: bool = False  # the cache holds an intact record and nothing that it names is known lost
    unresolved: bool = False  # the Python environment has no lock
    forced: bool = False
    forgotten: bool = False
    last_failure: str | None = None
    cleaned: bool = False  # the outcome was dropped on request
    needs: tuple[Need, ...] = ()


_BLOCKING = (NeedState.FAILED, NeedState.ABSENT, NeedState.NOT_MADE)


def judge(facts: Facts) -> Verdict:  # noqa: PLR0911 - a decision table reads best as one
    """Return what the pair is. Reasons that take reading (which rows moved) are added by :func:`with_changes`."""
    by_needs = _judge_needs(facts)
    if by_needs is not None:
        return by_needs
    if facts.unresolved:
        return _stale("unresolved", "environment not resolved")
    if facts.forced:
        return _stale("forced", "forced")
    if facts.forgotten:
        return _stale("forgotten", "forgotten on request")
    same = facts.outcome_key is not None and facts.outcome_key == facts.key
    if same and facts.lost is None:
        return _judge_same(facts)
    if facts.restorable:
        return Verdict(Kind.RESTORABLE, (Reason("known", "the same work was done before"),))
    if same:
        return _stale("lost", f"the artifact is gone: {facts.lost}")
    if facts.outcome_key is None and facts.cleaned:
        return _stale("cleaned", "cleaned on request")
    if facts.outcome_key is None:
        failed = facts.last_failure
        return (
            _stale("failed", f"the last attempt failed: {failed}") if failed else _stale("new", "never built")
        )
    return _stale("changed", "what it is made from changed")


def _judge_needs(facts: Facts) -> Verdict | None:
    blocking = [need for need in facts.needs if need.state in _BLOCKING]
    if blocking:
        return Verdict(Kind.BLOCKED, tuple(Reason("needs", _blocked(need)) for need in blocking))
    planned = [need for need in facts.needs if need.state is NeedState.PLANNED]
    refused = [need for need in facts.needs if need.state is NeedState.NOT_APPLICABLE]
    if refused and not planned:
        reasons = tuple(
            Reason("needs", f"needs {need.adapter}, which is not applicable: {need.detail}")
            for need in refused
        )
        same = facts.outcome_key == facts.key and facts.not_applicable is not None
        settled = same and not facts.forgotten  # said once more, so that it comes off the list
        return Verdict(Kind.NOT_APPLICABLE, reasons, settled)
    if planned:
        return Verdict(Kind.PENDING, tuple(Reason("needs", f"waits for {need.adapter}") for need in planned))
    return None


def _blocked(need: Need) -> str:
    if need.state is NeedState.ABSENT:
        return f"needs {need.adapter}, and no active adapter is called so"
    if need.state is NeedState.NOT_MADE:
        return f"needs {need.adapter}, which is not made" + (f": {need.detail}" if need.detail else "")
    return f"needs {need.adapter}, which failed" + (f": {need.detail}" if need.detail else "")


def _judge_same(facts: Facts) -> Verdict:
    if facts.not_applicable is not None:
        return Verdict(Kind.NOT_APPLICABLE, (Reason("not-applicable", facts.not_applicable),), settled=True)
    if facts.test != facts.outcome_test and facts.test is not None:
        return Verdict(Kind.UNTESTED, (Reason("test-changed", "only the adapter's test changed"),))
    if facts.test is not None and facts.test_failed is not None:
        return Verdict(Kind.UNTESTED, (Reason("test-failed", f"its test refused it: {facts.test_failed}"),))
    return Verdict(Kind.FRESH, settled=True)


def _stale(code: str, text: str) -> Verdict:
    return Verdict(Kind.STALE, (Reason(code, text),))


def with_changes(verdict: Verdict, changes: Sequence[Change], against: str) -> Verdict:
    """Return the verdict with a reason for each row that moved; *against* says what was compared."""
    moved = tuple(Reason("row", against, change.label, change.before, change.after) for change in changes)
    return Verdict(verdict.kind, verdict.reasons + moved, verdict.settled)
