"""An attempt: while it is under way, and how it ended."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cogbuild.database.history import Attempt
from cogbuild.engine.logfile import LogFile
from cogbuild.engine.places import Note as Whose
from cogbuild.engine.recording import reasons_json
from cogbuild.process import Reason

if TYPE_CHECKING:
    from cogbuild.database.pairs import Artifact
    from cogbuild.engine.places import Places
    from cogbuild.engine.preparing import Prepared
    from cogbuild.errors import CogbuildError
    from cogbuild.planner import Judged
    from cogbuild.process import Ended

__all__ = ["Attempted", "Running", "new_attempt", "summed_up"]

_EXIT_TEMPORARY = 75  # EX_TEMPFAIL of sysexits.h


@dataclass(frozen=True)
class Attempted:
    """How one attempt ended."""

    attempt: Attempt
    status: str  # as in Attempt
    artifacts: tuple[Artifact, ...] = ()
    reason: str | None = None  # not None: not applicable
    error: CogbuildError | None = None
    temporary: bool = False  # exit 75
    log_tail: bytes = b""
    #: Its note tells whose run it was, in case that we are killed before that is recorded.
    places: Places | None = None


class Running:
    """An attempt that is under way."""

    def __init__(self, judged: Judged, kind: str, logs: tuple[str, str]) -> None:
        self.judged = judged
        self.kind = kind
        self.name = new_attempt()
        self.log = LogFile(f"{logs[0]}/{self.name}.log")
        self.started, self.clock = time.time(), time.monotonic()
        self.reasons = reasons_json(judged.verdict.reasons)
        #: What names the run in errors.
        self.facts: dict[str, object] = {
            "adapter": judged.adapter.name,
            "model": f"{judged.entry.repo}@{judged.entry.model[:12]}",
            "log": f"{logs[1]}/{self.name}.log",
        }
        self.ended: Ended | None = None
        self.artifacts: tuple[Artifact, ...] = ()
        self._prepared: Prepared | None = None

    @property
    def note(self) -> Whose:
        """What is written down of it, in case that we are killed before it is recorded."""
        entry, adapter = self.judged.entry, self.judged.adapter
        return Whose(
            self.name, entry.eid, adapter.name, self.judged.key, self.kind, self.started, self.reasons
        )

    @property
    def prepared(self) -> Prepared:
        """What it runs in."""
        assert self._prepared is not None
        return self._prepared

    @prepared.setter
    def prepared(self, prepared: Prepared) -> None:
        self._prepared = prepared


def summed_up(running: Running, places: Places, error: CogbuildError | None, tail: bytes) -> Attempted:
    ended, artifacts = running.ended, running.artifacts
    reason = None
    if error is None and ended is not None and not artifacts:
        reason = ended.last_line.decode("utf-8", "replace").strip() or "the adapter gave no reason"
    interrupted = ended is not None and ended.reason is Reason.CANCELLED
    status = "interrupted" if interrupted else "failed" if error else "not applicable" if reason else "built"
    attempt = Attempt(
        running.name,
        running.judged.entry.eid,
        0,
        running.judged.key,
        running.kind,
        running.started,
        time.monotonic() - running.clock,
        ended.cpu_seconds if ended else 0.0,
        ended.max_rss if ended else 0,
        status,
        error.title if error else reason or "",
        running.reasons,
    )
    temporary = ended is not None and ended.reason is Reason.EXIT and ended.code == _EXIT_TEMPORARY
    return Attempted(attempt, status, artifacts, reason, error, temporary, tail, places)


def new_attempt() -> str:
    """Return the name of a new attempt; names sort by time."""
    return f"{time.time_ns() // 1000:014x}{os.urandom(2).hex()}"
