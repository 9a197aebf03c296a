"""``cogbuild artifacts``: what adapters made: listed, copied out, looked after."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from cogbuild.cli.common import Failure, Output, as_json, known_repos, print_json

if TYPE_CHECKING:
    from cogbuild.database.pairs import Artifact
    from cogbuild.housekeeping.lost import Looked
    from cogbuild.housekeeping.made import Made
    from cogbuild.project import Project

REPO = click.option(
    "--repo", "repos", metavar="USER/NAME", multiple=True, help="Only the models of this repo."
)


@click.group()
def artifacts() -> None:
    """List, fetch, verify and pin what adapters made."""


# -- ls -----------------------------------------------------------------------------------------------------------


@artifacts.command("ls")
@click.option("--model", "models", metavar="ID", multiple=True, help="Only what was made of this model.")
@REPO
@click.option("--adapter", "adapters", metavar="NAME", multiple=True, help="Only what this adapter made.")
@click.option("--lost", is_flag=True, help="Only what is known to be gone.")
@click.option("--orphaned", is_flag=True, help="Only what adapters made that are no longer active.")
@as_json
@click.pass_obj
def ls(
    output: Output,
    *,
    models: tuple[str, ...],
    repos: tuple[str, ...],
    adapters: tuple[str, ...],
    lost: bool,
    orphaned: bool,
    in_json: bool,
) -> None:
    """List artifacts, those of the newest models first."""
    from cogbuild.housekeeping.made import every

    project = output.project
    known_repos(project, repos)
    active = _active(project)
    found = (
        item
        for item in every(project, prefixes=models, repos=repos, adapters=adapters)
        if not (lost and item.outcome.lost is None) and not (orphaned and item.adapter in active)
    )
    if in_json:
        rows = [_row(project, item, orphaned=item.adapter not in active) for item in found]
        print_json({"artifacts": rows})
        return
    empty = True
    for item in found:
        empty = False
        for line in _lines(project, item, orphaned=item.adapter not in active):
            click.echo(line)
    if empty:
        click.echo("no artifacts" if not (lost or orphaned) else "none")


def _active(project: Project) -> set[str]:
    from cogbuild.adapters import survey

    return {item.name for item in survey(project) if item.name is not None}


def _row(project: Project, item: Made, *, orphaned: bool) -> dict[str, Any]:
    from cogbuild.report.words import iso

    outcome = item.outcome
    return {
        "pair": item.name,
        "repo": item.entry.repo,
        "model": item.entry.model,
        "adapter": item.adapter,
        "artifacts": [_artifact(project, artifact) for artifact in outcome.artifacts],
        "made": iso(outcome.made),
        "how": outcome.how,
        "seen": iso(outcome.seen),
        "lost": outcome.lost,
        "pinned": item.pinned,
        "orphaned": orphaned,
    }


def _artifact(project: Project, item: Artifact) -> dict[str, Any]:
    return {
        "name": item.name,
        "uri": project.uri(item),
        "media_type": item.media_type,
        "digest": item.digest,
        "size": item.size,
    }


def _lines(project: Project, item: Made, *, orphaned: bool) -> list[str]:
    from cogbuild.cli.layout import heading
    from cogbuild.errors import printable
    from cogbuild.report import age, amount

    sizes = [artifact.size for artifact in item.outcome.artifacts if artifact.size is not None]
    facts = [amount(sum(sizes)) if sizes else "", f"{age(item.outcome.made)} ago"]
    facts += [word for word, so in (("pinned", item.pinned), ("orphaned", orphaned)) if so]
    lines = list(heading(item.name, facts))
    for artifact in item.outcome.artifacts:
        name = f"{artifact.name}: " if artifact.name else ""
        lines.append(f"  {name}{printable(project.uri(artifact))}")
    if item.outcome.lost is not None:
        lines.append(f"  lost: {item.outcome.lost}")
    return lines


# -- get ----------------------------------------------------------------------------------------------------------


@artifacts.command("get")
@click.argument("model")
@click.argument("adapter")
@click.option("--name", help="Which artifact, where the adapter made several.")
@click.option(
    "-o",
    "--output",
    "target",
    metavar="PATH",
    required=True,
    help="The new file, or a directory to put it in.",
)
@click.option("--force", is_flag=True, help="Replace what is there.")
@REPO
@as_json
@click.pass_obj
def get(
    output: Output,
    *,
    model: str,
    adapter: str,
    name: str | None,
    target: str,
    force: bool,
    repos: tuple[str, ...],
    in_json: bool,
) -> None:
    """Copy what ADAPTER made of MODEL to a place of yours.

    Works for what cogbuild keeps and for file:, http: and https: URIs.
    """
    from pathlib import Path

    from cogbuild.housekeeping.fetching import fetch
    from cogbuild.housekeeping.made import one, the_artifact

    project = output.project
    made = one(project, model, adapter, repos)
    artifact = the_artifact(made, name)
    path = fetch(project, made, artifact, Path(target), force=force)
    if in_json:
        print_json({"pair": made.name, "artifact": _artifact(project, artifact), "path": str(path)})
    else:
        click.echo(path)


# -- verify -------------------------------------------------------------------------------------------------------


@artifacts.command("verify")
@click.argument("model", required=False)
@click.argument("adapter", required=False)
@click.option("--deep", is_flag=True, help="Read every byte of what cogbuild keeps.")
@REPO
@as_json
@click.pass_obj
def verify(
    output: Output,
    *,
    model: str | None,
    adapter: str | None,
    deep: bool,
    repos: tuple[str, ...],
    in_json: bool,
) -> None:
    """Look whether artifacts still exist: all, those of MODEL, or the one of MODEL and ADAPTER.

    What is lost makes its pair stale. Exit code 1 when something is lost.
    """
    from cogbuild.housekeeping.lost import State
    from cogbuild.housekeeping.lost import verify as look
    from cogbuild.housekeeping.made import chosen

    project = output.project
    counts: Counter[str] = Counter()
    rows = []
    for item in look(project, chosen(project, model, adapter, repos), deep=deep):
        counts[item.state] += 1
        if in_json:
            rows.append(_looked(project, item))
        elif item.state is not State.THERE:
            _say(project, item)
    if in_json:
        print_json({"artifacts": rows, "counts": {str(state): counts[state] for state in State}})
    else:
        click.echo(
            ", ".join(f"{counts[state]} {state}" for state in State if counts[state]) or "nothing to verify"
        )
    if counts[State.LOST]:
        raise Failure(1)


def _looked(project: Project, item: Looked) -> dict[str, Any]:
    return {
        "pair": item.made.name,
        **_artifact(project, item.artifact),
        "state": str(item.state),
        "detail": item.detail or None,
        "aside": str(item.aside) if item.aside else None,
    }


def _say(project: Project, item: Looked) -> None:
    from cogbuild.errors import printable

    click.echo(f"{item.state}  {item.made.name}: {item.detail}")
    click.echo(f"  {printable(project.uri(item.artifact))}")
    if item.aside is not None:
        click.echo(f"  set aside as {item.aside}")


# -- pin ----------------------------------------------------------------------------------------------------------


@artifacts.command("pin")
@click.argument("model")
@click.argument("adapter")
@REPO
@click.pass_obj
def pin(output: Output, *, model: str, adapter: str, repos: tuple[str, ...]) -> None:
    """Keep what ADAPTER made of MODEL, also when something newer takes its place."""
    from cogbuild.database import pairs
    from cogbuild.housekeeping.made import chosen

    for made in chosen(output.project, model, adapter, repos):
        outcome = made.outcome
        output.project.database.write(lambda con, outcome=outcome: pairs.set_pin(con, outcome, pinned=True))  # type: ignore[misc]
        click.echo(f"pinned {made.name}")


@artifacts.command("unpin")
@click.argument("model")
@click.argument("adapter")
@REPO
@click.pass_obj
def unpin(output: Output, *, model: str, adapter: str, repos: tuple[str, ...]) -> None:
    """Let go of everything that was pinned for MODEL and ADAPTER; `cogbuild cache gc` may take it."""
    from cogbuild.database import pairs
    from cogbuild.housekeeping.made import pinned_pairs

    for name, eid, aid in pinned_pairs(output.project, model, adapter, repos):
        count = output.project.database.write(lambda con, eid=eid, aid=aid: pairs.unpin_pair(con, eid, aid))  # type: ignore[misc]
        click.echo(f"unpinned {count} of {name}")
