"""What happened and what is, as text or JSON: wording and layout, no decisions."""

from __future__ import annotations

from cogbuild.report.plain import Plain
from cogbuild.report.summary import Summary
from cogbuild.report.words import age, amount, changed, reason_text, span

__all__ = ["Plain", "Summary", "age", "amount", "changed", "reason_text", "span"]
