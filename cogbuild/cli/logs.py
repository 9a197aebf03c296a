"""``cogbuild logs``: what an adapter said."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from cogbuild.cli.common import Output, as_json, print_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import BinaryIO

    from cogbuild.database.models import EntryRow
    from cogbuild.project import Project
    from cogbuild.views.attempts import Tried

__all__ = ["logs"]

_PIECE = 1 << 16
_PAUSE = 0.1  # seconds between two looks at a log that grows


@click.command()
@click.argument("model", metavar="MODEL")
@click.argument("adapter", metavar="ADAPTER")
@click.option("--repo", "repos", metavar="USER/NAME", multiple=True, help="Only in this repo.")
@click.option("--attempt", "number", type=int, metavar="N", help="The N-th attempt; -1 is the last.")
@click.option("-f", "--follow", is_flag=True, help="Go on as long as the attempt runs.")
@click.option("--list", "listed", is_flag=True, help="List the attempts instead.")
@click.option("--raw", is_flag=True, help="Print the bytes as they are, control characters too.")
@as_json
@click.pass_obj
def logs(
    output: Output,
    *,
    model: str,
    adapter: str,
    repos: tuple[str, ...],
    number: int | None,
    follow: bool,
    listed: bool,
    raw: bool,
    in_json: bool,
) -> None:
    """Show what ADAPTER said about MODEL: while it runs or where it failed the last attempt, else the one that made
    what is there. The log is printed on stdout, which attempt it is on stderr.
    """
    from cogbuild.report.explained import tried_json
    from cogbuild.report.logs import attempt_lines, attempt_note
    from cogbuild.report.tables import page

    project = output.project
    entry, tried = _one_pair(project, model, adapter, repos)
    if listed:
        if in_json:
            print_json({"attempts": [tried_json(item) for item in tried]})
            return
        for line in attempt_lines(tried, page(sys.stdout)) if tried else ["no attempts"]:
            click.echo(line)
        return
    chosen = _chosen(project, entry, adapter, tried, number)
    if in_json:
        print_json({**tried_json(chosen), "text": _whole(project, entry, adapter, chosen)})
        return
    click.echo(attempt_note(chosen, len(tried)), err=True)
    _print(project, entry, adapter, chosen, raw=raw, follow=follow)


def _one_pair(
    project: Project, model: str, adapter: str, repos: Sequence[str]
) -> tuple[EntryRow, list[Tried]]:
    from cogbuild.errors.commands import RepoWanted
    from cogbuild.views.attempts import adapter_number, attempts_of, entries_ever
    from cogbuild.views.models import active_names

    entries = entries_ever(project, model, repos)
    adapter_number(project, adapter, sorted(active_names(project)))
    found = [(entry, attempts_of(project, entry, adapter)) for entry in entries]
    found = [pair for pair in found if pair[1]] or found
    if len(found) > 1:
        raise RepoWanted(model=entries[0].model[:12], repos=[entry.repo for entry, _ in found])
    return found[0]


def _chosen(project: Project, entry: EntryRow, adapter: str, tried: list[Tried], number: int | None) -> Tried:
    from cogbuild.errors.commands import NoAttempt
    from cogbuild.planner.judging import pair_name
    from cogbuild.views.attempts import shown_by_default

    name = pair_name(entry, adapter)
    if number is None:
        found = shown_by_default(project, entry, adapter, tried)
        if found is None:
            raise NoAttempt(pair=name, number="yet")
        return found
    position = number - 1 if number > 0 else len(tried) + number
    if number == 0 or not 0 <= position < len(tried):
        raise NoAttempt(pair=name, number=number, attempts=len(tried))
    return tried[position]


def _print(
    project: Project, entry: EntryRow, adapter: str, chosen: Tried, *, raw: bool, follow: bool
) -> None:
    from cogbuild.report.logs import Escaped
    from cogbuild.views.attempts import is_running, kept_log

    escaped = Escaped()

    def write(data: bytes) -> None:
        if raw:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        else:
            click.echo(escaped(data), nl=False)

    if chosen.log is not None:
        with chosen.log.open("rb") as log:
            _copy(log, write, (lambda: is_running(project, chosen)) if follow else None)
        if not raw:
            click.echo(escaped(b"", last=True), nl=False)
        return
    kept = kept_log(project, entry, adapter, chosen.id)
    if kept:
        write(kept.encode("utf-8", "surrogateescape"))
    else:
        click.echo("no log of it is kept: the adapter said nothing, or the log was collected", err=True)


def _copy(log: BinaryIO, write: Callable[[bytes], None], running: Callable[[], bool] | None) -> None:
    """Copy the log to its end; while *running*, what is added too."""
    while True:
        # Asked before the rest is read: what was written until the end is then read after it.
        goes_on = running is not None and running()
        while data := log.read(_PIECE):
            write(data)
        if not goes_on:
            return
        time.sleep(_PAUSE)


def _whole(project: Project, entry: EntryRow, adapter: str, chosen: Tried) -> str | None:
    from cogbuild.views.attempts import kept_log

    if chosen.log is None:
        return kept_log(project, entry, adapter, chosen.id)
    return chosen.log.read_bytes().decode("utf-8", "replace")
