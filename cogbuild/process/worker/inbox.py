"""What the pool has sent and the worker has not done yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cogbuild.process.wire import Order

if TYPE_CHECKING:
    from cogbuild.process.wire import Channel

__all__ = ["Cut", "Inbox"]


class Cut(Exception):
    """The other end of the channel is closed."""


class Inbox:
    """Orders, first come first served, and what is said of them meanwhile."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.stopped = False  # what runs is to end
        self._orders: list[tuple[Any, ...]] = []
        self._refused = 0  # orders that a stop came behind

    def next(self) -> Order:
        """Return the next order, once there is one; ``Cut`` where there will be none."""
        while True:
            while self._refused:
                self._refused -= 1
                self.channel.send("end", {"reason": "cancelled", "detail": "not started any more"})
            if self._orders:
                break
            self.hear()
        self.stopped = False
        return Order.unpacked(self._orders.pop(0))

    def hear(self) -> None:
        """Take what is said, once something is; ``Cut`` where nothing will be."""
        message = self.channel.receive()
        if message is None:
            raise Cut
        while message is not None:
            self._take(*message)
            message = self.channel.waiting()

    def _take(self, kind: str, *fields: Any) -> None:
        if kind == "run":
            self._orders.append(fields)
            return
        if kind == "back":
            self.channel.send("back", len(self._orders))
        else:
            self.stopped = True
            self._refused += len(self._orders)
        self._orders.clear()
