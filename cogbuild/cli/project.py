"""``cogbuild init`` and ``cogbuild doctor``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cogbuild.cli.common import Failure, Output, as_json, print_json

if TYPE_CHECKING:
    from cogbuild.project import Project

__all__ = ["doctor", "init"]

_DODO = '''"""doit's tasks. cogbuild's loader adds one for each model and adapter; tasks of your own may stand here beside them."""
'''
_SETTINGS = """\
# What this project builds. `cogbuild adapt` and `doit` read this on every run; paths are relative to this file.

# Active adapters: directories that hold a cog-adapter.yaml, or builtin:<name>. `cogbuild adapters ls` lists them.
adapters:
  - builtin:archive

# Model directories that are looked at on every run. Others are added once, with `cogbuild models add`.
#models:
#  - models/*
#  - {path: ../other, repo: somebody/other}

# Reaches adapters as COG_DOCKER_REGISTRY.
#docker_registry: registry.example/somebody

# Where published artifacts are kept; else below .cogbuild/. Also s3://bucket/prefix, gs://…, az://….
#artifact_store: file:///srv/artifacts

# Pairs that run at once; else one a processor.
#jobs: 2
"""
_CONFIGURATION = "[GLOBAL]\nloader = cogbuild\n"
_TABLE = '\n[tool.doit]\nloader = "cogbuild"\n'
_IGNORED = (".cogbuild/", ".doit.db*")


@click.command()
@click.argument("directory", metavar="[DIR]", default=".")
def init(directory: str) -> None:
    """Make a project in DIR, which is made where it is not there; else in this directory.

    No file is overwritten: where one is in the way, nothing is written at all.
    """
    root = Path(directory)
    new, added = _plan(root)
    _refuse_overwriting(root, new)
    from cogbuild.objects import disk_errors, make_place
    from cogbuild.project import DATA_DIRECTORY, Project

    with disk_errors(root):
        make_place(root, "`cogbuild init DIR`")
        for name, text in new.items():
            with (root / name).open("x", encoding="utf-8") as file:
                file.write(text)
        for name, text in added.items():
            with (root / name).open("a", encoding="utf-8") as file:
                file.write(text)
    Project(root / DATA_DIRECTORY).make()
    _tell(directory, [*new, *(f"{name} (added to)" for name in added), DATA_DIRECTORY + "/"])


def _plan(root: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return the texts of new files, and what is added to files that are there."""
    from cogbuild.project import settings_file

    shared, ignored = root / "pyproject.toml", root / ".gitignore"
    new = {"cogbuild.yaml": _SETTINGS} if settings_file(root) != shared else {}  # [tool.cogbuild] is there
    new["dodo.py"] = _DODO
    added: dict[str, str] = {}
    if shared.is_file() and not _has_doit_table(shared):
        added["pyproject.toml"] = _TABLE
    else:
        new["doit.cfg"] = _CONFIGURATION
    known = ignored.read_text("utf-8").splitlines() if ignored.is_file() else None
    lines = "".join(f"{line}\n" for line in _IGNORED if line not in (known or ()))
    if known is None:
        new[".gitignore"] = lines
    elif lines:
        broken = bool(known) and not ignored.read_text("utf-8").endswith("\n")
        added[".gitignore"] = "\n" * broken + lines
    return new, added


def _has_doit_table(shared: Path) -> bool:
    import tomllib

    try:
        tool = tomllib.loads(shared.read_text("utf-8")).get("tool", {})
    except ValueError:
        return True  # not ours to mend, and nothing is added to what can't be read
    return isinstance(tool, dict) and "doit" in tool


def _refuse_overwriting(root: Path, new: dict[str, str]) -> None:
    from cogbuild.errors.commands import FileInTheWay
    from cogbuild.project import DATA_DIRECTORY

    if os.path.lexists(root) and not root.is_dir():
        raise FileInTheWay(file=root)
    for name in (DATA_DIRECTORY, *new):
        if os.path.lexists(root / name):
            raise FileInTheWay(file=root / name)


def _tell(directory: str, written: list[str]) -> None:
    click.echo(f"made a project in {os.path.abspath(directory)}")
    for name in written:
        click.echo(f"  {name}")
    click.echo("next:")
    if directory != ".":
        click.echo(f"  cd {directory}")
    click.echo("  cogbuild models add PATH   a directory or zip with a cog.yaml")
    click.echo("  doit                       builds it; `cogbuild adapt` does the same")


@click.command()
@click.option(
    "--verify", is_flag=True, help="Read all that is kept and say what is damaged; exit code 3 if any is."
)
@click.option("--repair", is_flag=True, help="Keep a damaged database aside and rebuild it.")
@as_json
@click.pass_obj
def doctor(output: Output, *, verify: bool, repair: bool, in_json: bool) -> None:
    """Say what this machine and this project give, and what is missing."""
    if repair:
        _repair(output, in_json=in_json)
    if verify:
        _verify(output, in_json=in_json)
    if repair or verify:
        return
    from cogbuild.report.machine import machine_json, machine_lines
    from cogbuild.views.machine import machine

    found = machine(_project(output))
    if in_json:
        print_json(machine_json(found))
    else:
        for line in machine_lines(found):
            click.echo(line)
    if found.troubles:
        raise Failure(3)


def _repair(output: Output, *, in_json: bool) -> None:
    from cogbuild.housekeeping.rebuilding import rebuild

    done = rebuild(output.project)
    if in_json:
        told: dict[str, object] = {"sound": done is None}
        if done is not None:
            nameless = [str(path) for path in done.nameless]
            told |= {
                "aside": str(done.aside),
                "wrong": done.wrong,
                "regained": done.regained,
                "nameless": nameless,
            }
        print_json(told)
    elif done is None:
        click.echo("the database is sound")
    else:
        click.echo(f"the database was damaged: {done.wrong[0]}")
        click.echo(f"it is kept as {os.path.relpath(done.aside)}")
        counts = ", ".join(f"{count} {word}" for word, count in done.regained.items() if count)
        click.echo(f"regained: {counts or 'nothing'}")
        for path in done.nameless:
            click.echo(f"under which repo {path.name[:12]} was added can't be read any more; with that name:")
            click.echo(f"  cogbuild models add {os.path.relpath(path)} --repo USER/NAME")
        click.echo("what the cache knows of these models is found again by the next run")


def _verify(output: Output, *, in_json: bool) -> None:
    from cogbuild.errors import printable
    from cogbuild.housekeeping.rebuilding import check

    found = check(output.project)
    if in_json:
        print_json({"findings": [{"path": str(item.path), "what": item.what} for item in found]})
    else:
        for item in found:
            click.echo(printable(f"{os.path.relpath(item.path)}: {item.what}"))
        click.echo(f"{len(found)} damaged" if found else "all that is kept is as it was written")
    if found:
        raise Failure(3)


def _project(output: Output) -> Project | None:
    from cogbuild.errors.state import NoDataDirectory

    try:
        return output.project_or_new
    except NoDataDirectory:
        return None
