"""The worker's life: prepare, say so, then one command after the other until the pool is gone."""

from __future__ import annotations

import gc
import os
import signal
from contextlib import suppress
from socket import socket

from cogbuild.process.wire import Channel
from cogbuild.process.worker import space
from cogbuild.process.worker.inbox import Cut, Inbox
from cogbuild.process.worker.keepers import Cgroup, Keeper, keeper_for
from cogbuild.process.worker.memory import OomCounter
from cogbuild.process.worker.run import perform

__all__ = ["main"]


def main(end: int, level: str) -> None:
    """Serve the pool at the other end of the socket *end*."""
    _settle(end)
    channel = Channel(socket(fileno=end))
    # All writes of this thread to a socket that is gone are errors, not signals: Python ignores SIGPIPE.
    with suppress(Cut, ConnectionError):
        try:
            keeper, own = _prepare(end, level)
        except space.Refused as refusal:
            channel.send("refused", str(refusal))
            return
        try:
            channel.send("ready", own.notes, keeper.path if isinstance(keeper, Cgroup) else "")
            _serve(channel, keeper, own)
        except Exception as error:
            channel.send("crash", f"{type(error).__name__}: {error}")
            raise
        finally:
            keeper.close()


def _settle(end: int) -> None:
    # Programs get no descriptor but their three: ours are close-on-exec, and what we were given is closed.
    os.set_inheritable(end, False)
    for fd in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):  # the listing's own is closed already
            if fd > 2 and os.get_inheritable(fd):
                os.close(fd)
    os.umask(0o022)
    # A command may signal the first process of its namespace, and there it is heard where a handler is set.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _prepare(end: int, level: str) -> tuple[Keeper, space.Space]:
    own = space.enter(end) if level == "namespaces" else space.Space()
    keeper = keeper_for(level)
    space.give_up_privileges(namespaced=level == "namespaces")
    return keeper, own


def _serve(channel: Channel, keeper: Keeper, own: space.Space) -> None:
    oom = OomCounter()
    gc.collect()
    gc.freeze()
    inbox = Inbox(channel)
    while True:
        order = inbox.next()
        result = perform(order, inbox, keeper, oom, own.stage)
        if order.view is not None and order.view.disk is not None:
            own.stage.strike()  # whoever owns that directory may want to remove it at once
        channel.send("end", result)
        own.stage.strike()
