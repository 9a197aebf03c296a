"""Locks → directories with a Python and its packages, each made once.

    envs/<20 digits of the lock's digest>    a whole environment
    envs/.making-<the same>-…                one that is being made, or was when its maker died
    envs/.removing-<the same>-…              one that is being removed, or was
    envs/.locks/0 … f                        held while environments whose name begins so are made or removed

An environment is made beside its place and renamed into it, so a half-made one is never seen, and a uv that outlives
its killed cogbuild writes where nobody looks. ``uv venv --relocatable`` is what makes the rename right: scripts in
``bin/`` find their interpreter beside themselves. (A mark of completeness in the final place would not do: that
orphaned uv would write into the environment which the next cogbuild makes there.)
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cogbuild.environment import tool
from cogbuild.errors.environments import EnvironmentNotMade, PackagesOutOfReach
from cogbuild.errors.state import DiskTrouble, ReadOnlyData

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cogbuild.environment.locks import Lock
    from cogbuild.environment.python import Python
    from cogbuild.process import Captured

__all__ = ["Environment", "activate", "list_environments", "realise", "remove", "sweep"]

_NAME_DIGITS = 20
_NAME = re.compile(rf"[0-9a-f]{{{_NAME_DIGITS}}}")
_LEFTOVER = re.compile(r"\.(making|removing)-([0-9a-f])")
_USED = ".last-used"
_DAY = 86_400.0


class Environment(NamedTuple):
    """A realised environment."""

    digest_prefix: str
    path: Path
    size: int  # bytes of its files; those that uv's cache shares with it are counted too
    last_used: float  # time of the epoch, true to a day


def realise(
    lock: Lock,
    python: Python,
    envs: Path,
    *,
    options: Sequence[str] = (),
    on_line: Callable[[bytes], None] | None = None,
) -> Path:
    """Return the environment of *lock* under *envs*, made by the first who asks for it.

    *options* say where to look for packages, as in ``Request``; the lock says which.

    Where it is there already, this costs two or three system calls. Threads and processes that ask at once wait for
    the one that makes it; when that one dies, the next makes it.
    """
    if python.version != lock.python:
        raise ValueError(f"a lock for Python {lock.python} can't be realised with {python.version}")
    name = lock.digest[:_NAME_DIGITS]
    envs = Path(os.path.abspath(envs))  # uv does not run where we do
    place = envs / name
    if _usable(place):
        return place
    with _writing(envs), _held(envs, name, on_line):
        if not _usable(place):
            _sweep(envs, name[0])
            _make(lock, python, place, options, on_line)
    return place


def activate(env_dir: Path, base: Mapping[str, str]) -> dict[str, str]:
    """Return *base* as a process in the environment is to see it; ``python3`` is then the environment's."""
    env = {name: value for name, value in base.items() if name not in ("PYTHONHOME", "PYTHONPATH")}
    env["VIRTUAL_ENV"] = str(env_dir)
    env["PATH"] = os.pathsep.join((str(env_dir / "bin"), base.get("PATH") or os.defpath))
    return env


def list_environments(envs: Path) -> list[Environment]:
    """Return every whole environment under *envs*, by name."""
    try:
        names = sorted(name for name in os.listdir(envs) if _NAME.fullmatch(name))
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        with contextlib.suppress(FileNotFoundError):  # removed by another process while we looked
            used = os.stat(envs / name / _USED).st_mtime
            found.append(Environment(name, envs / name, _size(envs / name), used))
    return found


def remove(path: Path) -> bool:
    """Remove an environment that nobody uses; False where one of its neighbours, or itself, is being made just now."""
    with _writing(path.parent), _tried(path.parent, path.name) as held:
        if held:
            _remove(path)
        return held


def sweep(envs: Path) -> None:
    """Remove what makers and removers that died left under *envs*; those at work are left alone."""
    for digit in "0123456789abcdef" if envs.is_dir() else "":
        with _writing(envs), _tried(envs, digit) as held:
            if held:
                _sweep(envs, digit)


def _usable(place: Path) -> bool:
    """Whether the environment is there with its interpreter, which may have been uninstalled; notes the use."""
    try:
        os.stat(place / "bin" / "python")
        used = os.stat(place / _USED).st_mtime
    except OSError:
        return False
    if abs(time.time() - used) > _DAY:
        with contextlib.suppress(OSError):  # a data directory that is read-only can still be used
            os.utime(place / _USED)
    return True


def _make(
    lock: Lock, python: Python, place: Path, options: Sequence[str], on_line: Callable[[bytes], None] | None
) -> None:
    count = sum(not line.startswith(" ") for line in lock.text.splitlines())
    tool.tell(on_line, f"making environment {place.name}: Python {lock.python}, {count} packages")
    making = _aside(place, "making")
    try:
        venv = ("venv", "--no-project", "--relocatable", f"--python={python.path}")
        _check(tool.run(*venv, "--prompt=cogbuild", "--quiet", making), place)
        if lock.text:
            pins = making / "lock.txt"
            pins.write_text("".join(f"{option}\n" for option in options) + lock.text, "utf-8")
            _install(pins, making, place, on_line)
            pins.write_text(lock.text, "utf-8")  # an option may hold a password
        (making / _USED).touch()
        if place.exists():  # its interpreter is gone
            _remove(place)
        os.rename(making, place)
    finally:
        _delete(making)


def _install(pins: Path, making: Path, place: Path, on_line: Callable[[bytes], None] | None) -> None:
    sync = ("pip", "sync", f"--python={making / 'bin' / 'python'}", *tool.index_options())
    # Versions and hashes are fixed, so what the cache holds is as good as what the network holds.
    ended = tool.run(*sync, pins, "--offline")
    if ended.code == 0:
        tool.tell(on_line, ended.stderr)
    else:
        _check(tool.run(*sync, pins, on_line=on_line), place)


def _check(ended: Captured, place: Path) -> None:
    if ended.code == 0:
        return
    if tool.out_of_reach(ended):
        raise PackagesOutOfReach(asked_by=f"environment {place.name}", uv_says=tool.said(ended))
    raise EnvironmentNotMade(environment=place.name, uv_says=tool.said(ended))


def _aside(place: Path, what: str) -> Path:
    return place.with_name(f".{what}-{place.name}-{os.urandom(4).hex()}")


def _remove(path: Path) -> None:
    # Renamed first, so that nobody ever finds half of it.
    aside = _aside(path, "removing")
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, aside)
    _delete(aside)


def _sweep(envs: Path, digit: str) -> None:
    # Before: the lock of *digit* is held, so no maker of these is alive; a uv that it left behind may still write.
    for name in os.listdir(envs):
        found = _LEFTOVER.match(name)
        if found and found[2] == digit:
            _delete(envs / name)


def _delete(directory: Path) -> None:
    from shutil import rmtree

    rmtree(
        directory, ignore_errors=True
    )  # an orphaned uv may still write there; the next sweep takes the rest


def _size(directory: Path) -> int:
    total = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                total += _size(Path(entry.path))
            else:
                total += entry.stat(follow_symlinks=False).st_size
    return total


@contextlib.contextmanager
def _writing(envs: Path) -> Iterator[None]:
    try:
        yield
    except OSError as trouble:
        refused = trouble.errno in (errno.EROFS, errno.EACCES, errno.EPERM)
        raise (ReadOnlyData if refused else DiskTrouble)(path=envs, reason=trouble.strerror) from trouble


@contextlib.contextmanager
def _held(envs: Path, name: str, on_line: Callable[[bytes], None] | None) -> Iterator[None]:
    import fcntl

    with _opened(envs, name) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tool.tell(on_line, "waiting for an environment that is being made")
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # closing is not enough where a fork has a copy of the file


@contextlib.contextmanager
def _tried(envs: Path, name: str) -> Iterator[bool]:
    import fcntl

    with _opened(envs, name) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)


@contextlib.contextmanager
def _opened(envs: Path, name: str) -> Iterator[int]:
    # Sixteen files for ever, neither one for all (a small environment would wait for a large one) nor one each.
    locks = envs / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    lock = os.open(locks / name[0], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield lock
    finally:
        os.close(lock)
