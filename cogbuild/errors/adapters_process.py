"""What goes wrong before any adapter runs: the protection asked for is not to be had."""

from __future__ import annotations

from cogbuild.errors import CogbuildError

__all__ = ["ProtectionRefused", "ProtectionUnknown"]


class ProtectionRefused(CogbuildError):
    """Facts: level, reason."""

    headline = "this machine does not give the protection {level}"
    hint = "run `cogbuild doctor` to see what it gives, and why not more"


class ProtectionUnknown(CogbuildError):
    """Facts: variable, value, known."""

    headline = "{variable} names no protection: {value}"
    hint = "unset it, or name one of those known"
