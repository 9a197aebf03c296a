"""What adapters made, as text and JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cogbuild.errors import printable
from cogbuild.report.tables import heading
from cogbuild.report.words import age, amount, iso

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cogbuild.database.pairs import Artifact
    from cogbuild.housekeeping.made import Made
    from cogbuild.project import Project
    from cogbuild.report.tables import Page

__all__ = ["artifact_json", "made_json", "made_lines"]


def made_json(project: Project, item: Made, *, orphaned: bool) -> dict[str, Any]:
    """Return what one pair has made as JSON."""
    outcome = item.outcome
    return {
        "pair": item.name,
        "repo": item.entry.repo,
        "model": item.entry.model,
        "adapter": item.adapter,
        "artifacts": [artifact_json(project, artifact) for artifact in outcome.artifacts],
        "made": iso(outcome.made),
        "how": outcome.how,
        "seen": iso(outcome.seen),
        "lost": outcome.lost,
        "pinned": item.pinned,
        "orphaned": orphaned,
    }


def artifact_json(project: Project, item: Artifact) -> dict[str, Any]:
    """Return one artifact as JSON."""
    return {
        "name": item.name,
        "uri": project.uri(item),
        "media_type": item.media_type,
        "digest": item.digest,
        "size": item.size,
    }


def made_lines(project: Project, item: Made, on: Page, *, orphaned: bool) -> Iterator[str]:
    """Yield a heading, then each artifact where it can be copied."""
    sizes = [artifact.size for artifact in item.outcome.artifacts if artifact.size is not None]
    facts = [amount(sum(sizes)) if sizes else "", f"{age(item.outcome.made)} ago"]
    facts += [word for word, so in (("pinned", item.pinned), ("orphaned", orphaned)) if so]
    yield from heading(item.name, facts, on)
    for artifact in item.outcome.artifacts:
        name = f"{artifact.name}: " if artifact.name else ""
        yield f"  {name}{printable(project.uri(artifact))}"
    if item.outcome.lost is not None:
        yield f"  lost: {item.outcome.lost}"
