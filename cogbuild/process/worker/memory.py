"""Whether the kernel has killed a process for want of memory: its counters, looked at before and after."""

from __future__ import annotations

import os
from contextlib import suppress

__all__ = ["OomCounter"]

_V1 = "/sys/fs/cgroup/memory"
_V2 = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")


class OomCounter:
    """The kills that the kernel counts in our own control group; in the whole machine where no group counts them.

    The kernel counts a kill in the victim's group whatever ran out; what the machine counts may be somebody else's.
    """

    def __init__(self) -> None:
        self._files = [path for path in _group_files() if _counted(path)] or ["/proc/vmstat"]
        self._seen = self._read()

    def mark(self) -> None:
        """Count from here."""
        self._seen = self._read()

    def moved(self) -> bool:
        """Whether there was a kill since the last mark or call."""
        before, self._seen = self._seen, self._read()
        return self._seen != before

    def _read(self) -> list[bytes]:
        return [_counted(path) for path in self._files]


def _counted(path: str) -> bytes:
    with suppress(OSError), open(path, "rb") as file:
        for line in file.read().splitlines():
            if line.startswith(b"oom_kill "):
                return line
    return b""


def _group_files() -> list[str]:
    files = []
    with suppress(OSError), open("/proc/self/cgroup") as file:
        for line in file:
            _, controllers, below = line.rstrip("\n").split(":", 2)
            if not controllers:
                files += [f"{top}{below}/memory.events" for top in _V2]
            elif "memory" in controllers.split(","):
                files.append(f"{_V1}{below}/memory.oom_control")
    return [path for path in files if os.path.exists(path)]
