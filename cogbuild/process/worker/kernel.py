"""The system calls that Python 3.11 does not offer."""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_RELATIME = 1 << 21
MNT_DETACH = 2

#: What every mount of ours has.
SAFE = MS_NOSUID | MS_NODEV

PR_SET_PDEATHSIG = 1
PR_CAPBSET_DROP = 24
PR_SET_SECUREBITS = 28
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

# SECBIT_NOROOT and its lock: user 0 gets no capabilities by executing something.
SECBIT_NOROOT_LOCKED = 3

_LIBC = ctypes.CDLL(None, use_errno=True)
_BYTES = ctypes.c_char_p
_LIBC.mount.argtypes = (_BYTES, _BYTES, _BYTES, ctypes.c_ulong, _BYTES)
_LIBC.umount2.argtypes = (_BYTES, ctypes.c_int)
_LIBC.unshare.argtypes = (ctypes.c_int,)
_LIBC.prctl.argtypes = (ctypes.c_int,) + (ctypes.c_ulong,) * 4


def _checked(result: int) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def unshare(flags: int) -> None:
    """Leave the shared namespaces that *flags* name."""
    _checked(_LIBC.unshare(flags))


def mount(source: bytes, target: bytes, kind: bytes, flags: int, data: bytes = b"") -> None:
    """Mount *source* at *target*."""
    _checked(_LIBC.mount(source, target, kind, flags, data))


def umount(target: bytes) -> None:
    """Take what is mounted at *target*, and all on top of it, out of sight at once."""
    _checked(_LIBC.umount2(target, MNT_DETACH))


def prctl(option: int, value: int) -> None:
    """Set one attribute of this process."""
    _checked(_LIBC.prctl(option, value, 0, 0, 0))


def path_of(fd: int) -> bytes:
    """Return a path to what *fd* is open on.

    It leads there whatever the name holds (an overlay's options have no safe form for every name) and whatever has
    been mounted over it since.
    """
    return b"/proc/self/fd/%d" % fd
