"""``cogbuild status`` and ``cogbuild explain``: how pairs stand, and why."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from cogbuild.cli.common import Output, adapter_dirs, as_json, known_repos, print_json, with_server

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cogbuild.adapters import Adapter
    from cogbuild.library import Problem
    from cogbuild.project import Project
    from cogbuild.report.tables import Page
    from cogbuild.views.matrix import Matrix

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
    from cogbuild.adapters import active
    from cogbuild.errors.adapters import NoAdapters
    from cogbuild.library import refresh_links
    from cogbuild.report.tables import page

    project = output.project
    adapters = active(project, directories)
    if not adapters and not everything:
        raise NoAdapters(looked_in="the settings and --adapter-dir")
    problems = refresh_links(project)
    known_repos(project, repos)
    on = page(sys.stdout)
    matrix = (
        _page(project, adapters, repos, names, on, 0 if everything else number) if project.exists else None
    )
    _show(matrix, problems, on, in_json=in_json)


def _page(  # noqa: PLR0917 - what one command was given
    project: Project,
    adapters: dict[str, Adapter],
    repos: Sequence[str],
    names: Sequence[str],
    on: Page,
    number: int,
) -> Matrix:
    from cogbuild.report.matrix import models_a_page
    from cogbuild.views.matrix import matrix

    if number == 0:
        return matrix(project, adapters, repos=repos, names=names, orphans=True)
    limit = models_a_page(names or list(adapters), on)
    return matrix(project, adapters, repos=repos, names=names, start=(number - 1) * limit, limit=limit)


def _show(matrix: Matrix | None, problems: list[Problem], on: Page, *, in_json: bool) -> None:
    from cogbuild.report.matrix import matrix_json, matrix_lines

    if in_json:
        from cogbuild.report.summary import problems_json

        empty = {"adapters": [], "first": 1, "total": 0, "more": False, "models": [], "counts": {}}
        print_json({**(matrix_json(matrix) if matrix else empty), "problems": problems_json(problems)})
        return
    for problem in problems:
        click.echo(str(problem.error), err=True)
    if matrix is None or not matrix.rows:
        click.echo(
            "no models"
            + ("; add one with `cogbuild models add PATH`" if not (matrix and matrix.total) else " there")
        )
        return
    for line in matrix_lines(matrix, on):
        click.echo(line, color=on.colour)


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
    from cogbuild.adapters import active
    from cogbuild.library import refresh_links
    from cogbuild.report.explained import pair_json, pair_lines
    from cogbuild.views.attempts import entries_ever
    from cogbuild.views.pair import pair_view

    project = output.project
    problems = refresh_links(project)
    adapters = active(project, directories)
    views = [pair_view(project, adapters, entry, adapter) for entry in entries_ever(project, model, repos)]
    if in_json:
        print_json({"pairs": [pair_json(view) for view in views]})
        return
    for problem in problems:
        click.echo(f"note: {problem.error.title}", err=True)
    for number, view in enumerate(views):
        if number:
            click.echo()
        for line in pair_lines(view):
            click.echo(line)
