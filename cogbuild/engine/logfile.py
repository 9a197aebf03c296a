"""The log of one attempt: a file that is made when there is something to write."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import BinaryIO, Self

__all__ = ["LogFile"]


class LogFile:
    """A log at *path*, written without a buffer so that others can follow it."""

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None

    def write(self, data: bytes) -> None:
        """Append *data*."""
        if not data:
            return
        if self._file is None:
            self._file = open(self.path, "x+b", buffering=0)  # noqa: SIM115 - closed by whoever closes this
        self._file.write(data)

    def tail(self, most: int) -> bytes:
        """Return up to *most* bytes of the end; empty where nothing was ever written."""
        if self._file is None:
            return b""
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(max(0, size - most))
        return self._file.read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
