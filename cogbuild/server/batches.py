"""Many small contents in one request: a request each takes longer than the contents themselves."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from collections import deque
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool

from cogbuild.digest import hexdigest
from cogbuild.errors.server import BadBatch, UploadCut, WrongDigest
from cogbuild.server.forms import chunks, write_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from starlette.requests import Request

__all__ = ["MOST", "MOST_BYTES", "receive_batch"]

#: Contents of one request, and their bytes.
MOST, MOST_BYTES = 1000, 4 << 20
#: Bytes that the list of them may take.
_MOST_OF_A_LIST = 256 << 10
# Contents that are made durable together.
_TOGETHER = 64

_DIGEST = re.compile(r"[0-9a-f]{64}")


class _Batch:
    """A batch that is read as it comes. ``whole`` are the contents that are all there."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._left: deque[tuple[str, int]] | None = None  # None: the list has not come yet
        self.whole: list[tuple[str, bytes]] = []

    def feed(self, data: bytes) -> None:
        """Read on. Raises ``BadBatch`` and ``WrongDigest``."""
        self._buffer += data
        if self._left is None:
            end = self._buffer.find(b"\n")
            if end < 0:
                if len(self._buffer) > _MOST_OF_A_LIST:
                    raise BadBatch(problem="its first line is too long")
                return
            self._left = deque(_listed(bytes(self._buffer[:end])))
            del self._buffer[: end + 1]
        while self._left and len(self._buffer) >= self._left[0][1]:
            digest, size = self._left.popleft()
            content = bytes(self._buffer[:size])
            del self._buffer[:size]
            if hexdigest(content) != digest:
                raise WrongDigest(digest=digest, found=hexdigest(content))
            self.whole.append((digest, content))
        if not self._left and self._buffer:
            raise BadBatch(problem="more came than its list says")

    def check(self) -> None:
        """Raise ``UploadCut`` where something is still to come."""
        if self._left is None or self._left:
            raise UploadCut


def _listed(line: bytes) -> list[tuple[str, int]]:
    try:
        rows = json.loads(line)
    except (ValueError, RecursionError) as trouble:
        raise BadBatch(problem=f"its first line is no JSON ({trouble})") from None
    if not isinstance(rows, list) or not all(map(_is_row, rows)):
        raise BadBatch(problem="its first line is no list of digests with sizes")
    if len(rows) > MOST or sum(size for _, size in rows) > MOST_BYTES:
        raise BadBatch(problem=f"more than {MOST} contents or {MOST_BYTES >> 20} MiB at once")
    return [(digest, size) for digest, size in rows]


def _is_row(row: object) -> bool:
    if not isinstance(row, list) or len(row) != 2:
        return False
    digest, size = row
    return (
        isinstance(digest, str) and _DIGEST.fullmatch(digest) is not None and type(size) is int and size >= 0
    )


async def receive_batch(request: Request, place: Callable[[str], Path]) -> int:
    """Write the contents of a batch to their places, durably; return how many were not there.

    Of a batch that breaks off, what had come stays; of one that is refused, some may. Raises ``BadBatch``,
    ``WrongDigest`` and ``UploadCut``.
    """
    batch = _Batch()
    new = 0
    try:
        async for data in chunks(request):
            batch.feed(data)
            if len(batch.whole) >= _TOGETHER:
                new += await run_in_threadpool(_keep, batch.whole, place)
                batch.whole = []
        batch.check()
    except UploadCut:
        await run_in_threadpool(_keep, batch.whole, place)
        raise
    return new + await run_in_threadpool(_keep, batch.whole, place)


def _keep(contents: Iterable[tuple[str, bytes]], place: Callable[[str], Path]) -> int:
    """Write contents first and make them durable then: one write of the file system's journal is enough for many.

    One file is open at a time: many clients send at once.
    """
    made: list[tuple[Path, Path]] = []
    try:
        for digest, content in dict(contents).items():
            final = place(digest)
            if final.exists():
                continue
            final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            half = final.with_name(f".{final.name}-{secrets.token_hex(4)}")
            made.append((half, final))
            with _opened(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as fd:
                write_all(fd, [content])
        for half, _ in made:
            with _opened(half, os.O_RDONLY) as fd:
                os.fsync(fd)
        for half, final in made:
            half.replace(final)
        return len(made)
    except BaseException:
        for half, _ in made:
            half.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CLOEXEC, 0o444)
    try:
        yield fd
    finally:
        os.close(fd)
