"""``cogbuild status`` and ``cogbuild explain``: how pairs stand, and why."""

from __future__ import annotations

import sys

import click

from cogbuild.cli.common import Output, adapter_dirs, as_json, told, with_server

__all__ = ["explain", "status"]


@click.command()
@click.option("--repo", "repos", metavar="USER/NAME", multiple=True, help="Only models of this repo.")
@click.option("--adapter", "names", metavar="NAME", multiple=True, help="Only this adapter.")
@adapter_dirs
@click.option(
    "--page", "number", type=click.IntRange(min=1), default=1, metavar="N", help="The N-th page of models."
)
@click.option(
    "--all", "everything", is_flag=True, help="Every model, and what adapters made that are no longer active."
)
@with_server
@as_json
@click.pass_obj
def status(
    output: Output,
    *,
    repos: tuple[str, ...],
    names: tuple[str, ...],
    directories: tuple[str, ...],
    number: int,
    everything: bool,
    server: str | None,
    token: str | None,
    in_json: bool,
) -> None:
    """Show the matrix: models down, the newest first; adapters across; in each cell a mark and an age."""
    if server is not None:
        from cogbuild.cli.remote import ask, refuse

        refuse(adapter_dir=directories)
        asked = {"repo": repos, "adapter": names, "page": number, "all": int(everything) or None}
        ask(server, token, ("status",), asked, in_json=in_json)
        return
    from cogbuild.active import active
    from cogbuild.asked import pairs
    from cogbuild.database.browsing import Repos
    from cogbuild.library import refresh_links
    from cogbuild.report.tables import page

    project = output.project
    adapters = active(project, directories)
    problems = refresh_links(project)
    answer = pairs.status(
        project,
        adapters,
        page(sys.stdout),
        repos=Repos(repos),
        names=names,
        number=0 if everything else number,
        problems=problems,
    )
    if not in_json:
        for problem in problems:
            click.echo(str(problem.error), err=True)
    told(answer, in_json=in_json)


@click.command()
@click.argument("model", metavar="MODEL")
@click.argument("adapter", metavar="ADAPTER")
@click.option("--repo", "repos", metavar="USER/NAME", multiple=True, help="Only in this repo.")
@adapter_dirs
@with_server
@as_json
@click.pass_obj
def explain(
    output: Output,
    *,
    model: str,
    adapter: str,
    repos: tuple[str, ...],
    directories: tuple[str, ...],
    server: str | None,
    token: str | None,
    in_json: bool,
) -> None:
    """Say why a pair is what it is: which row of its manifest moved, from what to what, since when.

    Works years later too: when the files are gone, and when the adapter is no longer active.
    """
    if server is not None:
        from cogbuild.cli.remote import ask, refuse

        refuse(adapter_dir=directories)
        ask(server, token, ("explain", model, adapter), {"repo": repos}, in_json=in_json)
        return
    from cogbuild.active import usable
    from cogbuild.asked import pairs
    from cogbuild.database.browsing import Repos
    from cogbuild.library import refresh_links

    project = output.project
    problems = refresh_links(project)
    adapters, unusable = usable(project, directories)
    if not in_json:
        for error in (*(problem.error for problem in problems), *unusable):
            click.echo(f"note: {error.title}", err=True)
    answer = pairs.explained(project, adapters, model, adapter, Repos(repos))
    told(answer, in_json=in_json)
