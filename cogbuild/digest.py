"""Content to digest: bytes, files and field lists. Reads, never writes.

Digests are BLAKE3, 32 bytes, written as 64 hex digits. Field lists are encoded with a tag and length prefixes, so no
two different lists share the same bytes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from blake3 import blake3

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "DIGEST_SIZE",
    "LARGE",
    "Hasher",
    "descriptor_digest",
    "file_digest",
    "hexdigest",
    "tagged",
    "update_hasher",
]

DIGEST_SIZE = 32

#: Files of at least this size are hashed by several threads, a buffer at a time. Not mapped: what is mapped counts as our
#: memory, and a file that is cut off meanwhile would kill the process.
LARGE = 1 << 20
_BUFFER = 4 << 20
# From this size on a second buffer and a thread pay for themselves.
_READ_AHEAD = 128 << 20

Hasher = blake3


def hexdigest(data: bytes) -> str:
    """Return the digest of *data* as 64 hex digits."""
    return blake3(data).hexdigest()


def tagged(tag: str, parts: Iterable[bytes | str]) -> str:
    """Return the digest of a list of fields; *tag* names the kind and its format number, e.g. ``"manifest/1"``."""
    hasher = blake3()
    for part in (tag, *parts):
        raw = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        hasher.update(len(raw).to_bytes(8, "big") + raw)
    return hasher.hexdigest()


def file_digest(path: str | os.PathLike[str], *, dir_fd: int | None = None) -> tuple[str, int]:
    """Return (digest, size in bytes) of the regular file at *path*, read in constant memory.

    A symlink in the last place is not followed (``OSError`` ELOOP); the caller has checked that it is a regular file.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=dir_fd)
    try:
        return descriptor_digest(fd)
    finally:
        os.close(fd)


def descriptor_digest(fd: int) -> tuple[str, int]:
    """Return (digest, size in bytes) of what the open file *fd* holds from its start."""
    if os.fstat(fd).st_size >= LARGE:
        return _large_digest(fd)
    data = b""
    while chunk := os.pread(fd, LARGE, len(data)):
        data += chunk
    return blake3(data).hexdigest(), len(data)


def _large_digest(fd: int) -> tuple[str, int]:
    hasher = blake3(max_threads=blake3.AUTO)
    if os.fstat(fd).st_size >= _READ_AHEAD:
        return _hashed_while_read(hasher, fd)
    size = update_hasher(hasher, fd, 0, None)
    return hasher.hexdigest(), size


def _hashed_while_read(hasher: blake3, fd: int) -> tuple[str, int]:
    """Hash what one piece holds while the next one is read."""
    from concurrent.futures import Future, ThreadPoolExecutor

    buffer, other = (memoryview(bytearray(_BUFFER)) for _ in range(2))
    hashed: Future[blake3] | None = None
    size = 0
    with ThreadPoolExecutor(1) as hashing:
        while read := os.preadv(fd, [buffer], size):
            if hashed is not None:
                hashed.result()
            hashed = hashing.submit(hasher.update, buffer[:read])
            buffer, other = other, buffer
            size += read
        if hashed is not None:
            hashed.result()
    return hasher.hexdigest(), size


def update_hasher(hasher: blake3, fd: int, start: int, count: int | None) -> int:
    """Feed *count* bytes of the open file from *start* on to the hasher, None: all; return how many there were."""
    buffer = memoryview(bytearray(_BUFFER))
    done = 0
    while count is None or done < count:
        some = buffer if count is None else buffer[: count - done]
        if not (read := os.preadv(fd, [some], start + done)):
            break
        hasher.update(some[:read])
        done += read
    return done
