"""Child processes, supervised to their last descendant; nothing else in cogbuild starts any."""

from __future__ import annotations

from cogbuild.process.capture import Captured, capture

__all__ = ["Captured", "capture"]
