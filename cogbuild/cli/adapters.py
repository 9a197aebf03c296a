"""``cogbuild adapters``: listed, made, checked, tried, locked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cogbuild.cli.common import Failure, Output, as_json, print_json

if TYPE_CHECKING:
    from cogbuild.active import Surveyed
    from cogbuild.adapters import Adapter
    from cogbuild.engine import Event
    from cogbuild.errors import CogbuildError
    from cogbuild.housekeeping.trial import Ran, Trial
    from cogbuild.housekeeping.watching import Seen
    from cogbuild.lacking import Lack
    from cogbuild.project import Project


@click.group()
def adapters() -> None:
    """List, make, check, try and lock adapters."""


# -- ls -----------------------------------------------------------------------------------------------------------


@adapters.command("ls")
@as_json
@click.pass_obj
def ls(output: Output, *, in_json: bool) -> None:
    """List the active adapters, then those that cogbuild ships and that are not active."""
    from cogbuild.active import survey
    from cogbuild.cli.adapters_shown import adapter_json, adapter_lines
    from cogbuild.lacking import lacks

    project = output.project_or_new
    found = survey(project)
    made = _made(project)
    others = _inactive(project, found)

    def missing(item: Surveyed) -> list[Lack]:
        return lacks(project, item.adapter.spec) if item.adapter else []

    if in_json:
        active, available = (
            [adapter_json(item, made, missing(item)) for item in of] for of in (found, others)
        )
        print_json({"active": active, "available": available})
        return
    for item in found:
        for line in adapter_lines(item, made, missing(item)):
            click.echo(line)
    if not found:
        click.echo("no adapter is active; name some under adapters: in cogbuild.yaml, e.g. builtin:archive")
    if others:
        click.echo("not active")
        for item in others:
            for line in adapter_lines(item, {}, missing(item), "  "):
                click.echo(line)


def _made(project: Project) -> dict[str, int]:
    from cogbuild.database import upkeep

    return upkeep.pairs_made(project.con) if project.exists else {}


def _inactive(project: Project, found: list[Surveyed]) -> list[Surveyed]:
    from cogbuild.active import Surveyed
    from cogbuild.adapters import builtin_root, builtins, load
    from cogbuild.errors import CogbuildError

    used = {item.adapter.directory.resolve() for item in found if item.adapter is not None}
    others = []
    for name in builtins():
        directory = builtin_root() / name
        if directory.resolve() not in used:
            try:
                others.append(Surveyed(f"builtin:{name}", name, load(project, directory), None))
            except CogbuildError as error:
                others.append(Surveyed(f"builtin:{name}", name, None, error))
    return others


# -- new ----------------------------------------------------------------------------------------------------------


@adapters.command("new")
@click.argument("name")
@click.argument("directory", metavar="[DIR]", required=False)
@click.option(
    "--lang",
    type=click.Choice(["python", "sh"]),
    default="python",
    help="What the script is written in; default: python.",
)
def new(*, name: str, directory: str | None, lang: str) -> None:
    """Write a working adapter into DIR; default: a directory of its NAME."""
    from cogbuild.scaffold import new_adapter

    place = Path(directory or name)
    for path in new_adapter(name, place, lang):
        click.echo(path)
    click.echo(
        f"try it with `cogbuild adapters check {place}`, then name {place} under adapters: in cogbuild.yaml"
    )


# -- check --------------------------------------------------------------------------------------------------------


@adapters.command("check")
@click.argument("directory", metavar="DIR")
@click.option("--model", metavar="ID", help="Run it on this model; default: a tiny one made for it.")
@click.option(
    "--quick", is_flag=True, help="Do not wait up to two seconds for the clock to show another time."
)
@as_json
@click.pass_obj
def check(output: Output, *, directory: str, model: str | None, quick: bool, in_json: bool) -> None:
    """Validate the adapter in DIR, run it twice, and compare what it made.

    With strace, what it reads and asks for without declaring it is named. Nothing is recorded. Exit code 1 when it breaks the contract or makes different bytes from the same input.
    """
    from cogbuild.adapters import directory_of, load
    from cogbuild.housekeeping.trial import tiny, trial

    with tiny(os.environ) as (own, tiny_id):
        project = output.project_or_new if model is not None else own
        place = directory_of(project, directory, Path.cwd())
        needs = load(own, place).spec.needs
        if needs and model is None:
            _not_run(place, needs, in_json=in_json)
            return
        with trial(project, place, model or tiny_id, listener=_silent) as tried:
            runs, seen = [tried.run()], None
            if runs[0].error is None:
                if any(runs[0].paths) and not quick:
                    tried.later()
                again, seen = tried.run_watched(runs[0])
                runs.append(again)
            problems = [item.error for item in runs if item.error is not None]
            if not problems:
                problems = tried.differs(*runs)
            _checked(tried, runs, problems, seen, in_json=in_json)
    if problems:
        raise Failure(1)


def _silent(_event: Event) -> None:
    """Nobody watches."""


def _not_run(directory: Path, needs: tuple[str, ...], *, in_json: bool) -> None:
    why = f"not run: it needs {', '.join(needs)}; name a model for which that is made with --model ID"
    if in_json:
        print_json(
            {
                "adapter": None,
                "directory": str(directory),
                "model": None,
                "runs": [],
                "problems": [],
                "undeclared": None,
                "note": why,
            }
        )
        return
    click.echo(f"the declaration in {directory} is right")
    click.echo(why)


def _checked(
    tried: Trial, runs: list[Ran], problems: list[CogbuildError], seen: Seen | None, *, in_json: bool
) -> None:
    from cogbuild.cli.adapters_shown import run_json, run_lines, seen_json, seen_lines

    if in_json:
        print_json(
            {
                "adapter": tried.adapter.name,
                "directory": str(tried.adapter.directory),
                "model": tried.model,
                "runs": [run_json(run) for run in runs],
                "problems": [item.to_json() for item in problems],
                "undeclared": seen_json(seen) if seen is not None else None,
                "note": None,
            }
        )
        return
    for run in runs:
        for line in run_lines(run):
            click.echo(line)
    for line in seen_lines(seen) if seen is not None else ():
        click.echo(line)
    if seen is not None and seen.note is not None:
        click.echo(f"note: what it reads was not watched: {seen.note}", err=True)
    for item in problems:
        if runs[-1].log:
            _show_log(runs[-1].log)
        click.echo(str(item), err=True)
    if not problems:
        again = (
            "said the same"
            if runs[0].reason
            else "made the same bytes"
            if any(runs[0].paths)
            else "named the same"
        )
        click.echo(f"{tried.adapter.name} keeps the contract: the second run {again}")


def _show_log(log: bytes) -> None:
    from cogbuild.errors import printable

    for line in log.splitlines():
        click.echo(f"| {printable(line)}", err=True)


# -- test ---------------------------------------------------------------------------------------------------------


@adapters.command("test")
@click.argument("directory", metavar="DIR")
@click.option("--model", metavar="ID", required=True, help="The model to run it on.")
@click.option(
    "--repo", "repos", metavar="USER/NAME", multiple=True, help="Which repo's, where it is in several."
)
@as_json
@click.pass_obj
def test(output: Output, *, directory: str, model: str, repos: tuple[str, ...], in_json: bool) -> None:
    """Run the adapter in DIR and its test once on a model and show its log; nothing is recorded.

    Exit code 1 when it fails or its test refuses what it made.
    """
    from cogbuild.adapters import directory_of
    from cogbuild.cli.adapters_shown import run_json, run_lines
    from cogbuild.housekeeping.trial import trial

    place = directory_of(output.project_or_new, directory, Path.cwd())
    with trial(output.project_or_new, place, model, repos=repos, listener=_show) as tried:
        run = tried.run()
        if in_json:
            error = run.error.to_json() if run.error else None
            print_json({"adapter": tried.adapter.name, "model": tried.model, **run_json(run), "error": error})
        else:
            for line in run_lines(run):
                click.echo(line)
    if run.error is not None:
        if not in_json:
            click.echo(str(run.error), err=True)
        raise Failure(1)


def _show(event: Event) -> None:
    from cogbuild.engine import Line, Note
    from cogbuild.errors import printable

    if isinstance(event, Line):
        click.echo(f"| {printable(event.text)}", err=True)
    elif isinstance(event, Note):
        click.echo(event.text, err=True)


# -- lock ---------------------------------------------------------------------------------------------------------


@adapters.command("lock")
@click.argument("names", metavar="[ADAPTER]...", nargs=-1)
@click.option("--upgrade", is_flag=True, help="Resolve anew what is resolved, and take newer packages.")
@click.option("--export", "target", metavar="DIR", help="Write the locks there, as requirements files.")
@as_json
@click.pass_obj
def lock(output: Output, *, names: tuple[str, ...], upgrade: bool, target: str | None, in_json: bool) -> None:
    """Resolve the Python environments of ADAPTERs, or of all active ones, for all models.

    What is resolved stays as it is without --upgrade. Pairs whose packages moved are built again by the next run.
    """
    from cogbuild.active import active
    from cogbuild.cli.adapters_shown import lock_json, tell_lock
    from cogbuild.housekeeping.locking import export, groups
    from cogbuild.housekeeping.locking import lock as resolve
    from cogbuild.library import refresh_links

    project = output.project_or_new
    known = active(project)
    _refuse_unknown(names, known)
    refresh_links(project)
    done = []
    for group in groups(project, known, names) if project.exists else []:
        done.append(resolve(project, group, upgrade=upgrade, on_line=None if in_json else _say))
        if not in_json:
            tell_lock(done[-1])
    files = export(done, Path(target)) if target is not None else []
    if in_json:
        print_json({"locks": [lock_json(item) for item in done], "files": [str(path) for path in files]})
    else:
        for path in files:
            click.echo(f"wrote {path}")
        if not done:
            click.echo("no adapter here declares packages for any model")
    if any(item.error is not None for item in done):
        raise Failure(max(item.error.exit_code for item in done if item.error is not None))


def _refuse_unknown(names: tuple[str, ...], known: dict[str, Adapter]) -> None:
    import difflib

    from cogbuild.errors.adapters import UnknownAdapter

    for name in names:
        if name not in known:
            closest = difflib.get_close_matches(name, known, n=3) or None
            raise UnknownAdapter(name=name, closest=closest, active=list(known))


def _say(line: bytes) -> None:
    from cogbuild.errors import printable

    click.echo(printable(line), err=True)
