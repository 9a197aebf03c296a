"""Messages between a pool and its workers: tuples, each marshalled behind its length.

Both ends are the same interpreter, and no adapter gets hold of the socket, so the format needs no version and marshal
is safe. Workers import this module: it stays light.
"""

from __future__ import annotations

import marshal
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from socket import socket

__all__ = ["CHUNK", "Channel", "Order", "ViewOrder"]

#: How much is read from a pipe or socket at once; a larger buffer would be mapped and unmapped by malloc each time.
CHUNK = 64 << 10


class ViewOrder(NamedTuple):
    """A view as the worker gets it."""

    root: bytes
    layers: tuple[bytes, ...]
    masked: tuple[bytes, ...]
    disk: bytes | None
    memory_limit: int
    sealed: bool


class Order(NamedTuple):
    """A command as the worker gets it."""

    argv: tuple[bytes, ...]
    env: dict[bytes, bytes]
    cwd: bytes
    view: ViewOrder | None
    timeout: float | None
    grace: float
    hide: tuple[bytes, ...]
    expose: tuple[bytes, ...]
    writable: tuple[bytes, ...]
    stdout_limit: int

    def packed(self) -> tuple[Any, ...]:
        """Return the order as plain tuples, which is all that marshal takes."""
        return (*self[:3], self.view and tuple(self.view), *self[4:])

    @classmethod
    def unpacked(cls, fields: tuple[Any, ...]) -> Order:
        """Return the order that was packed into *fields*."""
        argv, env, cwd, view, *rest = fields
        return cls(argv, env, cwd, view and ViewOrder(*view), *rest)


class Channel:
    """One end of the socket; every call either moves a whole message or fails."""

    def __init__(self, end: socket) -> None:
        self.socket = end
        self._buffer = b""

    def send(self, *message: Any) -> None:
        """Send one message; ``OSError`` where the other end is gone."""
        data = marshal.dumps(message)
        self.socket.sendall(len(data).to_bytes(4, "little") + data)

    def receive(self) -> tuple[Any, ...] | None:
        """Return the next message, or None once the other end is gone."""
        while (message := self.waiting()) is None:
            try:
                chunk = self.socket.recv(CHUNK)
            except ConnectionError:
                return None
            if not chunk:
                return None
            self._buffer += chunk
        return message

    def waiting(self) -> tuple[Any, ...] | None:
        """Return the next message if it has already been read from the socket."""
        end = 4 + int.from_bytes(self._buffer[:4], "little")
        if len(self._buffer) < max(end, 5):
            return None
        data, self._buffer = self._buffer[4:end], self._buffer[end:]
        message: tuple[Any, ...] = marshal.loads(data)  # noqa: S302  (see the module's text)
        return message

    def close(self) -> None:
        """Close this end; the other one sees that."""
        self.socket.close()
