"""``cogbuild build``: send a model to a server and watch it being built there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cogbuild.cli.common import Failure, as_json, print_json
from cogbuild.cli.remote import follow_job, meet

if TYPE_CHECKING:
    from cogbuild.client.http import Server
    from cogbuild.client.jobs import Heard
    from cogbuild.client.pack import Model
    from cogbuild.client.sending import Accepted, Progress

__all__ = ["build"]


def _repo(_ctx: object, _param: object, value: str | None) -> str | None:
    from cogbuild.spec.names import valid_repo

    if value is not None:
        valid_repo(value)
    return value


@click.command()
@click.argument("directory", metavar="[DIR]", default=".")
@click.option("--server", metavar="URL", help="The Cog server; default: COGBUILD_SERVER.")
@click.option(
    "--repo", metavar="USER/NAME", callback=_repo, help="The line of versions that it becomes one of."
)
@click.option(
    "--adapter",
    "names",
    metavar="NAME",
    multiple=True,
    help="Only this adapter and what it needs, also from now on; else all it wants.",
)
@click.option("-f", "--force", is_flag=True, help="Run what is chosen although it is fresh.")
@click.option("--job", metavar="JOB", help="Send nothing: follow this job, which was begun before.")
@click.option(
    "--token", metavar="TOKEN", help="What the server lets you in with; better said in COGBUILD_TOKEN."
)
@as_json
def build(
    *,
    directory: str,
    server: str | None,
    repo: str | None,
    names: tuple[str, ...],
    force: bool,
    job: str | None,
    token: str | None,
    in_json: bool,
) -> None:
    """Build the model in DIR, or here, on a server: send what it lacks, watch the work, print the artifacts.

    A connection that breaks is taken up again; the work is never begun twice.
    """
    from urllib.parse import quote

    from cogbuild.client.jobs import Heard
    from cogbuild.client.pack import read_model
    from cogbuild.client.shown import Screen

    if job is None and repo is None:
        raise click.UsageError("--repo USER/NAME is needed: which model this is a version of")
    with meet(server, token) as met:
        heard = Heard(Screen(sys.stdout, sys.stderr, in_json=in_json))
        if job is not None:
            about = met.ask_json("GET", f"/v2/jobs/{quote(job, safe='')}").get("repo")
            end = follow_job(met, job, heard, command="build")
            _end(heard, end, about if isinstance(about, str) else "", job, None, in_json=in_json)
            return
        assert repo is not None
        model = read_model(Path(directory))
        _build(met, model, repo, heard, names=names, force=force, in_json=in_json)


def _build(
    server: Server,
    model: Model,
    repo: str,
    heard: Heard,
    *,
    names: tuple[str, ...],
    force: bool,
    in_json: bool,
) -> None:
    from cogbuild.client.http import API
    from cogbuild.client.progress import Silent, progress_on
    from cogbuild.client.sending import Interrupted, send

    progress: Progress = Silent() if in_json else progress_on(sys.stderr)
    if server.speaks() != API:
        _build_of_2021(server, model, repo, heard, progress, names=names, force=force)
        _end(heard, {}, repo, None, None, in_json=in_json)  # it says a model, or that it failed
        return
    try:
        accepted = send(server, model, repo, progress, adapters=names or None, force=force)
    except Interrupted as interrupted:
        if kept := interrupted.kept:
            arrived = "1 file has arrived: it is" if kept == 1 else f"{kept} files have arrived: they are"
            click.echo(f"{arrived} kept there for a while, and not sent again", err=True)
        raise
    end = follow_job(server, accepted.job, heard, command="build")
    _end(heard, end, repo, accepted.job, accepted, in_json=in_json)


def _build_of_2021(
    server: Server,
    model: Model,
    repo: str,
    heard: Heard,
    progress: Progress,
    *,
    names: tuple[str, ...],
    force: bool,
) -> None:
    from cogbuild.client import old
    from cogbuild.errors.client import OldServerChooses

    for option, given in (("--adapter", names), ("--force", force)):
        if given:
            raise OldServerChooses(server=server.at.url, option=option)
    try:
        old.build(server, model, repo, heard, progress)
    finally:
        heard.speaker.watch.close()


def _end(
    heard: Heard,
    end: dict[str, Any],
    repo: str,
    job: str | None,
    sent: Accepted | None,
    *,
    in_json: bool,
) -> None:
    """Print how it ended, and leave with the exit code that it ended with."""
    from cogbuild.client.shown import ending_error, ending_lines, model_lines, run_json

    model = heard.model or {}
    if in_json:
        print_json({**_model_json(model, repo), "job": job, **_sent_json(sent), **run_json(heard, end)})
    else:
        for line in [*(model_lines(model, repo) if model else ()), *ending_lines(end)]:
            click.echo(line)
        if error := ending_error(heard, end):
            click.echo(error, err=True)
    if code := int(end.get("exit_code") or 0):
        raise Failure(code)


def _model_json(model: dict[str, Any], repo: str) -> dict[str, Any]:
    return {
        "model": model.get("id"),
        "repo": repo,
        "artifacts": model.get("artifacts", []),
        "run_arguments": model.get("run_arguments", {}),
    }


def _sent_json(sent: Accepted | None) -> dict[str, Any]:
    return {"sent": {"files": sent.files, "size": sent.size} if sent is not None else None}
