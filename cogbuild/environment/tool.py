"""The uv beside cogbuild: where it is, the variables it gets, what its words mean."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from cogbuild.errors.environments import UvMissing, UvTooOld

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cogbuild.process import Captured

__all__ = ["index_options", "out_of_reach", "run", "said", "tell", "variables"]

# Variables that choose an interpreter or a project for uv's own commands; ours name both.
_DROPPED = (
    "PYTHONHOME",
    "PYTHONPATH",
    "UV_PROJECT",
    "UV_PYTHON",
    "UV_SYSTEM_PYTHON",
    "UV_WORKING_DIR",
    "UV_WORKING_DIRECTORY",
)
# What only pip was told, under the names that uv reads; any of the names on the right means that uv was told itself.
_FROM_PIP = (
    ("PIP_FIND_LINKS", "UV_FIND_LINKS", ("UV_FIND_LINKS",)),
    ("PIP_INDEX_URL", "UV_INDEX_URL", ("UV_INDEX_URL", "UV_DEFAULT_INDEX")),
    ("PIP_EXTRA_INDEX_URL", "UV_EXTRA_INDEX_URL", ("UV_EXTRA_INDEX_URL", "UV_INDEX")),
    ("PIP_NO_INDEX", "UV_NO_INDEX", ("UV_NO_INDEX",)),
)
_PATHS = ("UV_FIND_LINKS", "UV_CACHE_DIR", "UV_CONFIG_FILE")
_FALSE = ("", "0", "false", "no", "off")
_QUOTED_LINES = 40


def run(
    *args: str | Path, cwd: Path | None = None, on_line: Callable[[bytes], None] | None = None
) -> Captured:
    """Run uv with *args* and return how it ended; ``UvTooOld`` where it does not know what it is asked.

    It runs outside every project unless *cwd* says otherwise: what stands in the ``pyproject.toml`` around us is not
    meant for an adapter's environment.
    """
    from tempfile import gettempdir

    from cogbuild.process import capture

    program = _program()
    env = variables(os.environ)
    argv = [program, *map(str, args), "--color=never", "--no-progress", "--no-python-downloads"]
    try:
        ended = capture(argv, env=env, cwd=cwd or Path(gettempdir()), on_line=on_line)
    except OSError as trouble:
        raise UvMissing(python=sys.executable, program=program, reason=trouble.strerror) from trouble
    if ended.code == 2 and (
        b"unexpected argument" in ended.stderr or b"unrecognized subcommand" in ended.stderr
    ):
        version = capture([program, "--version"], env=env).stdout.strip().decode()
        raise UvTooOld(python=sys.executable, program=program, version=version, uv_says=said(ended))
    return ended


@cache
def _program() -> str:
    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError) as trouble:
        raise UvMissing(python=sys.executable, reason=str(trouble).split("\n", 1)[0]) from trouble


def variables(base: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for uv: all of *base*, and what only pip was told.

    Paths become absolute, because uv does not run where we do. Bytecode is written with the packages: runs see an
    environment read-only, and each would compile anew what it imports.
    """
    env = {"UV_COMPILE_BYTECODE": "1"}
    env |= {name: value for name, value in base.items() if name not in _DROPPED}
    for pip, name, told in _FROM_PIP:
        if base.get(pip) and not any(base.get(other) for other in told):
            # pip separates by white space; uv does so too, but for places to find links, where it wants commas.
            env[name] = ",".join(base[pip].split()) if name == "UV_FIND_LINKS" else base[pip]
    for name in _PATHS:
        if env.get(name):
            env[name] = ",".join(_absolute(place) for place in env[name].split(","))
    return env


def _absolute(place: str) -> str:
    return place if "://" in place else os.path.abspath(os.path.expanduser(place.strip()))


def index_options() -> list[str]:
    """Return the options for what uv reads from no variable in every version: that no index is to be asked."""
    no_index = variables(os.environ).get("UV_NO_INDEX", "")
    return [] if no_index.lower() in _FALSE else ["--no-index"]


def said(ended: Captured) -> str:
    """Return uv's own words on why it failed, without what it said before that."""
    lines = ended.stderr.decode("utf-8", "replace").strip().splitlines()
    start = next((at for at, line in enumerate(lines) if line.startswith("error:")), 0)
    return "\n".join(line for line in lines[start:][:_QUOTED_LINES] if line.strip())


def out_of_reach(ended: Captured) -> bool:
    """Whether uv failed because an index or a file did not answer, or was not to be asked."""
    if (
        b"ash mismatch" in ended.stderr or b"uild backend" in ended.stderr
    ):  # uv says "Failed to download" there too
        return False
    words = (b"Failed to fetch", b"Failed to download", b"error sending request", b"Could not connect")
    return any(word in ended.stderr for word in (*words, b"network was disabled", b"network is disabled"))


def tell(on_line: Callable[[bytes], None] | None, text: str | bytes) -> None:
    """Hand each line of *text* to the log, where there is one."""
    if on_line is not None:
        raw = text.encode() if isinstance(text, str) else text
        for line in raw.splitlines():
            on_line(line)
