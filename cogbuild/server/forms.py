"""Multipart forms, read as they come: the file goes to disk and is never held in memory."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING

from python_multipart import MultipartParser
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from cogbuild.digest import Hasher
from cogbuild.errors.server import BadUpload, UploadCut, WrongDigest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from starlette.requests import Request

__all__ = ["Fields", "chunks", "receive_content", "receive_form", "write_all"]

#: Bytes that the names and values around the file may take.
_MOST_BESIDE = 64 << 10


class Fields:
    """What a form held beside the file."""

    def __init__(self) -> None:
        self.values: dict[str, list[str]] = {}
        self.size = 0  # bytes of the file

    def all(self, name: str) -> list[str]:
        """Return every value of a field."""
        return self.values.get(name, [])


class _Form:
    """A multipart form that is read as it comes: pieces of the field ``file`` are handed on."""

    def __init__(self, boundary: bytes) -> None:
        self.fields = Fields()
        self._seen_file = False
        self._ended = False
        self.pieces: list[bytes] = []
        self._beside = 0
        self._header = (bytearray(), bytearray())
        self._headers: dict[bytes, bytes] = {}
        self._name = ""
        self._is_file = False
        self._value = bytearray()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begins,
                "on_header_field": lambda data, start, end: self._more(self._header[0], data[start:end]),
                "on_header_value": lambda data, start, end: self._more(self._header[1], data[start:end]),
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._data,
                "on_part_end": self._part_ends,
                "on_end": self._ends,
            },
        )

    def _more(self, to: bytearray, data: bytes) -> None:
        self._beside += len(data)
        if self._beside > _MOST_BESIDE:
            raise BadUpload(problem="its form has more text than a form needs")
        to += data

    def _part_begins(self) -> None:
        self._headers = {}
        self._value = bytearray()
        self._more(self._value, b"")

    def _header_ends(self) -> None:
        name, value = self._header
        self._headers[bytes(name).lower()] = bytes(value)
        self._header = (bytearray(), bytearray())

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._is_file = self._name == "file"
        if self._is_file and self._seen_file:
            raise BadUpload(problem="it has more than one field `file`")
        self._seen_file |= self._is_file

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self.pieces.append(data[start:end])
        else:
            self._more(self._value, data[start:end])

    def _part_ends(self) -> None:
        if not self._is_file:
            value = self._value.decode("utf-8", "replace")
            self.fields.values.setdefault(self._name, []).append(value)

    def _ends(self) -> None:
        self._ended = True

    def feed(self, data: bytes) -> None:
        """Read on. Raises ``BadUpload``."""
        try:
            self._parser.write(data)
        except MultipartParseError as trouble:
            raise BadUpload(problem=str(trouble)) from None

    def check(self) -> None:
        """Raise ``UploadCut`` or ``BadUpload`` where the form is not all there."""
        if not self._ended:
            raise UploadCut
        if not self._seen_file:
            raise BadUpload(problem="it has no field `file`")


async def receive_form(request: Request, into: Path) -> Fields:
    """Write the field ``file`` of the form to the new file *into*, durably; return what else it held.

    Nothing is left of what is refused. Raises ``BadUpload`` and ``UploadCut``.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise BadUpload(problem="it is no multipart form")
    try:
        form = _Form(boundary)
    except ValueError as trouble:
        raise BadUpload(problem=str(trouble)) from None
    await run_in_threadpool(_make, into)
    fd = await run_in_threadpool(os.open, into, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        async for data in chunks(request):
            form.feed(data)
            if form.pieces:
                form.fields.size += await run_in_threadpool(write_all, fd, form.pieces)
                form.pieces.clear()
        form.check()
        await run_in_threadpool(os.fsync, fd)
    except BaseException:
        _drop(into)
        raise
    finally:
        os.close(fd)
    return form.fields


async def receive_content(request: Request, final: Path, digest: str) -> bool:
    """Write the body to *final*, durably; False where it is there already. Raises ``WrongDigest`` and ``UploadCut``."""
    if await run_in_threadpool(final.exists):
        return False
    half = final.with_name(f".{final.name}-{secrets.token_hex(4)}")
    await run_in_threadpool(_make, half)
    fd = await run_in_threadpool(os.open, half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
    seen = Hasher()
    try:
        async for data in chunks(request):
            if data:
                await run_in_threadpool(write_all, fd, [data])
                await run_in_threadpool(seen.update, data)
        _check_digest(seen.hexdigest(), digest)
        await run_in_threadpool(os.fsync, fd)
        await run_in_threadpool(os.replace, half, final)
    except BaseException:
        _drop(half)
        raise
    finally:
        os.close(fd)
    return True


def _check_digest(found: str, wanted: str) -> None:
    if found != wanted:
        raise WrongDigest(digest=wanted, found=found)


async def chunks(request: Request) -> AsyncIterator[bytes]:
    """Yield a body as it comes. Raises ``UploadCut`` where its end does not."""
    try:
        async for data in request.stream():
            yield data
    except ClientDisconnect:
        raise UploadCut from None


def _drop(file: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        file.unlink()


def _make(file: Path) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)


def write_all(fd: int, pieces: list[bytes]) -> int:
    """Write pieces to their end; return how many bytes they were."""
    size = 0
    for piece in pieces:
        left = memoryview(piece)
        while left:
            left = left[os.write(fd, left) :]
        size += len(piece)
    return size
