"""How a process ended, as the error that says it."""

from __future__ import annotations

import errno
import os
import signal
from typing import TYPE_CHECKING

from cogbuild.errors import span
from cogbuild.errors.adapters import (
    AdapterExited,
    AdapterKilled,
    AdapterLost,
    AdapterNotStarted,
    AdapterOutOfMemory,
    AdapterTimedOut,
)
from cogbuild.process import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cogbuild.errors import CogbuildError
    from cogbuild.process import Ended

__all__ = ["error_of"]


def error_of(ended: Ended, facts: Mapping[str, object], *, limit: float | None) -> CogbuildError | None:
    """Return what is to be said of an ending, None where the process ended well. *limit* is the timeout in seconds."""
    said = {"it_said": ended.last_line.decode("utf-8", "surrogateescape")} if ended.last_line else {}
    took = {"took": span(ended.seconds)}
    if ended.reason is Reason.EXIT:
        return AdapterExited(**facts, **took, status=ended.code, **said) if ended.code else None
    if ended.reason is Reason.SIGNAL:
        return AdapterKilled(**facts, **took, signal=_signal(ended.signal), **said)
    if ended.reason is Reason.TIMEOUT:
        return AdapterTimedOut(**facts, limit=span(limit or ended.seconds), **said)
    if ended.reason is Reason.MEMORY:
        return AdapterOutOfMemory(**facts, **took, **said)
    if ended.reason is Reason.LOST:
        return AdapterLost(**facts, reason=ended.detail or None, **said)
    why = {
        errno.ENOEXEC: "the script has no #! line",
        errno.ENOENT: "the script or its interpreter is not there",
    }
    known = why.get(ended.errno) if ended.errno else None
    return AdapterNotStarted(
        **facts, reason=known or ended.detail or (os.strerror(ended.errno) if ended.errno else None)
    )


def _signal(number: int | None) -> str:
    try:
        return signal.Signals(number or 0).name
    except ValueError:
        return f"signal {number}"
