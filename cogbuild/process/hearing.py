"""What one command says until it has ended: where its words go, and the value that is left of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cogbuild.process.lines import Lines
from cogbuild.process.values import Ended, Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from cogbuild.process.masking import Mask, Masked
    from cogbuild.process.values import Sink

__all__ = ["Hearing", "Log"]


class Hearing:
    """Takes the messages that a worker sends of one command.

    *log* gets stderr as it comes, *on_line* its lines, both up to *limit* bytes. What *mask* knows is in nothing that is
    given to them, nor in how the command ended.
    """

    def __init__(
        self,
        log: Sink | None,
        limit: int,
        on_line: Callable[[bytes], None] | None = None,
        mask: Mask | None = None,
    ) -> None:
        self._log = Log(log, limit, on_line)
        self._lines = Lines(on_line)
        self._mask = mask
        self._stream: Masked | None = None
        self._size = 0
        if mask is not None:
            from cogbuild.process.masking import Masked

            self._stream = Masked(mask)

    def take(self, message: tuple[Any, ...]) -> Ended | None:
        """Take one message; return how the command ended where it says that."""
        match message:
            case ("log", bytes(data)):
                self._size += len(data)
                self._say(data if self._stream is None else self._stream.feed(data))
                return None
            case ("end", dict(fields)):
                return self._ended(fields)
            case _:
                return self.lost(f"its worker gave up: {message[-1]}")

    def lost(self, detail: str) -> Ended:
        """Return the end of a command whose worker is gone."""
        return self._ended({"reason": Reason.LOST, "detail": detail})

    def _say(self, data: bytes) -> None:
        if not self._log.write(data):
            self._lines.hush()
        self._lines.feed(data)

    def _ended(self, fields: dict[str, Any]) -> Ended:
        if self._stream is not None:
            self._say(self._stream.close())
        self._lines.close()
        if self._mask is not None and "stdout" in fields:
            # Of a stdout that was cut, the end may be a part of what is not to be seen.
            stdout: bytes = fields["stdout"]
            masked = self._mask.split(stdout)[0] if fields["stdout_cut"] else self._mask.data(stdout)
            fields["stdout"] = masked
        fields["reason"] = Reason(fields["reason"])
        return Ended(last_line=self._lines.last, log_bytes=self._size, **fields)


class Log:
    """Where stderr and its lines go, up to a limit; past it one line says so, and nobody hears more."""

    def __init__(self, file: Sink | None, limit: int, on_line: Callable[[bytes], None] | None = None) -> None:
        self._file = file
        self._left = limit
        self._limit = limit
        self._on_line = on_line

    def write(self, data: bytes) -> bool:
        """Write what there is still room for; return whether the lines of *data* are to be heard."""
        if self._file is None:
            return True
        if self._left < 0:
            return False
        self._file.write(data[: self._left])
        self._left -= len(data)
        if self._left < 0:
            said = b"[cogbuild] cut here: the log reached its limit of %d bytes" % self._limit
            self._file.write(b"\n" + said + b"\n")
            if self._on_line is not None:
                self._on_line(said)
        return self._left >= 0
