"""The verdict as a table: facts in, verdict out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cogbuild.fingerprint.manifest import Change
from cogbuild.verdict import Facts, Kind, Need, NeedState, judge, with_changes

BUILT: dict[str, Any] = {"key": "k", "outcome_key": "k"}


@pytest.mark.parametrize(
    ("facts", "kind", "text", "settled"),
    [
        ({"key": "k"}, Kind.STALE, "never built", False),
        ({"key": "k", "cleaned": True}, Kind.STALE, "cleaned on request", False),
        ({"key": "k", "last_failure": "boom"}, Kind.STALE, "the last attempt failed: boom", False),
        ({"key": "k", "restorable": True}, Kind.RESTORABLE, "the same work was done before", False),
        ({"key": "k", "restorable": True, "unresolved": True}, Kind.STALE, "environment not resolved", False),
        ({"key": "k", "restorable": True, "forced": True}, Kind.STALE, "forced", False),
        ({"key": "k", "restorable": True, "forgotten": True}, Kind.STALE, "forgotten on request", False),
        (BUILT, Kind.FRESH, None, True),
        ({**BUILT, "restorable": True}, Kind.FRESH, None, True),
        ({**BUILT, "forced": True}, Kind.STALE, "forced", False),
        ({**BUILT, "forgotten": True}, Kind.STALE, "forgotten on request", False),
        ({**BUILT, "key": "l"}, Kind.STALE, "what it is made from changed", False),
        ({**BUILT, "key": "l", "restorable": True}, Kind.RESTORABLE, "the same work was done before", False),
        ({**BUILT, "lost": "404"}, Kind.STALE, "the artifact is gone: 404", False),
        (
            {**BUILT, "lost": "404", "restorable": True},
            Kind.RESTORABLE,
            "the same work was done before",
            False,
        ),
        ({**BUILT, "not_applicable": "no network"}, Kind.NOT_APPLICABLE, "no network", True),
        (
            {**BUILT, "key": "l", "not_applicable": "no network"},
            Kind.STALE,
            "what it is made from changed",
            False,
        ),
        ({**BUILT, "test": "t", "outcome_test": "t"}, Kind.FRESH, None, True),
        (
            {**BUILT, "test": "u", "outcome_test": "t"},
            Kind.UNTESTED,
            "only the adapter's test changed",
            False,
        ),
        (
            {**BUILT, "test": "t", "outcome_test": None},
            Kind.UNTESTED,
            "only the adapter's test changed",
            False,
        ),
        ({**BUILT, "test": None, "outcome_test": "t"}, Kind.FRESH, None, True),
        (
            {**BUILT, "test": "t", "outcome_test": "t", "test_failed": "3 off"},
            Kind.UNTESTED,
            "its test refused it: 3 off",
            False,
        ),
        (
            {**BUILT, "test": "u", "outcome_test": "t", "key": "l"},
            Kind.STALE,
            "what it is made from changed",
            False,
        ),
    ],
)
def test_every_situation_has_its_verdict(
    facts: dict[str, Any], kind: Kind, text: str | None, settled: bool
) -> None:
    """Each row of facts gives one kind, one sentence, and whether anything is left to do."""
    verdict = judge(Facts(**facts))
    assert (verdict.kind, [reason.text for reason in verdict.reasons], verdict.settled) == (
        kind,
        [text] if text else [],
        settled,
    )


@pytest.mark.parametrize(
    ("states", "kind", "text"),
    [
        ([NeedState.DONE], Kind.FRESH, None),
        ([NeedState.PLANNED], Kind.PENDING, "waits for x0"),
        ([NeedState.FAILED], Kind.BLOCKED, "needs x0, which failed"),
        ([NeedState.NOT_MADE], Kind.BLOCKED, "needs x0, which is not made"),
        ([NeedState.ABSENT], Kind.BLOCKED, "needs x0, and no active adapter is called so"),
        ([NeedState.NOT_APPLICABLE], Kind.NOT_APPLICABLE, "needs x0, which is not applicable: "),
        ([NeedState.PLANNED, NeedState.FAILED], Kind.BLOCKED, "needs x1, which failed"),
        (
            [NeedState.PLANNED, NeedState.NOT_APPLICABLE],
            Kind.PENDING,
            "waits for x0",
        ),
        ([NeedState.NOT_APPLICABLE, NeedState.FAILED], Kind.BLOCKED, "needs x1, which failed"),
    ],
)
def test_needs_go_before_everything_else(states: list[NeedState], kind: Kind, text: str | None) -> None:
    """A pair is no further than what it needs: blocked before not applicable before pending."""
    needs = tuple(Need(f"x{number}", state) for number, state in enumerate(states))
    verdict = judge(Facts(**BUILT, needs=needs))
    assert (verdict.kind, [reason.text for reason in verdict.reasons]) == (kind, [text] if text else [])


def test_not_applicable_by_need_is_settled_once_it_is_recorded() -> None:
    """The first time it has to be written down; with the same key it is done."""
    facts = Facts("k", needs=(Need("x", NeedState.NOT_APPLICABLE, "no network"),))
    assert not judge(facts).settled
    assert judge(replace(facts, outcome_key="k", not_applicable="needs x, …")).settled


def test_rows_that_moved_join_the_reasons() -> None:
    """Each changed row is a reason with both values; what was compared is said."""
    verdict = with_changes(judge(Facts("k")), [Change("param:opset", "17", "18")], "its last outcome")
    last = verdict.reasons[-1]
    assert (last.text, last.label, last.before, last.after) == ("its last outcome", "param:opset", "17", "18")
