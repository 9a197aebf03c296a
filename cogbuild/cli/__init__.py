"""The ``cogbuild`` command: one module a group of commands, imported when it is the one that was asked for."""

from __future__ import annotations

import os
import sys

import click

from cogbuild import __version__
from cogbuild.cli.common import Failure, Output

__all__ = ["main", "root"]

#: Command → (module, one line). ``cogbuild --help`` shows the lines without importing the modules.
COMMANDS = {
    "init": ("project", "Make a project in this directory."),
    "models": ("models", "Add, list, show, change and verify models."),
    "adapt": ("adapt", "Build what is not fresh."),
    "build": ("build", "Build a model on a server and watch it."),
    "status": ("status", "Show the matrix: models down, adapters across."),
    "explain": ("status", "Say why a pair is what it is."),
    "logs": ("logs", "Show what an adapter said."),
    "artifacts": ("artifacts", "List, fetch, verify and pin what adapters made."),
    "adapters": ("adapters", "List, make, check and lock adapters."),
    "cache": ("cache", "Look into the cache, verify it, make room."),
    "server": ("server", "Take models over HTTP, build them, keep what was made."),
    "tokens": ("tokens", "Make, list and take back a server's tokens."),
    "doctor": ("project", "Say what this machine gives and what is missing."),
}


class Lazy(click.Group):
    """A group whose commands are imported one by one, when they run."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        from importlib import import_module

        module = import_module(f"cogbuild.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write names and lines."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="cogbuild", message="%(prog)s %(version)s")
@click.option("--data-dir", metavar="DIR", help="The data directory; default: the nearest .cogbuild upwards.")
@click.pass_context
def root(ctx: click.Context, data_dir: str | None) -> None:
    """Every Cog model built for every target, once."""
    ctx.obj = Output(data_dir=data_dir)


def main() -> None:
    """Run the command; errors are told in their own form, with their own exit code."""
    from cogbuild.errors import CogbuildError

    try:
        code = root.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except CogbuildError as error:
        from cogbuild.cli.common import tell

        sys.exit(tell(error))
    except Failure as failure:
        sys.exit(failure.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has seen enough, e.g. `cogbuild models ls | head`.
        sys.stderr.close()
        sys.exit(141)
    except Exception as trouble:  # noqa: BLE001 - a traceback helps nobody at a terminal; the report holds it
        from cogbuild.cli.common import tell
        from cogbuild.errors.bugs import error_of
        from cogbuild.place import data_directory

        sys.exit(tell(error_of(trouble, data_directory() or os.getcwd())))
