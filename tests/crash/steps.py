"""Runs a command and stops it at every step it takes in storage: kills it there, or lets that step fail.

A step is a system call of the command's own process (all its threads; not of what it starts) that changes a file below
a directory, or that prints. The kernel stops the caller before the call is made (seccomp ``RET_TRACE`` and ptrace), so
all threads of a process share one count, calls made by SQLite's C code are seen too, and a program costs little more
than without.

A program of its own, because a tracer should have one thread and no other children::

    python steps.py '{"command": […], "root": "/data", "at": 17, "do": "kill", "report": "/tmp/report.json"}'
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import platform
import signal
import struct
import sys
import time
from dataclasses import dataclass, field
from typing import Any

# What may be done at a step.
KILL = "kill"  # the whole process, before the call
ERRORS = {
    "no space": errno.ENOSPC,
    "I/O error": errno.EIO,
}  # that call, and ("for good") all later ones like it
POWER_CUT = "power cut"  # the file system stops as it is on the disk, then the process is killed

_BY_DESCRIPTOR = {
    "write": 1,
    "pwrite64": 18,
    "writev": 20,
    "fsync": 74,
    "fdatasync": 75,
    "ftruncate": 77,
    "fchmod": 91,
    "fallocate": 285,
    "pwritev": 296,
}
_TO_DESCRIPTOR = {"sendfile": (40, 0), "copy_file_range": (326, 2)}  # number, which argument is written to
_BY_PATH = {  # number, argument of the directory's descriptor (None: the working directory), argument of the path
    "rename": (82, None, 1),
    "mkdir": (83, None, 0),
    "rmdir": (84, None, 0),
    "link": (86, None, 1),
    "unlink": (87, None, 0),
    "symlink": (88, None, 1),
    "chmod": (90, None, 0),
    "truncate": (76, None, 0),
    "openat": (257, 0, 1),  # where it may make a file
    "mkdirat": (258, 0, 1),
    "unlinkat": (263, 0, 1),
    "renameat": (264, 2, 3),
    "linkat": (265, 2, 3),
    "symlinkat": (266, 1, 2),
    "fchmodat": (268, 0, 1),
    "renameat2": (316, 2, 3),
}
_NAMES = {
    **{number: name for name, number in _BY_DESCRIPTOR.items()},
    **{number: name for name, (number, _) in _TO_DESCRIPTOR.items()},
    **{number: name for name, (number, _, _) in _BY_PATH.items()},
}
#: Steps that need room on the disk, as bytes or as an inode; a rename may need room in its directory.
NEED_ROOM = frozenset(
    {"write", "pwrite64", "writev", "pwritev", "fallocate", "sendfile", "copy_file_range", "openat", "mkdir"}
    | {"mkdirat", "link", "linkat", "symlink", "symlinkat", "rename", "renameat", "renameat2"}
)
SYNCS = frozenset({"fsync", "fdatasync"})

_STDOUT = "stdout"
_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN
_NO_LOG_FLUSH = 2
_PATIENCE = 10.0  # seconds that descendants have to end after the process has

_CONT, _LISTEN, _POKEUSER, _SEIZE, _GET_SYSCALL_INFO = 7, 0x4208, 6, 0x4206, 0x420E
_TRACE_FORK, _TRACE_VFORK, _TRACE_CLONE, _TRACE_SECCOMP, _EXIT_KILL = 2, 4, 8, 0x80, 0x100000
_EVENT_SECCOMP, _EVENT_STOP = 7, 128
_WALL = 0x40000000
_ORIG_RAX, _RAX = 15 * 8, 10 * 8

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def supported() -> str | None:
    """Return why steps can't be taken here, None where they can."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "ptrace: only x86_64 Linux is known here"
    return None


@dataclass
class Stepper:
    """One traced run."""

    command: list[str]
    root: str
    at: int = -1  # which step; -1: none
    do: str = KILL
    for_good: bool = False  # errors: every later step of the kind fails too
    only: frozenset[str] = frozenset()  # count these alone, and no printing; empty: all
    steps: list[str] = field(default_factory=list)
    _groups: dict[int, int] = field(default_factory=dict)
    _main: int = 0

    def run(self) -> dict[str, Any]:
        """Run the command to its end and that of all it started; return what happened."""
        self._main = self._start()
        status: int | None = None
        deadline = float("inf")
        while True:
            try:
                pid, now = os.waitpid(-1, _WALL | (os.WNOHANG if status is not None else 0))
            except ChildProcessError:
                left: list[str] = []
                break
            if pid == 0:
                if time.monotonic() > deadline:
                    left = self._kill_rest()
                    break
                time.sleep(0.002)
                continue
            if os.WIFSTOPPED(now):
                self._stopped(pid, now)
            else:
                self._groups.pop(pid, None)
                if pid == self._main:
                    status, deadline = now, time.monotonic() + _PATIENCE
        assert status is not None
        code = os.waitstatus_to_exitcode(status)
        return {"code": code, "steps": self.steps, "left": left}

    def _start(self) -> int:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(writer)
            os.read(reader, 1)  # until we are its tracer
            os.close(reader)
            _install_filter()
            os.execvp(self.command[0], self.command)
        os.close(reader)
        options = _TRACE_FORK | _TRACE_VFORK | _TRACE_CLONE | _TRACE_SECCOMP | _EXIT_KILL
        if _libc.ptrace(_SEIZE, pid, None, options) != 0:
            os.kill(pid, signal.SIGKILL)
            raise OSError(ctypes.get_errno(), "ptrace is refused")
        os.write(writer, b"x")
        os.close(writer)
        return pid

    def _stopped(self, pid: int, status: int) -> None:
        event, number = status >> 16, os.WSTOPSIG(status)
        if event == _EVENT_SECCOMP:
            self._step(pid)
            number = 0
        elif event == _EVENT_STOP:
            if number in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
                _libc.ptrace(_LISTEN, pid, None, None)
                return
            number = 0
        elif event:
            number = 0
        _libc.ptrace(_CONT, pid, None, number)

    def _step(self, pid: int) -> None:
        if self._group(pid) != self._main:
            return
        name, where = self._call(pid)
        if where is None or (self.only and (name not in self.only or where == _STDOUT)):
            return
        count = len(self.steps)
        self.steps.append(f"{name} {where}")
        if count == self.at or (self.for_good and 0 <= self.at < count):
            self._act(pid)

    def _act(self, pid: int) -> None:
        if self.do == POWER_CUT:
            fd = os.open(self.root, os.O_RDONLY)
            fcntl.ioctl(fd, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
            os.close(fd)
        if self.do in (KILL, POWER_CUT):
            os.kill(self._main, signal.SIGKILL)
            return
        _libc.ptrace(_POKEUSER, pid, _ORIG_RAX, ctypes.c_void_p(-1))
        _libc.ptrace(_POKEUSER, pid, _RAX, ctypes.c_void_p(-ERRORS[self.do]))

    def _group(self, pid: int) -> int:
        if pid not in self._groups:
            try:
                with open(f"/proc/{pid}/status") as file:
                    line = next(line for line in file if line.startswith("Tgid:"))
                self._groups[pid] = int(line.split()[1])
            except (OSError, StopIteration):
                return 0
        return self._groups[pid]

    def _call(self, pid: int) -> tuple[str, str | None]:
        """Return the call's name and the file that it changes, None where that is none of ours."""
        info = ctypes.create_string_buffer(128)
        _libc.ptrace(_GET_SYSCALL_INFO, pid, ctypes.c_void_p(len(info)), ctypes.addressof(info))
        number, *arguments = struct.unpack_from("=Q6Q", info.raw, 24)
        name = _NAMES[number]
        try:
            if name in _BY_PATH:
                _, directory, path = _BY_PATH[name]
                base = "cwd"
                if directory is not None and (fd := ctypes.c_int(arguments[directory]).value) >= 0:
                    base = f"fd/{fd}"
                where = os.path.join(os.readlink(f"/proc/{pid}/{base}"), _text(pid, arguments[path]))
            else:
                _, which = _TO_DESCRIPTOR.get(name, (0, 0))
                fd = arguments[which]
                if fd == 1 and name == "write":
                    return name, _STDOUT
                where = os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            return name, None
        inside = where == self.root or where.startswith(self.root + "/")
        return name, os.path.relpath(where, self.root) if inside else None

    def _kill_rest(self) -> list[str]:
        """End what should have ended by itself; return what it was."""
        left = []
        for pid in list(self._groups):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    left.append(file.read().replace(b"\0", b" ").decode(errors="replace"))
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
        return left or ["something that never took a step"]


def _text(pid: int, address: int) -> str:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        data = b""
        while b"\0" not in data and len(data) < 4096:
            data += memory.read(256)
    return os.fsdecode(data.partition(b"\0")[0])


# -- the filter ---------------------------------------------------------------------------------------------------


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _install_filter() -> None:
    """Have the kernel tell our tracer of the calls above; what is started later inherits that."""
    load, equal, masked, give = 0x20, 0x15, 0x45, 0x06
    trace, allow = 0x7FF00000, 0x7FFF0000
    openat, *numbers = sorted(_NAMES, key=lambda number: _NAMES[number] != "openat")
    count = len(numbers)
    rules = [
        (load, 0, 0, 0),  # the call's number
        *((equal, count + 3 - index, 0, number) for index, number in enumerate(numbers)),
        (equal, 0, 2, openat),
        (load, 0, 0, 16 + 2 * 8),  # its flags
        (masked, 1, 0, os.O_CREAT),
        (give, 0, 0, allow),
        (give, 0, 0, trace),
    ]
    code = b"".join(struct.pack("HBBI", *rule) for rule in rules)
    kept = ctypes.create_string_buffer(code)
    program = _Program(len(rules), ctypes.addressof(kept))
    if _libc.prctl(22, 2, ctypes.byref(program), 0, 0) != 0:
        _libc.prctl(38, 1, 0, 0, 0)  # no new privileges: what an ordinary user has to promise first
        if _libc.prctl(22, 2, ctypes.byref(program), 0, 0) != 0:
            os._exit(126)


def main() -> None:
    """Take the order from the command line and write the report."""
    order = json.loads(sys.argv[1])
    report = order.pop("report")
    order["only"] = frozenset(order.get("only", ()))
    result = Stepper(**order).run()
    with open(report, "w", encoding="utf-8") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main()
