"""``cogbuild cache``: what was done before, looked into, verified, and made room for."""

from __future__ import annotations

import re
import sys
from typing import Any

import click

from cogbuild.cli.common import Failure, Output, as_json, print_json, told

_DIGITS = 12


@click.group()
@click.pass_context
def cache(context: click.Context) -> None:
    """Look into the cache, verify it, make room."""
    output = context.obj
    if context.invoked_subcommand != "verify" and isinstance(
        output, Output
    ):  # verify says it in its own words
        context.call_on_close(lambda: _note(output))


def _note(output: Output) -> None:
    """Say what is wrong with the cache as a whole, lest a list that is empty for that reason be believed."""
    for trouble in output.project.cache.troubles:
        click.echo(f"note: {trouble}", err=True)


# -- ls, show, diff -----------------------------------------------------------------------------------------------


@cache.command("ls")
@click.option("--adapter", metavar="NAME", help="Only what this adapter made.")
@as_json
@click.pass_obj
def ls(output: Output, *, adapter: str | None, in_json: bool) -> None:
    """List the records, the newest first."""
    from cogbuild.cli.cache_shown import left, record_json
    from cogbuild.errors import printable
    from cogbuild.housekeeping.records import every
    from cogbuild.report import age, span
    from cogbuild.report.tables import Column, page, table

    project = output.project
    records = every(project, adapter)
    if in_json:
        print_json({"records": [record_json(project, item) for item in records]})
        return
    columns = [
        Column("key"),
        Column("adapter", cut=True),
        Column("age", right=True),
        Column("took", right=True, give=1),
        Column("left", cut=True),
    ]
    rows = [
        [
            item.key[:_DIGITS],
            item.adapter,
            age(item.made),
            span(item.seconds),
            printable(left(project, item)),
        ]
        for item in records
    ]
    for line in table(columns, rows, page(sys.stdout)) if rows else ["no records"]:
        click.echo(line)


@cache.command("show")
@click.argument("key")
@as_json
@click.pass_obj
def show(output: Output, *, key: str, in_json: bool) -> None:
    """Show what counted for KEY (any unique prefix), and what the work left.

    Works for the keys of records in the cache and of outcomes in the database.
    """
    from cogbuild.cli.cache_shown import carriers, record_json, work_facts
    from cogbuild.errors import printable
    from cogbuild.housekeeping.records import find, rows
    from cogbuild.report.tables import facts
    from cogbuild.report.words import short

    project = output.project
    found = find(project, key)
    opened = rows(project, found.manifest)
    if in_json:
        record = record_json(project, found.record) if found.record else None
        print_json({"key": found.key, "record": record, "pairs": carriers(project, found), "rows": opened})
        return
    for line in facts([("key", found.key), *work_facts(project, found)]):
        click.echo(line)
    click.echo("rows")
    shown = [(printable(label), printable(short(value))) for label, value in opened.items()]
    for line in facts(shown, indent="  "):
        click.echo(line)


@cache.command("diff")
@click.argument("one")
@click.argument("other")
@as_json
@click.pass_obj
def diff(output: Output, *, one: str, other: str, in_json: bool) -> None:
    """Show the rows in which two keys differ, with both values; files by their paths.

    Exit code 1 when they differ.
    """
    from cogbuild.errors import printable
    from cogbuild.housekeeping.records import difference, find
    from cogbuild.report import changed
    from cogbuild.report.tables import facts

    project = output.project
    before, after = find(project, one), find(project, other)
    moved = difference(project, before.manifest, after.manifest)
    if in_json:
        rows = [{"label": row.label, "before": row.before, "after": row.after} for row in moved]
        print_json({"before": before.key, "after": after.key, "rows": rows})
    else:
        shown = [(printable(row.label), printable(changed(row.before, row.after))) for row in moved]
        for line in facts(shown) if shown else ["no row differs"]:
            click.echo(line)
    if moved:
        raise Failure(1)


# -- stats, verify ------------------------------------------------------------------------------------------------


@cache.command("stats")
@as_json
@click.pass_obj
def stats(output: Output, *, in_json: bool) -> None:
    """Show what the cache was good for, by adapter, and what is kept."""
    from cogbuild.asked.kept import cache_stats

    told(cache_stats(output.project), in_json=in_json)


@cache.command("verify")
@as_json
@click.pass_obj
def verify(output: Output, *, in_json: bool) -> None:
    """Check every record, and that what it names is there; what is damaged is removed.

    Exit code 1 when something was.
    """
    from cogbuild.housekeeping.records import verify as check

    project = output.project
    looked = list(check(project))
    troubles = [item for item in looked if item is not None]
    said = [*project.cache.troubles]
    if in_json:
        removed = [{"key": item.key, "what": item.what} for item in troubles]
        print_json({"intact": len(looked) - len(troubles), "removed": removed, "troubles": said})
    else:
        for item in troubles:
            click.echo(f"removed {item.key[:_DIGITS]}: {item.what}")
        for line in said:
            click.echo(line)
        click.echo(
            f"{len(looked) - len(troubles)} intact" + (f", {len(troubles)} removed" if troubles else "")
        )
    if troubles or said:
        raise Failure(1)


# -- gc -----------------------------------------------------------------------------------------------------------


class Period(click.ParamType[float]):
    """A time such as ``30d``, ``12h`` or ``45m``, in seconds."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d{1,6})\s*([smhdw])", str(value))
        if found is None:
            self.fail(f"{value!r} is no time such as 30d, 12h or 45m", param, ctx)
        return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}[found[2]]


@cache.command("gc")
@click.option("-n", "--dry-run", is_flag=True, help="List what would go; take nothing.")
@click.option(
    "--older-than",
    type=Period(),
    default=30 * 86400.0,
    metavar="TIME",
    help="Keep records that no outcome carries, what they name, and ended jobs of the server for so long; default: 30d.",
)
@click.option("--logs-older-than", type=Period(), metavar="TIME", help="Take older logs too; default: none.")
@click.option("--keep-environments", is_flag=True, help="Leave the Python environments alone.")
@click.option(
    "--artifact-store",
    "store",
    is_flag=True,
    help="Collect in an `artifact_store:` elsewhere too; only where no other data directory uses it.",
)
@click.option("--wait", is_flag=True, help="Wait until no build runs, and keep others from starting.")
@as_json
@click.pass_obj
def gc(
    output: Output,
    *,
    dry_run: bool,
    older_than: float,
    logs_older_than: float | None,
    keep_environments: bool,
    store: bool,
    wait: bool,
    in_json: bool,
) -> None:
    """Take what no outcome, pin, model or recent record needs.

    Nothing that a running build uses is ever taken: while one runs, only what no build can use goes.
    """
    from cogbuild.cli.cache_shown import collection_json, tell_collection
    from cogbuild.housekeeping.collecting import collect

    done = collect(
        output.project,
        dry=dry_run,
        older_than=older_than,
        logs_older_than=logs_older_than,
        environments=not keep_environments,
        store_elsewhere=store,
        wait=wait,
    )
    if in_json:
        print_json(collection_json(done))
    else:
        tell_collection(done)
