"""``cogbuild server``: the Cog server."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cogbuild.cli.common import Output
    from cogbuild.project import Project

__all__ = ["server"]


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where to listen.")
@click.option(
    "--port",
    default=8080,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="The port to listen on; 0: a free one.",
)
@click.option("--data-dir", metavar="DIR", help="The data directory, made where it is not there.")
@click.option(
    "--adapter",
    "directories",
    metavar="DIR",
    multiple=True,
    help="An adapter's directory, or builtin:NAME; joins those that the settings name.",
)
@click.option("--docker-registry", metavar="HOST", help="Where images go, instead of what the settings say.")
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Adapters that run at once; default: one a processor.",
)
@click.option(
    "--backfill",
    type=click.Choice(["off", "missing", "stale"]),
    help="What a new or changed adapter makes of models that are there; default: what the settings say.",
)
@click.pass_obj
def server(
    output: Output,
    *,
    host: str,
    port: int,
    data_dir: str | None,
    directories: tuple[str, ...],
    docker_registry: str | None,
    jobs: int | None,
    backfill: str | None,
) -> None:
    """Take models over HTTP, build them, keep what was made."""
    from cogbuild.place import DATA_DIRECTORY, data_directory
    from cogbuild.project import Project

    _check_parts()
    environ = dict(os.environ)
    if docker_registry is not None:
        environ["COGBUILD_DOCKER_REGISTRY"] = docker_registry
    data = data_directory(data_dir or output.data_dir) or os.path.abspath(DATA_DIRECTORY)
    from cogbuild.server.access import is_loopback
    from cogbuild.server.app import serve
    from cogbuild.server.service import Service

    project = Project(Path(data), environ=environ)
    _check_tokens(project, host)
    sock = _listening(host, port)
    try:
        service = Service(project, directories=directories, jobs=jobs, backfill=backfill)
        service.take()
        service.adapters()  # what can't be used is said now, not with the first upload
    except BaseException:
        sock.close()
        raise
    address = f"[{host}]" if ":" in host else host
    click.echo(f"serving {data} on http://{address}:{sock.getsockname()[1]}")
    serve(service, sock, tokens=not is_loopback(host))


def _check_parts() -> None:
    from importlib.util import find_spec

    from cogbuild.errors.server import ServerPartsMissing

    parts = ("fastapi", "uvicorn", "python_multipart", "jinja2", "prometheus_client")
    missing = [part for part in parts if find_spec(part) is None]
    if missing:
        raise ServerPartsMissing(missing=missing)


def _check_tokens(project: Project, host: str) -> None:
    """Refuse to listen where others are, as long as nobody was given a token."""
    from cogbuild.database.tokens import any_at_all
    from cogbuild.errors.access import NoTokens
    from cogbuild.server.access import is_loopback

    if not is_loopback(host) and not (project.exists and any_at_all(project.con)):
        raise NoTokens(host=host)


def _listening(host: str, port: int) -> socket.socket:
    from cogbuild.errors.server import CantListen

    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as trouble:
        raise CantListen(address=f"{host}:{port}", reason=trouble.strerror) from None
