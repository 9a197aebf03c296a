"""One pair: judge → restore or run → publish → test → record.

The order of writes: bytes (published files, fsynced), then one database transaction (parts, attempt, outcome, what is
pending), then the cache, then the word "done" to whoever listens.
"""

from __future__ import annotations

from cogbuild.engine.events import Event, Line, Listener, Note, Result, Started, Status
from cogbuild.engine.run import Engine

__all__ = ["Engine", "Event", "Line", "Listener", "Note", "Result", "Started", "Status"]
