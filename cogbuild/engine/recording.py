"""What a pair's end leaves: attempt, outcome, record, counters; each in the order that survives a crash."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from cogbuild.cache import Record
from cogbuild.database import feed, history, models, pairs
from cogbuild.database.pairs import Artifact, Outcome

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from cogbuild.database.history import Attempt
    from cogbuild.planner import Judged
    from cogbuild.project import Project
    from cogbuild.verdict import Reason


__all__ = ["Made", "Recorder", "reasons_json"]

T = TypeVar("T")


# Pairs that become durable together where that many are under way.
_TOGETHER = 6


@lru_cache(maxsize=64)  # asked several times for each pair, and pairs of one run share theirs
def reasons_json(reasons: tuple[Reason, ...]) -> str:
    """Return reasons as JSON, without what is not there."""
    rows = [
        {name: value for name, value in asdict(reason).items() if value is not None} for reason in reasons
    ]
    return json.dumps(rows, separators=(",", ":"))


def _asked(judged: Judged) -> int:
    """Return 1 where the cache was asked before the run: what is forced or forgotten runs whatever it holds."""
    return int(not any(reason.code in ("forced", "forgotten") for reason in judged.verdict.reasons))


class Made(NamedTuple):
    """What the attempts of a pair came to; without any, that the adapter does not apply."""

    judged: Judged
    attempts: Sequence[Attempt]
    artifacts: tuple[Artifact, ...]
    reason: str | None  # not None: not applicable
    log_tail: bytes


class Recorder:
    """Writes what a run came to."""

    def __init__(self, project: Project, under_way: Callable[[], int] = lambda: 1) -> None:
        self.project = project
        self._under_way = under_way  # how many pairs are being brought up to date now
        self._aids: dict[str, int] = {}

    def made(self, *made: Made, alone: bool = False) -> list[Outcome]:
        """Record what attempts made, each of a pair of its own; durable when this returns.

        *alone*: others that may end now are not waited for.
        """
        now = time.time()
        outcomes = [
            self._outcome(
                item.judged,
                artifacts=item.artifacts,
                reason=item.reason,
                attempt=item.attempts[-1].id if item.attempts else "",
                made=now,
                how="built",
                test=item.judged.adapter.test if item.artifacts else None,
            )
            for item in made
        ]
        by_adapter: dict[str, list[tuple[Made, Outcome]]] = {}
        for item, outcome in zip(made, outcomes, strict=True):
            by_adapter.setdefault(item.judged.adapter.name, []).append((item, outcome))

        def work(con: sqlite3.Connection) -> None:
            for several in by_adapter.values():
                self._put_made(con, several)

        self._write(work, alone=alone)
        self.project.cache.put(
            *(
                _record(item, item.attempts[-1], outcome)
                for item, outcome in zip(made, outcomes, strict=True)
                if item.attempts
            )
        )
        return outcomes

    def _put_made(self, con: sqlite3.Connection, made: Sequence[tuple[Made, Outcome]]) -> None:
        """Record what one adapter made."""
        judged = made[0][0].judged
        aid = self._aid(con, judged)
        history.put_attempts(con, aid, [attempt for item, _ in made for attempt in item.attempts])
        self._put(con, [(item.judged, outcome) for item, outcome in made])
        ran = [item for item, _ in made if item.attempts]
        if ran:
            misses = sum(_asked(item.judged) for item in ran)
            pairs.count(con, judged.adapter.name, runs=len(ran), misses=misses)

    def restored(self, judged: Judged, record: Record, *, untested: bool) -> Outcome | None:
        """Record that the work was found in the cache; None where an artifact got lost since it was found."""
        outcome = self._outcome(
            judged,
            artifacts=record.artifacts,
            reason=record.reason,
            attempt=record.attempt,
            made=record.made,
            how="restored",
            test=None if untested else judged.adapter.test,
        )

        def work(con: sqlite3.Connection) -> bool:
            if pairs.any_lost(con, record.artifacts):
                return False
            self._put(con, [(judged, outcome)])
            if untested:  # killed before the test has ended, the pair is still listed
                feed.add_pending(con, self._aid(con, judged), [judged.entry.eid], "planned")
            pairs.count(con, judged.adapter.name, restored=1, saved=record.seconds)
            return True

        return outcome if self._write(work) else None

    def tested(
        self, judged: Judged, attempt: Attempt, artifacts: tuple[Artifact, ...], *, failed: str | None
    ) -> None:
        """Record what a changed test said of an artifact that was there, and measured of it."""
        outcome = judged.outcome
        assert outcome is not None

        def work(con: sqlite3.Connection) -> None:
            self._put_attempts(con, judged, [attempt])
            new = replace(outcome, artifacts=artifacts, test=judged.adapter.test, test_failed=failed)
            pairs.put_outcomes(con, self._aid(con, judged), judged.adapter.context, [new])
            if failed is not None:
                feed.add_pending(con, self._aid(con, judged), [judged.entry.eid], f"failed: {failed}")

        self.project.database.write(work)

    def failed(self, judged: Judged, attempts: Sequence[Attempt], why: str, *, ran: bool) -> None:
        """Record attempts that came to nothing; the pair stays listed and is tried again by the next run."""

        def work(con: sqlite3.Connection) -> None:
            self._put_attempts(con, judged, attempts)
            feed.add_pending(con, self._aid(con, judged), [judged.entry.eid], f"failed: {why}")
            if ran:
                pairs.count(con, judged.adapter.name, runs=1, misses=_asked(judged))

        self.project.database.write(work)

    def interrupted(self, judged: Judged, attempts: Sequence[Attempt]) -> None:
        """Record attempts of which the last was ended by us; the pair stays listed as it was."""
        self.project.database.write(lambda con: self._put_attempts(con, judged, attempts))

    def blocked(self, judged: Judged) -> None:
        """Keep a blocked pair listed."""
        self.project.database.write(
            lambda con: feed.add_pending(con, self._aid(con, judged), [judged.entry.eid], "blocked")
        )

    def settled(self, judged: Judged) -> None:
        """Take a pair that turned out fresh off the list."""

        def work(con: sqlite3.Connection) -> None:
            if pairs.same_needs(con, judged.entry.eid, judged.needed):
                feed.done(con, self._aid(con, judged), [judged.entry.eid], judged.adapter.context)

        self.project.database.write(work)

    def _write(self, work: Callable[[sqlite3.Connection], T], *, alone: bool = False) -> T:
        return self.project.database.write(work, company=1 if alone else min(self._under_way(), _TOGETHER))

    def _aid(self, con: sqlite3.Connection, judged: Judged) -> int:
        name = judged.adapter.name
        known = self._aids.get(name) or feed.adapter_id(con, name)
        if known is None:
            return feed.add_adapter(con, name)  # kept in mind only once it is durable
        self._aids[name] = known
        return known

    def _put_attempts(self, con: sqlite3.Connection, judged: Judged, attempts: Sequence[Attempt]) -> None:
        history.put_attempts(con, self._aid(con, judged), attempts)

    def _put(self, con: sqlite3.Connection, news: Sequence[tuple[Judged, Outcome]]) -> None:
        """Record how pairs of one adapter stand."""
        # Let go while it was built: what it took is known, an outcome has nobody to belong to.
        kept = models.kept_ones(con, [judged.entry.eid for judged, _ in news])
        news = [(judged, outcome) for judged, outcome in news if judged.entry.eid in kept]
        if not news:
            return
        models.put_parts(con, {part.digest: part for judged, _ in news for part in judged.parts}.values())
        adapter = news[0][0].adapter
        aid = self._aid(con, news[0][0])
        pairs.put_outcomes(con, aid, adapter.context, [outcome for _, outcome in news])
        # Another process may have made something else of what a pair needs while it ran.
        moved = [
            judged.entry.eid
            for judged, _ in news
            if not pairs.same_needs(con, judged.entry.eid, judged.needed)
        ]
        if moved:
            feed.add_pending(con, aid, moved, "needs")

    def _outcome(self, judged: Judged, **fields: Any) -> Outcome:
        assert judged.manifest is not None
        # What cogbuild itself put somewhere: its size is known.
        published = any(item.size is not None for item in fields["artifacts"])
        return Outcome(
            judged.entry.eid,
            0,  # filled in inside the transaction that may make the adapter's row
            judged.manifest.key,
            judged.manifest.encode(),
            seen=time.time() if published else None,
            reasons=reasons_json(judged.verdict.reasons),
            **fields,
        )


def _record(made: Made, last: Attempt, outcome: Outcome) -> Record:
    return Record(
        outcome.key,
        outcome.manifest,
        made.artifacts,
        made.reason,
        made.judged.adapter.name,
        last.id,
        outcome.made,
        last.seconds,
        last.cpu_seconds,
        made.log_tail.decode("utf-8", "replace"),
    )
