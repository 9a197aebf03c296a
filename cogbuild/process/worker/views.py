"""What a command sees: an overlay over the model, and the directories that look empty to it."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from cogbuild.process.tree import remove_tree
from cogbuild.process.worker import kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cogbuild.process.wire import Order, ViewOrder

__all__ = ["Stage", "StageFailed", "probe"]

_SAFE = kernel.MS_NOSUID | kernel.MS_NODEV
# What a mount inherited may be locked by the owner of the outer namespace and has to be named again.
_KEPT = (1, 2, 4, 8, 1024, 2048)
_ST_RELATIME = 4096


class StageFailed(Exception):  # noqa: N818  (on its way to the caller as a value)
    """What was asked for can't be mounted here; the text says what was tried and why it failed."""

    def __init__(self, step: str, error: OSError, *, view: bool) -> None:
        super().__init__(f"{step}: {error.strerror}")
        self.errno = error.errno
        self.view = view  # a command without a view might still run


class Stage:
    """The mounts of one run, made by ``set_up`` and gone after ``strike``."""

    def __init__(self) -> None:
        self._outermost: list[
            int
        ] = []  # what to unmount: a descriptor of the root of each mount that is in no other
        self._open: list[int] = []
        self._disk: tuple[int, str] | None = None

    def set_up(self, order: Order) -> None:
        """Mount what *order* asks for; ``StageFailed`` where that is refused."""
        view = order.view
        # Opened before anything is hidden: what is shown may lie in a hidden directory, and so may the layers.
        with _step("opening what is shown", view=False):
            shown = [(path, self._fd(path), True) for path in order.expose]
            shown += [(path, self._fd(path), False) for path in order.writable]
            if view is None and _below(order.cwd, order.hide):
                shown.append((order.cwd, self._fd(order.cwd), False))
        with _step("opening the layers of the view", view=True):
            layers = [self._fd(path) for path in view.layers] if view else []
            disk = self._fd(view.disk) if view and view.disk is not None else None
        with _step("hiding directories", view=False):
            for path in order.hide:
                root = self._tmpfs(path, b"size=1m,nr_inodes=4096,mode=755")
                self._outermost.append(root)
            for path, source, readonly in shown:
                if _below(path, order.hide):
                    _bind(source, path, readonly)
        if view is not None:
            with _step("mounting the view", view=True):
                root = self._overlay(view, layers, disk)
                if not _below(view.root, order.hide):
                    self._outermost.append(root)
        for path in order.hide:
            with _step("hiding directories", view=False):
                kernel.mount(b"", path, b"", kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | _SAFE)

    def strike(self) -> None:
        """Unmount everything and throw away what was written."""
        for root in self._outermost:
            with suppress(OSError):  # removing the directory from outside unmounts too
                kernel.umount(_path(root))
        if self._disk is not None:
            parent, name = self._disk
            with suppress(OSError):  # whoever made the parent directory removes it whole
                remove_tree(_path(parent) + b"/" + os.fsencode(name))
        for fd in self._open:
            os.close(fd)
        self._outermost, self._open, self._disk = [], [], None

    def _fd(self, path: bytes) -> int:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        self._open.append(fd)
        return fd

    def _tmpfs(self, at: bytes, options: bytes) -> int:
        kernel.mount(b"tmpfs", at, b"tmpfs", _SAFE, options)
        return self._fd(at)

    def _overlay(self, view: ViewOrder, layers: list[int], disk: int | None) -> int:
        """Mount the view and return a descriptor of the outermost mount it is made of."""
        os.makedirs(view.root, 0o755, exist_ok=True)  # hidden, it is not there yet
        options = b""
        if disk is None:
            # The overlay comes to lie on top of the memory that it writes to, so that no one sees that.
            inodes = max(1024, view.memory_limit >> 12)
            base = self._tmpfs(view.root, b"size=%d,nr_inodes=%d,mode=755" % (view.memory_limit, inodes))
        else:
            name = "run-" + os.urandom(8).hex()
            os.mkdir(name, dir_fd=disk)
            self._disk = (disk, name)
            base = self._fd(_path(disk) + b"/" + os.fsencode(name))
            options = b",volatile"  # nothing of it is kept, so unmounting need not write it out
        os.mkdir("work", dir_fd=base)
        below = [_path(fd) for fd in layers]
        _write_upper(_path(base) + b"/upper", below, view.masked)
        data = b"lowerdir=%s,upperdir=%s/upper,workdir=%s/work,userxattr%s"
        data %= (b":".join(below), _path(base), _path(base), options)
        kernel.mount(b"overlay", view.root, b"overlay", _SAFE, data)
        return base if disk is None else self._fd(view.root)


@contextmanager
def _step(name: str, *, view: bool) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f" ({os.fsdecode(error.filename)})" if error.filename else ""
        raise StageFailed(name + where, error, view=view) from None


def _write_upper(upper: bytes, layers: list[bytes], masked: tuple[bytes, ...]) -> None:
    """Make the writable layer: it looks like the model's root, and a whiteout stands for each masked path."""
    os.mkdir(upper)
    made = [b""]
    for path in masked:
        if _whited_parents(upper, layers, path.rpartition(b"/")[0], made):
            os.mknod(upper + b"/" + path, stat.S_IFCHR, 0)
    for directory in reversed(made):
        _dress(upper + directory, [layer + directory for layer in layers])


def _whited_parents(upper: bytes, layers: list[bytes], parent: bytes, made: list[bytes]) -> bool:
    """Make the directories above a whiteout; False where the model has none such."""
    done = b""
    for part in parent.split(b"/") if parent else ():
        done += b"/" + part
        if done in made:
            continue
        if os.path.lexists(upper + done) or not any(os.path.isdir(layer + done) for layer in layers):
            return False  # masked already, or not there at all
        os.mkdir(upper + done)
        made.append(done)
    return True


def _dress(directory: bytes, layers: list[bytes]) -> None:
    # A merged directory shows the topmost layer's attributes; writable for its owner, as all of a view is.
    for layer in layers:
        with suppress(FileNotFoundError, NotADirectoryError):
            seen = os.stat(layer + b"/.")
            os.chmod(directory, stat.S_IMODE(seen.st_mode) | 0o700)
            os.utime(directory, ns=(seen.st_atime_ns, seen.st_mtime_ns))
            return


def _bind(source: int, target: bytes, readonly: bool) -> None:
    """Show what *source* is open on at *target*, which is made."""
    if stat.S_ISDIR(os.fstat(source).st_mode):
        os.makedirs(target, 0o755, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), 0o755, exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    kernel.mount(_path(source), target, b"", kernel.MS_BIND | kernel.MS_REC)
    if readonly:
        seen = os.statvfs(target).f_flag
        kept = sum(flag for flag in _KEPT if seen & flag) | (kernel.MS_RELATIME if seen & _ST_RELATIME else 0)
        kernel.mount(b"", target, b"", kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | kept)


def _below(path: bytes, hidden: tuple[bytes, ...]) -> bool:
    return any(path == top or path.startswith(top.rstrip(b"/") + b"/") for top in hidden)


def _path(fd: int) -> bytes:
    # The way to a mount or layer whatever its name holds (an overlay's options have no safe form for every name) and
    # whatever has been mounted over it since.
    return b"/proc/self/fd/%d" % fd


def probe(at: bytes) -> None:
    """Try on the existing directory *at* what a view needs; ``OSError`` where this machine does not give it.

    Replacing a directory needs extended attributes in the memory file system, which came later than the overlay.
    """
    root = b""
    kernel.mount(b"tmpfs", at, b"tmpfs", _SAFE, b"size=1m,mode=755")
    try:
        for name in (b"/lower", b"/lower/old", b"/upper", b"/work", b"/view"):
            os.mkdir(at + name)
        for name in (b"/lower/file", b"/lower/old/file"):
            os.mknod(at + name, stat.S_IFREG | 0o644)
        os.mknod(at + b"/upper/file", stat.S_IFCHR, 0)
        root = at + b"/view"
        os.chdir(at)
        data = b"lowerdir=lower,upperdir=upper,workdir=work,userxattr"
        kernel.mount(b"overlay", root, b"overlay", _SAFE, data)
        if os.path.lexists(root + b"/file"):
            raise OSError(0, "a whiteout is not honoured")
        os.unlink(root + b"/old/file")
        os.rmdir(root + b"/old")
        os.mkdir(root + b"/old")
        if os.listdir(root + b"/old"):
            raise OSError(0, "a replaced directory shows what it held before")
    finally:
        os.chdir("/")
        kernel.umount(at)
