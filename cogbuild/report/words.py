"""Times, sizes, digests and reasons in words."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

from cogbuild.engine.ending import span

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cogbuild.verdict import Reason

__all__ = ["age", "amount", "changed", "reason_text", "short", "span"]

_LONG_HEX = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{28,}\b")


def age(when: float, now: float | None = None) -> str:
    """Return how long ago *when* (seconds since the epoch) was: ``12 s``, ``5 min``, ``3 h``, ``2 d``."""
    seconds = max(0.0, (time.time() if now is None else now) - when)
    for limit, unit, word in ((90, 1, "s"), (90 * 60, 60, "min"), (36 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {word}"
    return f"{seconds / 86400:.0f} d"


def amount(size: float) -> str:
    """Return bytes for people: ``532 B``, ``1.4 kB``, ``2.0 GB`` (powers of ten)."""
    if size < 1000:
        return f"{size:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1000
        if size < 1000:
            break
    return f"{size:.1f} {unit}"


def short(text: str) -> str:
    """Return *text* with long digests cut to 12 digits."""
    return _LONG_HEX.sub(r"\1", text)


def changed(before: str | None, after: str | None) -> str:
    """Return both values of a row, as ``17 → 18``; a row that was or is not there says so."""
    return f"{'(absent)' if before is None else short(_plain(before))} → {'(absent)' if after is None else short(_plain(after))}"


def _plain(value: str) -> str:
    if value[:1] in '"[{':
        try:
            parsed = json.loads(value)
        except ValueError:
            return value
        return parsed if isinstance(parsed, str) else value
    return value


def reason_text(reasons: Iterable[Reason], *, most: int = 3) -> str:
    """Return reasons on one line: what is so, then the rows that moved."""
    reasons = list(reasons)
    said = [reason.text for reason in reasons if reason.label is None]
    rows = [f"{reason.label} {changed(reason.before, reason.after)}" for reason in reasons if reason.label is not None]
    shown = rows[:most] + ([f"and {len(rows) - most} more rows"] if len(rows) > most else [])
    return "; ".join(said) + (": " + ", ".join(shown) if shown else "")
