"""``cogbuild tokens``: who may use a server on this data directory."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from cogbuild.cli.common import Output, as_json, print_json

if TYPE_CHECKING:
    from cogbuild.database.tokens import TokenRow

__all__ = ["tokens"]

_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def _seconds(_ctx: object, _param: object, value: str) -> float | None:
    from cogbuild.errors.access import BadSpan

    if value == "never":
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,4})([mhdw])", value)
    if found is None:
        raise BadSpan(given=repr(value))
    return float(int(found[1]) * _UNITS[found[2]])


def _actions(_ctx: object, _param: object, value: str) -> list[str]:
    from cogbuild.server.grants import ACTIONS

    given = [item.strip() for item in value.split(",") if item.strip()]
    wrong = [item for item in given if item not in ACTIONS]
    if wrong or not given:
        raise click.BadParameter(f"{', '.join(wrong) or 'nothing'} is not one of {', '.join(ACTIONS)}")
    return given


@click.group()
def tokens() -> None:
    """Make, list and take back the tokens of a server."""


@tokens.command()
@click.option(
    "--repo",
    "repos",
    metavar="USER/NAME",
    required=True,
    help="What it is for: a repo, 'USER/*' for all of a user's, '*' for every one.",
)
@click.option(
    "--can",
    "actions",
    metavar="LIST",
    default="read",
    show_default=True,
    callback=_actions,
    help="What it is good for: read, push, adapt, admin (which is all of them, and deleting), with commas.",
)
@click.option(
    "--expires",
    "seconds",
    metavar="TIME",
    default="90d",
    show_default=True,
    callback=_seconds,
    help="When it ends: e.g. 12h, 30d, or never.",
)
@click.option("--note", metavar="TEXT", default="", help="What it is for, in your words.")
@as_json
@click.pass_obj
def new(
    output: Output, *, repos: str, actions: list[str], seconds: float | None, note: str, in_json: bool
) -> None:
    """Make a token and print it, once: only a digest of it is kept."""
    from cogbuild.server.grants import make_token

    project = output.project_or_new
    if output.named and not project.exists:  # a mistyped name would be a server that knows no token
        click.echo(f"making the data directory {project.data}", err=True)
    text, row = make_token(project, repos, actions, seconds=seconds, note=note)
    if in_json:
        print_json({"token": text, **_json(row)})
        return
    click.echo(text)
    click.echo(f"token {row.id} for {row.repos}: {_can(row)}; {_ends(row)}. It is not shown again.", err=True)


@tokens.command("ls")
@as_json
@click.pass_obj
def ls(output: Output, *, in_json: bool) -> None:
    """List the tokens; what they are themselves nobody knows any more."""
    import sys

    from cogbuild.database.tokens import every
    from cogbuild.errors import printable
    from cogbuild.report.tables import Column, page, table
    from cogbuild.report.words import age

    rows = every(output.project.con) if output.project.exists else []
    if in_json:
        print_json({"tokens": [_json(row) for row in rows]})
        return
    if not rows:
        click.echo("no tokens; make one with `cogbuild tokens new --repo USER/NAME --can push,adapt,read`")
        return
    columns = [
        Column("token"),
        Column("repo", cut=True),
        Column("can"),
        Column("expires"),
        Column("used", give=1),
        Column("note", give=2, cut=True),
    ]
    cells = [
        [
            row.id,
            row.repos,
            _can(row),
            _ends(row),
            age(row.used) + " ago" if row.used else "never",
            printable(row.note),
        ]
        for row in rows
    ]
    on = page(sys.stdout)
    for line in table(columns, cells, on):
        click.echo(line, color=on.colour)


@tokens.command("rm")
@click.argument("token", metavar="TOKEN")
@click.pass_obj
def rm(output: Output, *, token: str) -> None:
    """Take a token back, by the name that `tokens ls` shows; requests with it are refused from now on."""
    from cogbuild.database.tokens import drop
    from cogbuild.errors import printable
    from cogbuild.errors.access import TokenUnknown
    from cogbuild.server.grants import token_name

    name = token_name(token)  # whoever pastes the token itself means it too, and it is not to be printed
    project = output.project
    if not project.exists or not project.database.write(lambda con: drop(con, name)):
        raise TokenUnknown(token=repr(name))
    click.echo(f"removed  {printable(name)}")


def _can(row: TokenRow) -> str:
    return ",".join(row.can)


def _ends(row: TokenRow) -> str:
    import time

    from cogbuild.report.words import age

    if row.expires is None:
        return "never expires"
    now = time.time()
    return f"expires in {age(now, row.expires)}" if row.expires > now else f"expired {age(row.expires)} ago"


def _json(row: TokenRow) -> dict[str, Any]:
    from cogbuild.report.words import iso

    return {
        "id": row.id,
        "repo": row.repos,
        "can": list(row.can),
        "note": row.note,
        "made": iso(row.made),
        "expires": iso(row.expires),
        "used": iso(row.used),
    }
