"""How requests to registries are made: their patience, their bodies, and what their failures are called."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

import requests

from cogbuild_adapter.images.reference import HUB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cogbuild_adapter.images.progress import Progress

PIECE = 1 << 20
_TIMEOUTS = (20, 300)  # seconds: to connect; without a byte
_LOOPBACK = re.compile(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?")


class Passing(requests.RequestException):
    """An answer that may be another one in a moment."""


class Patient(requests.adapters.HTTPAdapter):
    """Waits for a silent registry for a while, not for ever as ``requests`` does."""

    def send(self, *args: Any, **named: Any) -> requests.Response:
        named["timeout"] = named.get("timeout") or _TIMEOUTS
        return super().send(*args, **named)


class Rest:
    """The bytes of a file from *at* on, for ``requests`` to stream."""

    def __init__(self, file: BinaryIO, at: int, end: int, progress: Progress) -> None:
        file.seek(at)
        self._file, self._progress = file, progress
        self.at, self.end = at, end

    def __len__(self) -> int:
        return self.end - self.at

    def read(self, count: int = -1) -> bytes:
        data = self._file.read(max(count, PIECE) if count >= 0 else -1)
        self._progress.reached(self._file.tell())
        return data

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.read(PIECE), b"")


def received(answer: requests.Response, otherwise: int) -> int:
    """Return how many bytes of an upload the registry says it has (``Range: 0-99`` is a hundred)."""
    last = answer.headers.get("Range", "").removeprefix("bytes=").rpartition("-")[2]
    return int(last) + 1 if last.isdigit() and last != "0" else otherwise


def is_plain(host: str) -> bool:
    """Whether to talk HTTP: to this machine, and to hosts in ``REGISTRY_PLAIN_HTTP``."""
    told = os.environ.get("REGISTRY_PLAIN_HTTP", "").replace(",", " ").split()
    return host in told or _LOOPBACK.fullmatch(host) is not None


def api(host: str) -> str:
    """Return where the registry *host* is spoken to."""
    return "registry-1.docker.io" if host == HUB else host


def fields(wanted: str) -> dict[str, str]:
    """Return the fields of what a registry wants as a login (``WWW-Authenticate``)."""
    return dict(re.findall(r'(\w+)="([^"]*)"', wanted))


def may_be_told(url: str) -> bool:
    """Whether a login may be sent to *url*: nobody else reads it on the way."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and is_plain(parts.netloc))


def brief(error: Exception) -> str:
    """Return the innermost reason, without addresses of objects."""
    if isinstance(error, Passing):
        return str(error)
    link: BaseException = error
    while (inner := link.__cause__ or link.__context__) is not None:
        link = inner
    text = re.sub(r"<[^>]*>:? ?", "", str(link)).strip()
    return f"{type(link).__name__}: {text}" if text else type(link).__name__
