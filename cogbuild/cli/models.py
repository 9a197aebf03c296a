"""``cogbuild models``: add, list, show, change, verify and let go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cogbuild.cli.common import (
    Failure,
    Output,
    as_json,
    one_entry,
    print_json,
    tell,
    told,
    with_server,
)

if TYPE_CHECKING:
    from cogbuild.database.models import EntryRow
    from cogbuild.library import Added
    from cogbuild.objects import Finding
    from cogbuild.project import Project

__all__ = ["models"]


def _repo(_ctx: object, _param: object, value: str | None) -> str | None:
    from cogbuild.spec.names import valid_repo

    if value is not None:
        valid_repo(value)
    return value


def _size(_ctx: object, _param: object, value: str | None) -> int | None:
    from cogbuild.spec.site import parse_size

    try:
        return None if value is None else parse_size(value)
    except ValueError as trouble:
        raise click.BadParameter(f"{value!r} is not {trouble}") from None


_one_repo = click.option("--repo", metavar="USER/NAME", callback=_repo, help="Only in this repo.")


@click.group()
def models() -> None:
    """Add, list, show, change and verify models."""


# -- add --------------------------------------------------------------------------------------------------------------


@models.command()
@click.argument("paths", metavar="PATH|ZIP...", nargs=-1, required=True)
@click.option(
    "--repo",
    metavar="USER/NAME",
    callback=_repo,
    help="The line of versions that it belongs to; default: local/<name of the directory or zip>.",
)
@click.option("--link", is_flag=True, help="Keep the directory as it is and look at it on every run.")
@click.option("--cpu-image", metavar="REF", help="The container image that adapters get as COG_CPU_IMAGE.")
@click.option(
    "--zip-limit",
    metavar="SIZE",
    callback=_size,
    help="What a zip may unpack to, e.g. 500M or 20G; default: zip_limit of the settings.",
)
@as_json
@click.pass_obj
def add(
    output: Output,
    *,
    paths: tuple[str, ...],
    repo: str | None,
    link: bool,
    cpu_image: str | None,
    zip_limit: int | None,
    in_json: bool,
) -> None:
    """Add models: directories or zips with a cog.yaml. The same content has the same ID, however it arrived."""
    from cogbuild import library
    from cogbuild.errors import CogbuildError
    from cogbuild.report.models import added_json, added_line, unheard_note

    done: list[dict[str, Any]] = []
    troubles: list[tuple[str, CogbuildError]] = []
    project = output.project_or_new
    for path in paths:
        try:
            if link:
                added = _linked(project, path, repo, cpu_image)
            else:
                added = library.add(project, Path(path), repo=repo, cpu_image=cpu_image, zip_limit=zip_limit)
        except CogbuildError as error:
            if error.exit_code == 3:
                raise
            troubles.append((path, error))
            if not in_json:
                tell(error)
            continue
        done.append(added_json(added, path))
        if not in_json:
            click.echo(added_line(added))
        if (note := unheard_note(added)) is not None:
            click.echo(note, err=True)
    if in_json:
        problems = [{"path": path, "error": error.to_json()} for path, error in troubles]
        print_json({"models": done, "problems": problems})
    if troubles:
        raise Failure(troubles[0][1].exit_code)


def _linked(project: Project, path: str, repo: str | None, cpu_image: str | None) -> Added:
    from cogbuild import library
    from cogbuild.errors.commands import UnlinkedZip

    if Path(path).is_file():
        raise UnlinkedZip(path=path)
    return library.link(project, Path(path), repo=repo, cpu_image=cpu_image)


# -- ls, show ---------------------------------------------------------------------------------------------------------


@models.command()
@click.option("--repo", "repos", metavar="USER/NAME", multiple=True, help="Only models of this repo.")
@with_server
@as_json
@click.pass_obj
def ls(
    output: Output, *, repos: tuple[str, ...], server: str | None, token: str | None, in_json: bool
) -> None:
    """List the models, the newest first."""
    if server is not None:
        from cogbuild.cli.remote import ask

        ask(server, token, ("models",), {"repo": repos}, in_json=in_json)
        return
    from cogbuild.asked.models import listed
    from cogbuild.database.browsing import Repos
    from cogbuild.library import refresh_links

    project = output.project
    problems = refresh_links(project)
    answer = listed(project, Repos(repos), problems=problems)
    if not in_json:
        for problem in problems:
            click.echo(str(problem.error), err=True)
    told(answer, in_json=in_json)


@models.command()
@click.argument("model", metavar="ID")
@_one_repo
@with_server
@as_json
@click.pass_obj
def show(
    output: Output, *, model: str, repo: str | None, server: str | None, token: str | None, in_json: bool
) -> None:
    """Show a model, what it declares and what was made of it."""
    if server is not None:
        from cogbuild.cli.remote import ask

        ask(server, token, ("models", model), {"repo": repo}, in_json=in_json)
        return
    from cogbuild.asked.models import shown
    from cogbuild.database.browsing import Repos
    from cogbuild.library import refresh_links

    refresh_links(output.project)
    told(shown(output.project, model, Repos((repo,) if repo else ())), in_json=in_json)


def _entries(output: Output, model: str, repo: str | None) -> list[EntryRow]:
    return one_entry(output.project, model, (repo,) if repo else ())


# -- set --------------------------------------------------------------------------------------------------------------


@models.command(name="set")
@click.argument("model", metavar="ID")
@_one_repo
@click.option(
    "--cpu-image", metavar="REF", help="The image that adapters get as COG_CPU_IMAGE; '' takes it away."
)
@click.option(
    "--adapter", "names", metavar="NAME", multiple=True, help="Adapters that it wants, and no others."
)
@click.option("--all-adapters", is_flag=True, help="It wants every active adapter.")
@click.option(
    "--param",
    "params",
    metavar="ADAPTER.NAME=JSON",
    multiple=True,
    help="A parameter for one adapter; null takes it away.",
)
@with_server
@as_json
@click.pass_obj
def set_(
    output: Output,
    *,
    model: str,
    repo: str | None,
    cpu_image: str | None,
    names: tuple[str, ...],
    all_adapters: bool,
    params: tuple[str, ...],
    server: str | None,
    token: str | None,
    in_json: bool,
) -> None:
    """Change what is wanted for a model: its image, its adapters, their parameters."""
    from cogbuild.report.models import changed_line, entry_json
    from cogbuild.views.models import active_specs
    from cogbuild.wanted import Wish, change, notes, param

    if names and all_adapters:
        raise click.UsageError("--adapter and --all-adapters exclude each other")
    if server is not None:
        from cogbuild.cli.remote import ask

        asked = {"cpu_image": cpu_image, "adapters": names, "all_adapters": all_adapters, "params": params}
        at = ("models", model)
        ask(server, token, at, {"repo": repo}, in_json=in_json, method="PATCH", body=asked)
        return
    wish = Wish(cpu_image, names, all_adapters, [param(text) for text in params])
    found = change(output.project, _entries(output, model, repo), wish)
    for note in notes(wish, active_specs(output.project)):
        click.echo(note, err=True)
    if in_json:
        print_json({"models": [entry_json(new) for new in found]})
        return
    for new in found:
        click.echo(changed_line(new))


# -- verify, rm -------------------------------------------------------------------------------------------------------


@models.command()
@click.argument("ids", metavar="[ID...]", nargs=-1)
@as_json
@click.pass_obj
def verify(output: Output, *, ids: tuple[str, ...], in_json: bool) -> None:
    """Hash all that is kept of sealed models again; what is damaged is set aside."""
    from cogbuild import damage, library
    from cogbuild.database import models as rows

    project = output.project
    found = [entry for name in ids for entry in library.find(project, name)]
    if not ids:
        found = rows.entries(project.con) if project.exists else []
    sealed = {entry.model: entry for entry in found if entry.sealed}
    told = []
    for entry in sealed.values():
        findings = damage.verify(project, entry)
        told.append(_verified_json(entry, findings))
        if not in_json:
            _say_verified(project, entry, findings)
    damaged = sum(1 for item in told if item["findings"])
    if in_json:
        print_json({"models": told})
    else:
        live = len({entry.model for entry in found} - set(sealed))
        passed = f"; {live} linked, which nothing is kept of" if live else ""
        click.echo(f"{len(sealed) - damaged} intact, {damaged} damaged{passed}")
    if damaged:
        raise Failure(3)


def _say_verified(project: Project, entry: EntryRow, findings: list[Finding]) -> None:
    from cogbuild.errors import printable
    from cogbuild.report.words import amount

    word = "damaged" if findings else "intact"
    click.echo(f"{word:<7}  {entry.model[:12]}  {entry.repo}  {amount(entry.size)}")
    for finding in findings:
        click.echo(f"  {printable(str(finding.path.relative_to(project.data)))}: {printable(finding.what)}")
    if findings:
        click.echo("hint: add the model again: `cogbuild models add` puts back what is missing", err=True)


def _verified_json(entry: EntryRow, findings: list[Finding]) -> dict[str, Any]:
    return {
        "model": entry.model,
        "repo": entry.repo,
        "findings": [{"path": str(item.path), "what": item.what} for item in findings],
    }


@models.command()
@click.argument("model", metavar="ID")
@_one_repo
@with_server
@as_json
@click.pass_obj
def rm(
    output: Output, *, model: str, repo: str | None, server: str | None, token: str | None, in_json: bool
) -> None:
    """Let go of a model: its outcomes are released, its attempts stay; files go with the next `cogbuild cache gc`."""
    if server is not None:
        from cogbuild.cli.remote import ask

        ask(server, token, ("models", model), {"repo": repo}, in_json=in_json, method="DELETE")
        return
    from cogbuild import library
    from cogbuild.report.models import entry_json, removed_line, returns_note

    project = output.project
    found = _entries(output, model, repo)
    declared = library.declared_by_settings(project)
    for entry in found:
        library.remove(project, entry)
        if entry.eid in declared:
            click.echo(returns_note(declared[entry.eid]), err=True)
    if in_json:
        print_json({"models": [entry_json(entry) for entry in found]})
        return
    for entry in found:
        click.echo(removed_line(entry))
