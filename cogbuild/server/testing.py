"""The model's test as a pair: the shipped adapter that runs the examples, and what its report says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cogbuild.database import feed, pairs

if TYPE_CHECKING:
    from cogbuild.database.models import EntryRow
    from cogbuild.project import Project

__all__ = ["TEST_ADAPTER", "run_arguments"]

#: The shipped adapter whose artifact is the report of the model's test.
TEST_ADAPTER = "cog-test"


def run_arguments(project: Project, entry: EntryRow) -> dict[str, Any]:
    """Return the arguments of the model's ``predict``, as the report of its test has them."""
    aid = feed.adapter_id(project.con, TEST_ADAPTER)
    outcome = pairs.outcome(project.con, entry.eid, aid) if aid is not None else None
    if outcome is None or not outcome.artifacts or not outcome.artifacts[0].published:
        return {}
    try:
        report = json.loads((project.objects.artifacts / outcome.artifacts[0].uri).read_bytes())
    except (OSError, ValueError):  # gone, or not what the test wrote: `artifacts verify` tells
        return {}
    arguments = report.get("run_arguments", {}) if isinstance(report, dict) else {}
    return arguments if isinstance(arguments, dict) else {}
