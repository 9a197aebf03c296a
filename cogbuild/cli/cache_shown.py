"""Records and collections, as text and JSON."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from cogbuild.errors import printable

if TYPE_CHECKING:
    from cogbuild.cache import Record
    from cogbuild.housekeeping.collecting import Collection
    from cogbuild.housekeeping.records import Found
    from cogbuild.project import Project

__all__ = ["carriers", "collection_json", "left", "record_json", "tell_collection", "work_facts"]


def record_json(project: Project, item: Record) -> dict[str, Any]:
    """Return one record."""
    from cogbuild.report.words import iso

    return {
        "key": item.key,
        "adapter": item.adapter,
        "attempt": item.attempt,
        "made": iso(item.made),
        "seconds": item.seconds,
        "cpu_seconds": item.cpu_seconds,
        "not_applicable": item.reason,
        "artifacts": [
            {
                "name": artifact.name,
                "uri": project.uri(artifact),
                "digest": artifact.digest,
                "size": artifact.size,
            }
            for artifact in item.artifacts
        ],
    }


def left(project: Project, item: Record) -> str:
    """Say in a few words what the work left."""
    if item.reason is not None:
        return f"not applicable: {item.reason}"
    return ", ".join(
        project.uri(artifact).rpartition("/")[2] if artifact.published else artifact.uri
        for artifact in item.artifacts
    )


def work_facts(project: Project, found: Found) -> list[tuple[str, str]]:
    """Return what is known of a piece of work besides its rows."""
    from cogbuild.report import age, span

    facts = [("pair", name) for name in carriers(project, found)]
    if found.record is None:
        return [*facts, ("record", "none in the cache")]
    item = found.record
    facts += [("adapter", item.adapter), ("age", age(item.made)), ("took", span(item.seconds))]
    if item.reason is not None:
        facts.append(("left", f"not applicable: {item.reason}"))
    facts += [
        ("left", f"{artifact.name + ': ' if artifact.name else ''}{printable(project.uri(artifact))}")
        for artifact in item.artifacts
    ]
    return facts


def carriers(project: Project, found: Found) -> list[str]:
    """Return the pairs whose outcomes carry the key."""
    from cogbuild.housekeeping.records import carried_by

    return carried_by(project, found.key)


def collection_json(done: Collection) -> dict[str, Any]:
    """Return what was collected."""
    return {
        "dry_run": done.dry,
        "complete": done.whole,
        "artifact_store_left": done.store_left,
        "bytes": done.size,
        "kinds": {kind: {"count": done.counts[kind], "bytes": done.sizes[kind]} for kind in done.counts},
        "items": [{"kind": item.kind, "name": item.name, "bytes": item.size} for item in done.items],
    }


def tell_collection(done: Collection) -> None:
    """Tell what was collected, of a dry run each thing."""
    from cogbuild.report import amount
    from cogbuild.report.tables import Column, page, table

    where = page(sys.stdout)
    columns = [Column("kind"), Column("size", right=True), Column("what", cut=True)]
    rows = [[item.kind, amount(item.size), printable(item.name)] for item in done.items]
    for line in [*table(columns, rows, where), ""] if rows else []:
        click.echo(line)
    columns = [Column("kind"), Column("count", right=True), Column("size", right=True)]
    sums = [[kind, str(count), amount(done.sizes[kind])] for kind, count in done.counts.items() if count]
    for line in table(columns, sums, where) if sums else []:
        click.echo(line)
    click.echo(f"{amount(done.size)} {'would go' if done.dry else 'collected'}")
    if done.store_left is not None:
        click.echo(
            f"artifacts in {done.store_left} were left alone: another data directory may use them; "
            "--artifact-store takes those that this one does not need",
            err=True,
        )
    if not done.whole:
        click.echo(
            "a build runs: what it could use was left alone; collect again when it has ended", err=True
        )
