"""Times, sizes, digests and reasons in words."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

from cogbuild.errors import printable, span

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cogbuild.verdict import Reason

__all__ = ["age", "amount", "changed", "clock", "iso", "reason_text", "row_text", "short", "span"]

_LONG_HEX = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{28,}\b")


def age(when: float, now: float | None = None) -> str:
    """Return how long ago *when* (seconds since the epoch) was: ``12 s``, ``5 min``, ``3 h``, ``2 d``."""
    seconds = max(0.0, (time.time() if now is None else now) - when)
    for limit, unit, word in ((90, 1, "s"), (90 * 60, 60, "min"), (36 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {word}"
    return f"{seconds / 86400:.0f} d"


def iso(when: float | None) -> str | None:
    """Return a time as ISO 8601 in UTC, for JSON."""
    if when is None:
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(when)) + f".{int(when % 1 * 1000):03}Z"


def amount(size: float) -> str:
    """Return bytes for people: ``532 B``, ``1.4 kB``, ``2.0 GB`` (powers of ten)."""
    if size < 1000:
        return f"{size:.0f} B"
    power = 0
    while size >= 999.95 and power < 4:
        size /= 1000
        power += 1
    return f"{size:.1f} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def short(text: str) -> str:
    """Return *text* with long digests cut to 12 digits."""
    return _LONG_HEX.sub(r"\1", text)


def changed(before: str | None, after: str | None) -> str:
    """Return both values of a row, as ``17 → 18``; a row that was or is not there says so."""
    return f"{_side(before)} → {_side(after)}"


def _side(value: str | None) -> str:
    return "(absent)" if value is None else printable(short(_plain(value)))


def _plain(value: str) -> str:
    if value[:1] in '"[{':
        try:
            parsed = json.loads(value)
        except ValueError:
            return value
        return parsed if isinstance(parsed, str) else value
    return value


def clock(seconds: float) -> str:
    """Return a running time in few columns: ``8 s``, ``2:05``, ``1:00:09``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02}"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def row_text(reason: Reason) -> str:
    """Return a row that moved: ``param:opset 17 → 18``."""
    return f"{printable(reason.label or '')} {changed(reason.before, reason.after)}"


def reason_text(reasons: Iterable[Reason], *, most: int = 3) -> str:
    """Return reasons on one line: what is so, what it was compared with, then the rows that moved."""
    reasons = list(reasons)
    said = [reason.text for reason in reasons if reason.label is None]
    moved = [reason for reason in reasons if reason.label is not None]
    rows = [row_text(reason) for reason in moved[:most]]
    if len(moved) > most:
        rows.append(f"and {len(moved) - most} more rows")
    against = f", compared with {moved[0].text}" if moved and moved[0].text.startswith("version ") else ""
    return printable("; ".join(said)) + (f"{against}: " + ", ".join(rows) if rows else "")
