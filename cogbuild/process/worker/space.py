"""Namespaces of a worker's own: what is mounted here nobody else sees, and what runs here ends with its first process."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from cogbuild.process.worker import kernel, views

__all__ = ["Refused", "Space", "enter", "give_up_privileges"]

_LAST_CAPABILITY = 63


class Refused(Exception):
    """A protection that this machine does not give; the text says why."""


class Space:
    """What a worker has: a stage for the views of its commands, and a note of what is missing."""

    def __init__(self) -> None:
        self._here = os.fsencode(os.path.dirname(os.path.abspath(__file__)))
        self.stage = views.Stage(self._here)
        self.notes: dict[str, str] = {}

    def furnish(self) -> None:
        """Mount and try what commands will need."""
        try:
            kernel.mount(b"proc", b"/proc", b"proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
        except OSError as error:
            self.notes["proc"] = f"/proc shows the processes of the whole machine: {error.strerror}"
        try:
            views.probe(self._here, os.path.dirname(self._here))
        except OSError as error:
            self.notes["overlay"] = f"no overlay can be mounted in a user namespace: {error.strerror}"


def enter(socket: int) -> Space:
    """Go on as the first process of new user, mount and PID namespaces.

    After: the caller's copy of this process only waits for the new one and has let go of *socket*.
    """
    user, group = os.getuid(), os.getgid()
    try:
        kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS | kernel.CLONE_NEWPID)
        _write("setgroups", "deny")
        _write("uid_map", f"{user} {user} 1")
        _write("gid_map", f"{group} {group} 1")
    except OSError as error:
        raise Refused(f"the kernel refuses user namespaces: {error.strerror}") from None
    first = os.fork()
    if first:
        os.close(socket)
        _, status = os.waitpid(first, 0)
        os._exit(0 if status == 0 else 1)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        kernel.mount(b"none", b"/", b"", kernel.MS_REC | kernel.MS_PRIVATE)
    except OSError as error:
        raise Refused(f"the kernel refuses mounts in a user namespace: {error.strerror}") from None
    space = Space()
    space.furnish()
    return space


def give_up_privileges(*, namespaced: bool) -> None:
    """Let nothing that is started from here gain rights; this process keeps those it mounts with."""
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    if not namespaced:
        return
    kernel.prctl(kernel.PR_SET_SECUREBITS, kernel.SECBIT_NOROOT_LOCKED)
    for capability in range(_LAST_CAPABILITY + 1):
        with suppress(OSError):  # this kernel has fewer
            kernel.prctl(kernel.PR_CAPBSET_DROP, capability)


def _write(name: str, text: str) -> None:
    with open(f"/proc/self/{name}", "w") as file:
        file.write(text)
