"""How a worker holds on to everything that a command has started, and ends it: one class a level of protection."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from cogbuild.process.worker import kernel
from cogbuild.process.worker.space import Refused

__all__ = ["Cgroup", "Keeper", "PidNamespace", "Subreaper", "keeper_for"]

_UNIFIED = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")


class Keeper:
    """Every orphan below becomes a child of this process, which is what a worker's own reaping relies on."""

    def admit(self) -> None:
        """Prepare for a program that is about to be started."""

    def admitted(self) -> None:
        """Go on after a program was started, or was not."""

    def end_all(self) -> None:
        """Send SIGKILL to all that is left; called again until nothing is."""
        raise NotImplementedError  # each level below has a way of its own

    def close(self) -> None:
        """Leave nothing behind."""


class PidNamespace(Keeper):
    """The worker is the first process of a PID namespace: one call reaches all, and all end with it."""

    def end_all(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)


class Subreaper(Keeper):
    """Orphans come back to the worker; found by walking from child to child, so it may take a few rounds."""

    def __init__(self) -> None:
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)

    def end_all(self) -> None:
        children: dict[int, list[int]] = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit() and (parent := _parent(entry)):
                children.setdefault(parent, []).append(int(entry))
        below = children.get(os.getpid(), [])
        for process in below:
            below.extend(children.get(process, ()))
        for process in below:
            # Stopped first, so that none can start another while the rest are being ended.
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGSTOP)
        for process in below:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


class Cgroup(Subreaper):
    """A control group of the worker's own, which the kernel ends as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self._home, self._group = _own_group()
        try:
            self.admit()
            self.admitted()
        except OSError as error:
            self.close()
            raise Refused(
                f"no process can be moved in the control group {self._home}: {error.strerror}"
            ) from None

    @property
    def path(self) -> str:
        """The directory of the group."""
        return self._group

    def admit(self) -> None:
        _write(self._group + "/cgroup.procs", "0")

    def admitted(self) -> None:
        _write(self._home + "/cgroup.procs", "0")

    def end_all(self) -> None:
        _write(self._group + "/cgroup.kill", "1")
        super().end_all()  # a program with the right to may have left the group

    def close(self) -> None:
        for _ in range(100):
            with suppress(OSError):
                os.rmdir(self._group)
                return
            time.sleep(0.01)  # the kernel lets go of a group a little after its last process


def keeper_for(level: str) -> Keeper:
    """Return the keeper of a level; ``Refused`` where this machine has none such."""
    if level == "cgroup":
        return Cgroup()
    return Subreaper() if level == "subreaper" else PidNamespace()


def _own_group() -> tuple[str, str]:
    """Make a group; return the directories of the worker's present one and of the new one."""
    try:
        with open("/proc/self/cgroup") as file:
            below = next(line[3:].strip() for line in file if line.startswith("0::"))
        home = next(
            top + below.rstrip("/") for top in _UNIFIED if os.path.exists(f"{top}{below}/cgroup.procs")
        )
    except (OSError, StopIteration):
        raise Refused("no cgroup v2 hierarchy is mounted") from None
    group = f"{home}/cogbuild-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        os.mkdir(group)
    except OSError as error:
        raise Refused(f"the control group {home} can't be divided: {error.strerror}") from None
    if not os.path.exists(group + "/cgroup.kill"):
        os.rmdir(group)
        raise Refused("the kernel has no cgroup.kill, which came with Linux 5.14")
    return home, group


def _parent(process: str) -> int | None:
    with suppress(OSError), open(f"/proc/{process}/stat", "rb") as file:
        # The name before the fields may hold anything, a closing parenthesis too.
        return int(file.read().rpartition(b")")[2].split()[1])
    return None


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
