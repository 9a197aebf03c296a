"""What a command sees: an overlay over the model, and the directories that look empty to it.

Unmounting waits for every processor, and so does taking an overlay apart, which is longer than all the rest. So the
mounts of one run are not taken away but covered by those of the next: they lie at the same paths, one on the other, and
no command can lift one. After some runs, or when what was written takes room, the whole pile goes at once, and what it
was made of is taken apart by another thread.
"""

from __future__ import annotations

import _thread
import errno
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from cogbuild.process.tree import remove_tree
from cogbuild.process.wire import Order, ViewOrder
from cogbuild.process.worker import kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Stage", "StageFailed", "probe"]

_SAFE = kernel.MS_NOSUID | kernel.MS_NODEV
# What a mount inherited may be locked by the owner of the outer namespace and has to be named again.
_KEPT = (1, 2, 4, 8, 1024, 2048)
_ST_RELATIME = 4096
_PILE = 32
_MANY = 4
# What one run may leave in memory until the pile goes, in blocks of the memory file system (pages) and files.
_CRUMBS = 256


class StageFailed(Exception):
    """What was asked for can't be mounted here; the text says what was tried and why it failed."""

    def __init__(self, step: str, error: OSError, *, view: bool) -> None:
        super().__init__(f"{step}: {error.strerror}")
        self.errno = error.errno
        self.view = view  # a command without a view might still run


class Stage:
    """The mounts that a worker makes for its commands: ``set_up`` before each, ``strike`` after each."""

    def __init__(self, trash: bytes) -> None:
        self._trash = trash  # an existing directory; seen by no command, as it is covered only to unmount
        self._key: tuple[object, ...] = ()  # where the pile stands; another place needs another pile
        self._bottoms: dict[bytes, int] = {}  # the lowest mount at each such path
        self._hidden: dict[bytes, int] = {}  # what lies below the pile at each hidden path
        self._memory = -1  # what views write to: the lowest mount of the first pile
        self._height = 0
        self._views: list[int] = []  # each overlay of the pile; while it is open here, it is not taken apart
        self._disk: tuple[int, bytes] | None = None

    def set_up(self, order: Order) -> None:
        """Mount what *order* asks for; ``StageFailed`` where that is refused."""
        view, hide = order.view, order.hide
        if view is None and not hide:
            return
        places = hide if view is None or _below(view.root, hide) else (*hide, view.root)
        key = (places, view and view.memory_limit)
        if key != self._key or self._height >= _PILE:
            self.clear()
        self._key = key
        self._height += 1
        opened: list[int] = []
        try:
            self._mount(order, places, opened)
        except BaseException:
            self.clear()
            raise
        finally:
            for fd in opened:
                os.close(fd)

    def _mount(self, order: Order, places: tuple[bytes, ...], opened: list[int]) -> None:
        view, hide = order.view, order.hide
        # Opened before anything is hidden: what is shown may lie in a hidden directory, and so may the layers.
        with _step("opening what is shown", view=False):
            for path in hide:
                if path not in self._hidden:
                    self._hidden[path] = os.open(path, os.O_PATH | os.O_CLOEXEC)
            shown = [(path, self._kept(path, opened), True) for path in order.expose]
            shown += [(path, self._kept(path, opened), False) for path in order.writable]
            if view is None and _below(order.cwd, hide):
                shown.append((order.cwd, self._kept(order.cwd, opened), False))
        with _step("preparing the view", view=True):
            options = self._layers(view, places[0], opened) if view else b""
        with _step("hiding directories", view=False):
            self._hide(hide, shown)
        if view is not None:
            with _step("mounting the view", view=True):
                self._overlay(view.root, options, hidden=places is hide)
        with _step("hiding directories", view=False):
            for path in hide:
                kernel.mount(b"", path, b"", kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | _SAFE)

    def _hide(self, hide: tuple[bytes, ...], shown: list[tuple[bytes, int, bool]]) -> None:
        for path in hide:
            kernel.mount(b"tmpfs", path, b"tmpfs", _SAFE, b"size=1m,nr_inodes=4096,mode=755")
            self._pile_up(path)
        for path, source, readonly in shown:
            if _below(path, hide):
                _bind(source, path, readonly)

    def _overlay(self, root: bytes, options: bytes, *, hidden: bool) -> None:
        if hidden:
            os.makedirs(root, 0o755, exist_ok=True)
        kernel.mount(b"overlay", root, b"overlay", _SAFE, options)
        self._views.append(os.open(root, os.O_PATH | os.O_CLOEXEC))
        if not hidden:
            self._pile_up(root)

    def _kept(self, path: bytes, opened: list[int]) -> int:
        """Open what lies at *path* outside, also where the last run's mounts still cover it."""
        for top, below in self._hidden.items():
            if _below(path, (top,)):
                fd = os.open(path[len(top) :].strip(b"/") or b".", os.O_PATH | os.O_CLOEXEC, dir_fd=below)
                break
        else:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        opened.append(fd)
        return fd

    def _pile_up(self, path: bytes) -> None:
        if path not in self._bottoms:
            self._bottoms[path] = os.open(path, os.O_PATH | os.O_CLOEXEC)

    def _layers(self, view: ViewOrder, place: bytes, opened: list[int]) -> bytes:
        """Make the writable layer and return the options that mount it over the others."""
        layers = [_path(self._kept(path, opened)) for path in view.layers]
        extra = b""
        if view.disk is not None:
            parent = os.dup(self._kept(view.disk, opened))
            upper = b"%s/run-%s" % (_path(parent), os.urandom(8).hex().encode())
            self._disk = (parent, upper)
            extra = b",volatile"  # nothing of it is kept, so unmounting need not write it out
        else:
            if self._memory < 0:
                size = b"size=%d,nr_inodes=%d,mode=755" % (
                    view.memory_limit,
                    max(1024, view.memory_limit >> 12),
                )
                kernel.mount(b"tmpfs", place, b"tmpfs", _SAFE, size)
                self._pile_up(place)
                self._memory = self._bottoms[place]
            upper = b"%s/%d" % (_path(self._memory), self._height)
        os.mkdir(upper)
        os.mkdir(upper + b"/work")
        _write_upper(upper + b"/upper", layers, view.masked)
        options = b"lowerdir=%s,upperdir=%s/upper,workdir=%s/work,userxattr%s"
        return options % (b":".join(layers), upper, upper, extra)

    def strike(self) -> None:
        """See to it that the last run leaves no more than crumbs behind, all of them covered."""
        if self._disk is not None:
            self.clear()
        elif self._memory >= 0:
            room = os.statvfs(self._memory)
            if room.f_blocks - room.f_bfree > _CRUMBS or room.f_files - room.f_ffree > _CRUMBS:
                self.clear()

    def clear(self) -> None:
        """Unmount everything and throw away what was written."""
        if self._bottoms:
            # The pile is moved into one more mount, because what is unmounted by its path is the top of a pile.
            kernel.mount(b"tmpfs", self._trash, b"tmpfs", _SAFE, b"size=1m,mode=700")
            for number, bottom in enumerate(self._bottoms.values()):
                place = b"%s/%d" % (self._trash, number)
                os.mkdir(place)
                with suppress(OSError):  # removing the directory from outside unmounts too
                    kernel.mount(_path(bottom), place, b"", kernel.MS_MOVE)
                os.close(bottom)
            kernel.umount(self._trash)
        if self._height < _MANY:
            _close(self._views)
        else:
            _thread.start_new_thread(_close, (self._views,))
        if self._disk is not None:
            parent, upper = self._disk
            with suppress(OSError):  # whoever made the directory above removes it whole
                remove_tree(upper)
            os.close(parent)
        for fd in self._hidden.values():
            os.close(fd)
        self._key, self._bottoms, self._hidden, self._views, self._disk = (), {}, {}, [], None
        self._memory, self._height = -1, 0


def _close(views: list[int]) -> None:
    for view in views:
        os.close(view)


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
            if (mode := stat.S_IMODE(seen.st_mode) | 0o700) != 0o755:
                os.chmod(directory, mode)
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


def probe(at: bytes, trash: bytes) -> None:
    """Try below the existing directory *at* what a view needs; ``OSError`` where this machine does not give it.

    Replacing a directory needs extended attributes in the memory file system, which came later than the overlay.
    """
    stage = Stage(trash)
    kernel.mount(b"tmpfs", at, b"tmpfs", _SAFE, b"size=1m,mode=755")
    try:
        lower, root = at + b"/lower", at + b"/view"
        os.makedirs(lower + b"/old")
        os.mkdir(root)
        for name in (b"/masked", b"/old/file"):
            os.mknod(lower + name, stat.S_IFREG | 0o644)
        view = ViewOrder(root, (lower,), (b"masked",), None, 1 << 20)
        stage.set_up(Order((), {}, root, view, None, 0.0, (), (), (), 0))
        if os.path.lexists(root + b"/masked"):
            raise OSError(errno.ENOTSUP, "a whiteout is not honoured")
        os.unlink(root + b"/old/file")
        os.rmdir(root + b"/old")
        os.mkdir(root + b"/old")
        if os.listdir(root + b"/old"):
            raise OSError(errno.ENOTSUP, "a replaced directory shows what it held before")
    except StageFailed as failure:
        raise OSError(failure.errno, str(failure)) from None
    finally:
        stage.clear()
        kernel.umount(at)
