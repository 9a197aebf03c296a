"""A worker inside bubblewrap: for machines whose kernel lets only that program make namespaces."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cogbuild.process.values import Command

__all__ = ["program", "wrapper"]


def program() -> str | None:
    """Return where bubblewrap is, None where it is not installed."""
    return shutil.which("bwrap")


def wrapper(bwrap: str, command: Command | None) -> list[str]:
    """Return the words before a worker's own that give it namespaces and hide what *command* may not see.

    The worker is the first process there (--as-pid-1) and ends with our socket, so no signal need be tied to the
    thread that starts it (--die-with-parent).
    """
    words = [
        bwrap,
        "--dev-bind",
        "/",
        "/",
        "--unshare-pid",
        "--proc",
        "/proc",
        "--as-pid-1",
        "--cap-drop",
        "ALL",
    ]
    if command is None:
        return [*words, "--"]
    for path in command.hide:
        words += ["--tmpfs", str(path)]
    for path in command.expose:
        words += ["--ro-bind", str(path), str(path)]
    for path in (*command.writable, command.cwd):
        if any(path.is_relative_to(hidden) for hidden in command.hide):
            words += ["--bind", str(path), str(path)]
    for path in command.hide:
        words += ["--remount-ro", os.fspath(path)]
    return [*words, "--"]
