"""What is run, in what protection, and how it ended: plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Protocol

    class Sink(Protocol):
        """What stderr is written to, whole pieces at a time."""

        def write(self, data: bytes, /) -> object:
            """Take all of *data*."""


__all__ = ["NOT_STARTED", "Command", "Ended", "Level", "Protection", "Reason", "View"]


#: What is said of a command that was cancelled before it began.
NOT_STARTED = "not started any more"


class Level(StrEnum):
    """How a command and its descendants are held together, strongest first."""

    NAMESPACES = "namespaces"  # user, mount and PID namespace of a worker's own; private views of a model
    BUBBLEWRAP = "bubblewrap"  # the same by bwrap, one start a command, no views
    CGROUP = "cgroup"  # a control group that the kernel ends as a whole; nothing is hidden
    SUBREAPER = "subreaper"  # orphans come back to the worker, which ends them; nothing is hidden


@dataclass(frozen=True)
class Protection:
    """What this machine gives: the strongest level that works, and why not more."""

    level: Level
    overlay: bool  # private views of a directory at no cost
    notes: Mapping[str, str] = field(default_factory=dict)
    """By level, "overlay" or "proc": one sentence that says why this machine does not give it."""


@dataclass(frozen=True)
class View:
    """A private, throw-away overlay that only the command sees."""

    root: Path  # an existing empty directory; what is seen there is the view
    layers: tuple[Path, ...]  # read-only directories, topmost first
    masked: tuple[str, ...] = ()  # paths relative to root, files or directories, that are not there
    disk: Path | None = None  # what is written goes to a fresh directory below this one instead of memory
    memory_limit: int = 2 << 30  # bytes that may be written where it goes to memory
    sealed: bool = False  # the layers never change: what was mounted of them for one run may serve the next


@dataclass(frozen=True)
class Command:
    """One program to run and what it may see; all paths absolute, and those of one directory spelled alike."""

    argv: tuple[str, ...]
    env: Mapping[str, str]  # complete; nothing is inherited
    cwd: Path  # the view's root where there is a view
    view: View | None = None
    timeout: float | None = None  # seconds
    grace: float = 2.0  # seconds between SIGTERM to the program and SIGKILL to everything
    hide: tuple[Path, ...] = ()  # directories that look empty and can't be written
    expose: tuple[Path, ...] = ()  # paths below a hidden directory that stay visible, read-only
    writable: tuple[Path, ...] = ()  # the same, for writing; a cwd without a view is always one
    stdout_limit: int = 64 << 10  # bytes of stdout that are kept
    log_limit: int = 64 << 20  # bytes of stderr that are written to the log


class Reason(StrEnum):
    """Why a command is no longer running."""

    EXIT = "exit"  # by itself, with a code
    SIGNAL = "signal"  # by a signal that was not ours
    TIMEOUT = "timeout"
    MEMORY = "memory"  # the kernel killed it for want of memory
    CANCELLED = "cancelled"
    LOST = "lost"  # the worker that held it died
    NOT_STARTED = "not started"


@dataclass(frozen=True)
class Ended:
    """How a command ended; nothing of it is left running."""

    reason: Reason
    code: int | None = None
    signal: int | None = None
    detail: str = ""  # a phrase that says more, where there is more to say
    errno: int | None = None  # of a command that was not started
    view_failed: bool = False  # not started because the view could not be made: a copy may do
    stdout: bytes = b""
    stdout_cut: int = 0  # bytes of stdout thrown away
    stdout_names_file: bool = False  # its one line was a path in the working directory when the program ended
    last_line: bytes = b""  # of stderr, the last that is not blank
    log_bytes: int = 0  # bytes of stderr
    seconds: float = 0.0  # until the program itself ended
    cpu_seconds: float = 0.0  # with its descendants
    max_rss: int = 0  # bytes, of the largest process; never less than a worker's own
