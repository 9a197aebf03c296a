"""What a command sees: an overlay over the model, and the directories that look empty to it.

Unmounting waits for every processor, and so does taking an overlay apart, which is longer than all the rest. So the
mounts of one run are not taken away but covered by those of the next: they lie at the same paths, one on the other, and
no command can lift one. After some runs, or when what was written takes room, the whole pile goes at once, and what it
was made of is taken apart by another thread. Sealed models share one overlay over the directory that holds them, of
which each run sees its own model; the first run that writes anything is the last to share it.
"""

from __future__ import annotations

import _thread
import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from cogbuild.process.tree import remove_tree
from cogbuild.process.wire import Order, ViewOrder
from cogbuild.process.worker import kernel
from cogbuild.process.worker.curtain import Curtain

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Stage", "StageFailed", "probe"]

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
        self._reset()

    def _reset(self) -> None:
        self._key: tuple[object, ...] = ()  # what the pile was begun for; anything else needs another pile
        self._height = 0  # how many runs are in it
        self._bottoms: dict[bytes, int] = {}  # the lowest mount at each path where it stands
        self._curtains: list[Curtain] = []
        self._memory = -1  # the file system that views write to
        self._views: list[int] = []  # each overlay of the pile; while it is open here, it is not taken apart
        self._shared: tuple[int, bytes] | None = (
            None  # an overlay over many sealed models, and its upper layer
        )
        self._disk: tuple[int, bytes] | None = None

    def set_up(self, order: Order) -> None:
        """Mount what *order* asks for; ``StageFailed`` where that is refused."""
        view = order.view
        if view is None and not order.hide:
            return
        parent = os.path.dirname(view.layers[0]) if view and _shareable(view) else None
        key = (order.hide, view and (view.root, view.memory_limit, view.disk, parent))
        if key != self._key or self._height >= _PILE:
            self.clear()
        self._key = key
        self._height += 1
        try:
            if self._height == 1:
                self._begin(order, parent)
            with _Step("showing what lies in a hidden directory", view=False):
                self._show(order)
            if view is not None:
                with _Step("mounting the view", view=True):
                    self._mount(view)
        except BaseException:
            self.clear()
            raise

    def _begin(self, order: Order, parent: bytes | None) -> None:
        """Mount what serves several runs; the first curtain, or the view, comes to cover what none may see."""
        view = order.view
        with _Step("hiding a directory", view=False):
            for path in order.hide:
                self._curtains.append(Curtain(path))
        if view is not None and view.disk is None:
            with _Step("preparing the view", view=True):
                place = order.hide[0] if order.hide else view.root
                size = b"size=%d,nr_inodes=%d,mode=755" % (
                    view.memory_limit,
                    max(1024, view.memory_limit >> 12),
                )
                kernel.mount(b"tmpfs", place, b"tmpfs", kernel.SAFE, size)
                self._memory = self._pile_up(place)
                if parent is not None:
                    upper = self._upper(view)
                    self._overlay(place, (parent,), upper, ())
                    self._shared = self._views[-1], upper + b"/upper"
        with _Step("hiding a directory", view=False):
            for curtain in self._curtains:
                curtain.draw()
                self._pile_up(curtain.path)

    def _show(self, order: Order) -> None:
        wanted = [(path, True) for path in order.expose] + [(path, False) for path in order.writable]
        if order.view is None:
            wanted.append((order.cwd, False))
        for curtain in self._curtains:
            curtain.show([item for item in wanted if curtain.covers(item[0])])

    def _mount(self, view: ViewOrder) -> None:
        for curtain in self._curtains:
            if curtain.covers(view.root):
                curtain.make(view.root)
        if self._shared is None:
            self._overlay(view.root, view.layers, self._upper(view), view.masked)
        else:
            name = os.path.basename(view.layers[0])
            model = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._shared[0])
            try:
                kernel.mount(kernel.path_of(model), view.root, b"", kernel.MS_BIND)
            finally:
                os.close(model)
        if not any(curtain.covers(view.root) for curtain in self._curtains):
            self._pile_up(view.root)

    def _pile_up(self, path: bytes) -> int:
        if path not in self._bottoms:
            self._bottoms[path] = os.open(path, os.O_PATH | os.O_CLOEXEC)
        return self._bottoms[path]

    def _behind(self, path: bytes) -> int:
        for curtain in self._curtains:
            if curtain.covers(path):
                return curtain.behind(path)
        return os.open(path, os.O_PATH | os.O_CLOEXEC)

    def _upper(self, view: ViewOrder) -> bytes:
        """Make a directory that holds a writable layer."""
        if view.disk is None:
            upper = b"%s/%d-%d" % (kernel.path_of(self._memory), self._height, len(self._views))
        else:
            disk = self._behind(view.disk)
            upper = b"%s/run-%s" % (kernel.path_of(disk), os.urandom(8).hex().encode())
            self._disk = (disk, upper)
        os.mkdir(upper)
        return upper

    def _overlay(self, at: bytes, layers: tuple[bytes, ...], upper: bytes, masked: tuple[bytes, ...]) -> None:
        opened: list[int] = []
        try:
            opened += (self._behind(path) for path in layers)
            lower = [kernel.path_of(fd) for fd in opened]
            os.mkdir(upper + b"/work")
            _write_upper(upper + b"/upper", lower, masked)
            options = b"lowerdir=%s,upperdir=%s/upper,workdir=%s/work,userxattr" % (
                b":".join(lower),
                upper,
                upper,
            )
            if self._disk is not None:
                options += b",volatile"  # nothing of it is kept, so unmounting need not write it out
            kernel.mount(b"overlay", at, b"overlay", kernel.SAFE, options)
            self._views.append(os.open(at, os.O_PATH | os.O_CLOEXEC))
        finally:
            for fd in opened:
                os.close(fd)

    def strike(self) -> None:
        """See to it that the last run leaves no more than crumbs behind, all of them covered."""
        if self._disk is not None or (self._shared is not None and os.listdir(self._shared[1])):
            self.clear()
        elif self._memory >= 0:
            room = os.statvfs(self._memory)
            if room.f_blocks - room.f_bfree > _CRUMBS or room.f_files - room.f_ffree > _CRUMBS:
                self.clear()

    def clear(self) -> None:
        """Unmount everything and throw away what was written."""
        for curtain in self._curtains:
            curtain.close()
        if self._bottoms:
            # The pile is moved into one more mount, because what is unmounted by its path is the top of a pile.
            kernel.mount(b"tmpfs", self._trash, b"tmpfs", kernel.SAFE, b"size=1m,mode=700")
            for number, bottom in enumerate(self._bottoms.values()):
                place = b"%s/%d" % (self._trash, number)
                os.mkdir(place)
                with suppress(OSError):  # removing the directory from outside unmounts too
                    kernel.mount(kernel.path_of(bottom), place, b"", kernel.MS_MOVE)
                os.close(bottom)
            kernel.umount(self._trash)
        if len(self._views) < _MANY:
            _close(self._views)
        else:
            _thread.start_new_thread(_close, (self._views,))
        if self._disk is not None:
            parent, upper = self._disk
            with suppress(OSError):  # whoever made the directory above removes it whole
                remove_tree(upper)
            os.close(parent)
        self._reset()


def _shareable(view: ViewOrder) -> bool:
    return view.sealed and view.disk is None and not view.masked and len(view.layers) == 1


def _close(views: list[int]) -> None:
    for view in views:
        os.close(view)


class _Step:
    """What is being done, for the message where that is refused."""

    def __init__(self, name: str, *, view: bool) -> None:
        self._name = name
        self._view = view

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            where = f" ({os.fsdecode(error.filename)})" if error.filename else ""
            raise StageFailed(self._name + where, error, view=self._view) from None


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


def probe(at: bytes, trash: bytes) -> None:
    """Try below the existing directory *at* what a view needs; ``OSError`` where this machine does not give it.

    Replacing a directory needs extended attributes in the memory file system, which came later than the overlay.
    """
    stage = Stage(trash)
    kernel.mount(b"tmpfs", at, b"tmpfs", kernel.SAFE, b"size=1m,mode=755")
    try:
        lower, root = at + b"/lower", at + b"/view"
        os.makedirs(lower + b"/old")
        os.mkdir(root)
        for name in (b"/masked", b"/old/file"):
            os.mknod(lower + name, stat.S_IFREG | 0o644)
        view = ViewOrder(root, (lower,), (b"masked",), None, 1 << 20, False)
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
