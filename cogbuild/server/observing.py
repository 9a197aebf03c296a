"""What the server does, as numbers and as lines: counters of requests and adapters, and one line of JSON a request and a job."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from cogbuild.engine import Result, Status
from cogbuild.errors import printable
from cogbuild.report.words import iso

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from cogbuild.database.jobs import JobRow
    from cogbuild.engine import Event

__all__ = ["BrokenOff", "Numbers", "Observed", "lines_on", "say"]

#: Where lines go; without a handler they go nowhere.
LOGGER = logging.getLogger("cogbuild.server")

_METHODS = ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS")
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SECONDS = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400)
_LONGEST = 300  # characters of what came from outside in one line


class Numbers:
    """What is counted while the server runs; what the database knows is asked when the numbers are read."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        made: Any = {"registry": self.registry, "namespace": "cogbuild"}
        self.requests = Histogram(
            "request_seconds",
            "Time until an answer began, by the route's template.",
            ["method", "route", "status"],
            buckets=_BUCKETS,
            **made,
        )
        self.busy = Gauge("requests_under_way", "Requests that are being answered.", **made)
        self.uploaded = Counter("upload_bytes", "Bytes of bodies that were received.", ["route"], **made)
        self.adapters = Histogram(
            "adapter_seconds",
            "Time that pairs took in this server's jobs, by how they ended.",
            ["adapter", "status"],
            buckets=_SECONDS,
            **made,
        )
        self.failures = Counter(
            "adapter_failures", "Pairs that failed in this server's jobs.", ["adapter"], **made
        )
        self.jobs = Counter("jobs_ended", "Jobs that ended, by what they were.", ["kind", "state"], **made)

    def heard(self, event: Event) -> None:
        """Count how a pair ended."""
        if not isinstance(event, Result):
            return
        adapter = event.pair.rpartition(":")[2]
        if event.status in (Status.BUILT, Status.TESTED, Status.FAILED, Status.NOT_APPLICABLE):
            self.adapters.labels(adapter, str(event.status)).observe(event.seconds)
        if event.status is Status.FAILED:
            self.failures.labels(adapter).inc()

    def job(self, row: JobRow, state: str, code: int | None = None) -> None:
        """Say that a job began or ended."""
        facts: dict[str, Any] = {"job": row.id, "kind": row.kind, "state": state, "repo": row.repo}
        facts |= {"model": row.model, "token": row.owner}
        if code is not None:
            self.jobs.labels(row.kind, state).inc()
            facts |= {"exit_code": code, "seconds": round(time.time() - row.created, 3)}
        say("job", **facts)


# -- requests ---------------------------------------------------------------------------------------------------------


class Observed:
    """ASGI: measures every request and says it in a line. Neither holds a query, a header or a body."""

    def __init__(self, app: ASGIApp, *, numbers: Numbers) -> None:
        self.app = app
        self._numbers = numbers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        seen = _Seen(scope, receive, send)
        self._numbers.busy.inc()
        try:
            await self.app(scope, seen.receive, seen.send)
        finally:
            self._numbers.busy.dec()
            self._ended(scope, seen)

    def _ended(self, scope: Scope, seen: _Seen) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        # A path is anybody's to make up, a template is not.
        route = getattr(scope.get("route"), "path", "other")
        status = f"{seen.status // 100}xx" if seen.status else "none"
        self._numbers.requests.labels(method, route, status).observe(seen.first or seen.passed())
        if seen.received:
            self._numbers.uploaded.labels(route).inc(seen.received)
        grant = scope.get("state", {}).get("grant")
        say(
            "request",
            method=method,
            path=printable(scope["path"])[:_LONGEST],
            route=route,
            status=seen.status,
            seconds=round(seen.passed(), 4),
            received=seen.received,
            sent=seen.sent,
            client=scope["client"][0] if scope.get("client") else None,
            token=grant.token if grant is not None else None,
        )


class _Seen:
    """One request as it passes."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._began = time.perf_counter()
        self.first: float | None = None
        self.status = 0
        self.received = self.sent = 0

    def passed(self) -> float:
        """Return the seconds since it came."""
        return time.perf_counter() - self._began

    async def receive(self) -> Message:
        message = await self._receive()
        self.received += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.first = message["status"], self.passed()
        self.sent += len(message.get("body", b""))
        await self._send(message)


# -- lines ------------------------------------------------------------------------------------------------------------


def say(what: str, **facts: Any) -> None:
    """Write a line; what is None is left out."""
    if LOGGER.isEnabledFor(logging.INFO):
        LOGGER.info(
            what, extra={"facts": {name: value for name, value in facts.items() if value is not None}}
        )


class BrokenOff(ConnectionError):
    """An answer that has begun must not come to its end: whoever reads it would take it for whole, or read on."""


class _Lines(logging.Formatter):
    """One line of JSON a record, whoever wrote it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        said: dict[str, Any] = {"at": iso(record.created), "level": record.levelname.lower()}
        facts = getattr(record, "facts", None)
        if facts is not None:
            said |= {"event": record.getMessage(), **facts}
        else:
            said |= {"event": "log", "from": record.name, "text": printable(record.getMessage())}
        trouble = record.exc_info[1] if record.exc_info else None
        if isinstance(trouble, BrokenOff):  # to the server below it is a fault of ours
            said |= {
                "level": "warning",
                "from": LOGGER.name,
                "text": printable(f"an answer was broken off: {trouble}"),
            }
        elif record.exc_info:
            said["trace"] = self.formatException(record.exc_info)
        return json.dumps(said)


def lines_on() -> None:
    """Have the lines of this server, and what the one below it complains of, written to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    for name, level in (
        ("cogbuild.server", logging.INFO),
        ("uvicorn", logging.WARNING),
        ("asyncio", logging.WARNING),
    ):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False
