"""Starting a program, and saying why it could not be started."""

from __future__ import annotations

import errno
import os
import signal

__all__ = ["start", "why_not"]

# Python ignores the first two, the worker the third, and whoever started us may ignore the rest (nohup).
_DEFAULTS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM)
_NULL = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


def start(argv: tuple[bytes, ...], env: dict[bytes, bytes], stdout: int, stderr: int) -> int:
    """Start *argv* in a session of its own, here, and return its process ID.

    All other descriptors are closed by being close-on-exec. Spawned, not forked: the kernel need not copy our memory.
    """
    return os.posix_spawn(
        _found(argv[0], env),
        argv,
        env,
        file_actions=(
            (os.POSIX_SPAWN_DUP2, _NULL, 0),
            (os.POSIX_SPAWN_DUP2, stdout, 1),
            (os.POSIX_SPAWN_DUP2, stderr, 2),
        ),
        setsid=True,
        setsigmask=(),
        setsigdef=_DEFAULTS,
    )


def _found(program: bytes, env: dict[bytes, bytes]) -> bytes:
    if b"/" in program:
        return program
    for directory in env.get(b"PATH", os.fsencode(os.defpath)).split(b":"):
        path = (directory or b".") + b"/" + program
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
    raise OSError(errno.ENOENT, "not found in PATH")


def why_not(program: bytes, error: OSError) -> str:
    """Return the sentence that says why *program* was not started."""
    name = os.fsdecode(program)
    if b"/" in program:
        if error.errno == errno.ENOENT and os.path.exists(program):
            return f"{name} asks for an interpreter that is not there: {_interpreter(program)}"
        if error.errno == errno.ENOEXEC:
            return f"{name} is neither a native program nor does it begin with #!"
        if error.errno == errno.EACCES and os.path.isfile(program) and not os.access(program, os.X_OK):
            return f"{name} is not executable"
    return f"{name}: {error.strerror}"


def _interpreter(program: bytes) -> str:
    with open(program, "rb") as file:
        first = file.readline(256)
    if first.startswith(b"#!"):
        return os.fsdecode(first[2:].strip())
    return "its dynamic loader"
