"""``--server`` of a command: whom it asks instead of the project here, and jobs that are followed there."""

from __future__ import annotations

import contextlib
import signal
import sys
from typing import TYPE_CHECKING, Any

import click

from cogbuild.cli.common import Failure, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import FrameType

    from cogbuild.client.http import Server
    from cogbuild.client.jobs import Heard

__all__ = ["ask", "follow_job", "meet", "refuse", "show_log", "takes_up"]

_PIECE = 1 << 18  # bytes of a log that are shown at a time


@contextlib.contextmanager
def meet(server: str | None, token: str | None) -> Iterator[Server]:
    """Yield the server that was named; nothing has been asked yet."""
    from cogbuild.client.address import address
    from cogbuild.client.http import Server

    at = address(server, token)
    if at.in_the_clear:
        click.echo(f"note: the token goes to {at.url} unencrypted", err=True)
    with Server(at) as met:
        yield met


#: Options that make no sense with ``--server``, and why.
_HERE = {
    "adapter_dir": "the directory is on this machine, and the adapters run on the server's",
    "follow": "a log that grows is told as text, so leave out --raw",
    "jobs": "the server decides how many run at once",
}


def refuse(**given: object) -> None:
    """Refuse options that make no sense with ``--server``: name=what was given."""
    from cogbuild.errors.client import NotOverTheWire

    for name, value in given.items():
        if value:
            raise NotOverTheWire(option="--" + name.replace("_", "-"), reason=_HERE[name])


def ask(
    server: str,
    token: str | None,
    parts: Sequence[str],
    params: Mapping[str, Any],
    *,
    in_json: bool,
    method: str = "GET",
    body: Any = None,
) -> None:
    """Print what a command prints in the server's project, and leave with its exit code."""
    from cogbuild.client.asking import Question, data, text
    from cogbuild.report.tables import page

    question = Question(parts, params, method, body)
    with meet(server, token) as met:
        if in_json:
            found, err = data(met, question)
            click.echo(err, err=True, nl=False)
            print_json(found)
            return
        on = page(sys.stdout)
        said = text(met, question, on)
    click.echo(said.err, err=True, nl=False)
    click.echo(said.out, nl=False, color=on.colour)
    if said.code:
        raise Failure(said.code)


def show_log(
    server: str, token: str | None, at: Sequence[str], params: Mapping[str, Any], *, raw: bool, follow: bool
) -> None:
    """Print the log of a pair's attempt there; *at* are the parts of the pair's path."""
    from tempfile import SpooledTemporaryFile

    from cogbuild.client import logs
    from cogbuild.client.asking import Question, bytes_of, safe

    parts = [*at, "log"]
    if raw:
        refuse(follow=follow)
    with meet(server, token) as met, SpooledTemporaryFile(_PIECE) as log:
        if follow:
            found, note = logs.attempt(met, parts, params)
            click.echo(note, err=True, nl=False)
            logs.follow(met, found, lambda text: click.echo(text, nl=False))
            return
        # All of it before a word is shown: an answer that breaks off is asked for once more.
        note = bytes_of(met, Question(parts, {**params, "raw": int(raw)}), log)
        click.echo(note, err=True, nl=False)
        log.seek(0)
        while lines := log.readlines(_PIECE):
            data = b"".join(lines)
            if raw:
                sys.stdout.buffer.write(data)
            else:
                click.echo(safe(met.at.masked(data.decode("utf-8", "replace"))), nl=False)
        sys.stdout.buffer.flush()


def takes_up(command: str, server: Server, job: str) -> str:
    """Return the command line that follows a job from its beginning."""
    import shlex

    return f"cogbuild {command} --server {shlex.quote(server.at.url)} --job {shlex.quote(job)}"


class _Terminated(BaseException):
    """SIGTERM came."""


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise _Terminated


@contextlib.contextmanager
def _heeding_sigterm() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _leaving_it(heard: Heard, goes_on: str) -> Iterator[None]:
    """Say with an error how a job that goes on is followed; where nothing was heard, it may be none of this server's."""
    from cogbuild.errors import CogbuildError

    try:
        yield
    except CogbuildError as error:
        if heard.number and not error.facts.get("goes_on"):
            _say_how(goes_on)
        raise


def follow_job(server: Server, job: str, heard: Heard, *, command: str) -> dict[str, Any]:
    """Follow a job to its end and return how it ended.

    Interrupted, it asks on a terminal what is to become of the job; elsewhere the job goes on. A second time ends at once.
    """
    from cogbuild.client.jobs import cancel, follow

    goes_on = takes_up(command, server, job)
    cancelled = False
    with _heeding_sigterm(), _leaving_it(heard, goes_on):
        while True:
            try:
                return follow(server, job, heard, goes_on=goes_on)
            except KeyboardInterrupt:
                wish = "no" if cancelled else _asked(heard)
                if wish == "no":
                    _leave(goes_on, 130, cancelled=cancelled)
                if wish == "yes":
                    cancelled = True
                    cancel(server, job, goes_on=goes_on)
                    click.echo("asked the server to cancel it; Ctrl-C again ends this at once", err=True)
            except _Terminated:
                _leave(goes_on, 143, cancelled=cancelled)
            finally:
                heard.speaker.watch.close()


def _say_how(goes_on: str) -> None:
    click.echo(f"the work goes on there: follow it with `{goes_on}`", err=True)


def _leave(goes_on: str, code: int, *, cancelled: bool) -> None:
    if not cancelled:
        _say_how(goes_on)
    raise Failure(code)


def _asked(heard: Heard) -> str:
    """Return what is to become of a job: "yes" cancels it, "no" leaves it, "watch" goes on as if nothing had been."""
    try:
        heard.speaker.watch.close()
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            return "no"
        click.echo("\ncancel the work on the server too? [y]es, [n]o, [w]atch on: ", err=True, nl=False)
        answer = sys.stdin.readline().strip().lower()
    except KeyboardInterrupt:  # asked twice: nobody wants to be asked
        click.echo(err=True)
        return "no"
    words = {"y": "yes", "yes": "yes", "w": "watch", "watch": "watch"}
    return words.get(answer, "no")
