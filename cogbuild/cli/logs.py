"""``cogbuild logs``: what an adapter said."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from cogbuild.cli.common import Output, as_json, print_json, told, with_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from cogbuild.asked.pairs import Attempts
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
@with_server
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
    server: str | None,
    token: str | None,
    in_json: bool,
) -> None:
    """Show what ADAPTER said about MODEL: while it runs or where it failed the last attempt, else the one that made
    what is there. The log is printed on stdout, which attempt it is on stderr.
    """
    if server is not None:
        from cogbuild.cli.remote import ask, show_log

        at = ("attempts", model, adapter)
        if listed or in_json:
            named = {"repo": repos} if listed else {"repo": repos, "number": number}
            ask(server, token, at if listed else (*at, "log"), named, in_json=in_json)
        else:
            show_log(server, token, at, {"repo": repos, "number": number}, raw=raw, follow=follow)
        return
    from cogbuild.asked.pairs import attempts
    from cogbuild.database.browsing import Repos
    from cogbuild.report.explained import tried_json

    found = attempts(output.project, model, adapter, Repos(repos))
    if listed:
        told(found.answer, in_json=in_json)
        return
    chosen = found.chosen(number)
    if in_json:
        print_json({**tried_json(chosen), "text": found.text(chosen)})
        return
    click.echo(found.note(chosen), err=True)
    _print(found, chosen, raw=raw, follow=follow)


def _print(found: Attempts, chosen: Tried, *, raw: bool, follow: bool) -> None:
    from cogbuild.report.logs import Escaped
    from cogbuild.views.attempts import is_running

    escaped = Escaped()

    def write(data: bytes) -> None:
        if raw:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        else:
            click.echo(escaped(data), nl=False)

    if chosen.log is not None:
        with chosen.log.open("rb") as log:
            _copy(log, write, (lambda: is_running(found.project, chosen)) if follow else None)
        if not raw:
            click.echo(escaped(b"", last=True), nl=False)
        return
    kept = found.kept(chosen)
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
