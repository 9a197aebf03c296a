"""``cogbuild artifacts``: what adapters made: listed, copied out, looked after."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from cogbuild.cli.common import Failure, Output, as_json, print_json, told

if TYPE_CHECKING:
    from cogbuild.housekeeping.lost import Looked
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
    from cogbuild.asked import kept
    from cogbuild.database.browsing import Repos

    answer = kept.artifacts(
        output.project, Repos(repos), models=models, adapters=adapters, lost=lost, orphaned=orphaned
    )
    told(answer, in_json=in_json)


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
        from cogbuild.report.artifacts import artifact_json

        print_json({"pair": made.name, "artifact": artifact_json(project, artifact), "path": str(path)})
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
    from cogbuild.report.artifacts import artifact_json

    return {
        "pair": item.made.name,
        **artifact_json(project, item.artifact),
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
