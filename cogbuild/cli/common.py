"""What commands share: the project, JSON or text, and how errors are told."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from cogbuild.asked import Answer
    from cogbuild.database.models import EntryRow
    from cogbuild.errors import CogbuildError
    from cogbuild.planner import Planner
    from cogbuild.project import Project

    F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["Failure", "Output", "adapter_dirs", "as_json", "one_entry", "tell", "told", "with_server"]


class Failure(Exception):
    """The command has said what is wrong; only the exit code is left."""

    def __init__(self, exit_code: int) -> None:
        super().__init__()
        self.exit_code = exit_code


class Output:
    """The project that a command is about, opened when it is first asked for."""

    def __init__(self, *, data_dir: str | None) -> None:
        self.data_dir = data_dir
        self._project: Project | None = None

    @property
    def project(self) -> Project:
        """The project; raises ``NoDataDirectory``, also where a name was given that no directory has."""
        from cogbuild.errors.state import NamedNoDirectory

        project = self.project_or_new
        if self.named and not project.exists:
            raise NamedNoDirectory(path=project.data)
        return project

    @property
    def project_or_new(self) -> Project:
        """The project of a command that makes the data directory where it is not there; raises ``NoDataDirectory``."""
        if self._project is None:
            from cogbuild.project import Project

            self._project = Project.find(data_dir=self.data_dir)
            click.get_current_context().find_root().call_on_close(self._project.close)
        return self._project

    @property
    def named(self) -> bool:
        """Whether a data directory was named, and not looked for."""
        return bool(self.data_dir or os.environ.get("COGBUILD_DATA_DIR"))

    def fresh_pairs(self) -> int | None:
        """Return how many pairs there are where nothing at all is to be done; None: look closer."""
        from cogbuild.place import data_directory
        from cogbuild.quiet import fresh_pairs

        data = data_directory(self.data_dir)
        return fresh_pairs(data) if data is not None else None

    def planner(self, directories: Sequence[str] = ()) -> Planner:
        """Return a planner over the active adapters and those in *directories*."""
        from cogbuild.active import active
        from cogbuild.planner import Planner

        project = self.project_or_new
        return Planner(project, active(project, directories))


def as_json(command: F) -> F:
    """Add ``--json`` to a command as the parameter ``in_json``."""
    return click.option("--json", "in_json", is_flag=True, help="Print JSON instead of text.")(command)


def adapter_dirs(command: F) -> F:
    """Add ``--adapter-dir`` to a command as the parameter ``directories``."""
    return click.option(
        "--adapter-dir",
        "directories",
        metavar="DIR",
        multiple=True,
        help="A directory with a cog-adapter.yaml that joins the active adapters.",
    )(command)


def with_server(command: F) -> F:
    """Add ``--server`` and ``--token`` to a command as the parameters ``server`` and ``token``."""
    token = click.option(
        "--token", metavar="TOKEN", help="What the server lets you in with; better said in COGBUILD_TOKEN."
    )
    server = click.option("--server", metavar="URL", help="Ask this server instead of the project here.")
    return server(token(command))


def print_json(value: Any) -> None:
    """Print *value* as JSON for machines and people: letters as they are, what commands a terminal escaped."""
    import json

    text = json.dumps(value, indent=2, ensure_ascii=False)
    if not text.replace("\n", "").isprintable():
        text = "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
    click.echo(text)


def one_entry(project: Project, prefix: str, repos: Sequence[str] = ()) -> list[EntryRow]:
    """Return the entries that a prefix of a model's ID names; live directories are looked at first."""
    from cogbuild import library

    library.refresh_links(project)
    return library.find(project, prefix, repos)


def told(answer: Answer, *, in_json: bool) -> None:
    """Print an answer on stdout."""
    if in_json:
        print_json(answer.json())
        return
    from cogbuild.report.tables import page

    on = page(sys.stdout)
    for line in answer.lines(on):
        click.echo(line, color=on.colour)


def tell(error: CogbuildError) -> int:
    """Tell of an error, as JSON on stdout where the command line asks for JSON; return the exit code."""
    if "--json" in sys.argv[1:]:
        print_json(error.to_json())
    else:
        click.echo(str(error), err=True)
    return error.exit_code
