"""Sending files and directories to an object store: once, by digest, and looked at afterwards."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, NamedTuple

from cogbuild.digest import Hasher, file_digest
from cogbuild.errors import is_text
from cogbuild.errors.remote import StoreNameUnusable, UploadDamaged
from cogbuild.fingerprint.trees import read_tree
from cogbuild.remote.store import FILES, KINDS
from cogbuild.remote.telling import Telling, silent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cogbuild.fingerprint.trees import Entry
    from cogbuild.remote.store import Remote

__all__ = ["Uploaded", "upload"]

_PIECE = 8 << 20  # bytes sent at once
_MOST_PIECES = 9000  # S3 takes 10,000
_AT_ONCE = 4


class Uploaded(NamedTuple):
    """What was put into an object store."""

    uri: str
    digest: str  # of the file's content, or of the directory's tree
    size: int  # bytes


def upload(
    remote: Remote,
    source: Path,
    called: str,
    *,
    say: Callable[[str], None] = silent,
    cancelled: Callable[[], bool] = lambda: False,
) -> Uploaded:
    """Send a file or directory; durable when this returns. What is there already is not sent again.

    *say* hears how far a large one is. Raises errors of ``errors.remote``.
    """
    if not is_text(called) or not called.isprintable():
        raise StoreNameUnusable(store=remote.url, name=repr(called))
    sending = _Sending(remote, say, cancelled)
    if source.is_dir():
        tree = read_tree(source, rules="all").tree
        key = _key(tree.digest, called)
        with remote.errors():
            sending.directory(source, key, tree.entries, tree.digest)
        return Uploaded(f"{remote.url}/{key}", tree.digest, tree.size)
    digest, size = file_digest(source)
    key = _key(digest, called)
    with remote.errors():
        if remote.size(key) != size:
            sending.file(source, key, size, digest)
    return Uploaded(f"{remote.url}/{key}", digest, size)


class _Sending:
    """One upload under way."""

    def __init__(self, to: Remote, say: Callable[[str], None], cancelled: Callable[[], bool]) -> None:
        self._to = to
        self._say = say
        self._cancelled = cancelled

    def file(self, source: Path, key: str, size: int, digest: str) -> None:
        """Send a file and have the store say that it has it."""
        etag = self._put(source, key, size, digest)
        import obstore

        try:
            meta = obstore.head(self._to.opened, key)
        except FileNotFoundError:
            raise UploadDamaged(store=self._to.url, name=source.name, reason="it is not there") from None
        if meta["size"] != size or (etag and meta["e_tag"] and etag != meta["e_tag"]):
            raise UploadDamaged(store=self._to.url, name=source.name, reason=f"it has {meta['size']} bytes")

    def _put(self, source: Path, key: str, size: int, digest: str) -> str | None:
        import obstore

        piece = max(_PIECE, -(-size // _MOST_PIECES))
        with _Reader(source, size, self._say, self._cancelled) as reader:
            done = obstore.put(
                self._to.opened,
                key,
                reader,
                chunk_size=piece,
                max_concurrency=_AT_ONCE,
            )
            if reader.digest != digest:
                obstore.delete(self._to.opened, key)
                raise UploadDamaged(
                    store=self._to.url, name=source.name, reason="the file changed while it was sent"
                )
        return done["e_tag"]

    def directory(self, source: Path, key: str, entries: tuple[Entry, ...], digest: str) -> None:
        """Send what the store lacks of a directory, and then the list of it."""
        from concurrent.futures import ThreadPoolExecutor

        import obstore

        files = [entry for entry in entries if entry.kind in "fx"]
        for entry in entries:
            if not is_text(entry.path) or not entry.path.isprintable():
                raise StoreNameUnusable(store=self._to.url, name=repr(entry.path))
        there = self._to.below(key)
        missing = [entry for entry in files if there.get(entry.path) != entry.size]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            sent = [
                pool.submit(self._put, source / item.path, f"{key}/{item.path}", item.size or 0, item.value)
                for item in missing
            ]
            try:
                for one in sent:
                    one.result()
            finally:
                pool.shutdown(cancel_futures=True)
        if missing:
            there = self._to.below(key)
            if wrong := [entry.path for entry in files if there.get(entry.path) != entry.size]:
                raise UploadDamaged(store=self._to.url, name=source.name, reason=f"it lacks {wrong[0]}")
        listed = json.dumps({"format": 1, "digest": digest, "files": [_row(entry) for entry in entries]})
        data = listed.encode()
        if self._to.size(key + FILES) != len(data):
            obstore.put(self._to.opened, key + FILES, data)


class _Reader(io.RawIOBase):
    """A file as it is sent: hashed on the way, with a word now and then on how far it is."""

    def __init__(
        self, source: Path, size: int, say: Callable[[str], None], cancelled: Callable[[], bool]
    ) -> None:
        super().__init__()
        self._file = open(source, "rb", buffering=0)  # noqa: SIM115 - closed with this
        self._telling = Telling(f"sending {source.name}", size, say, cancelled)
        self._hasher = Hasher()

    @property
    def digest(self) -> str:
        """Of what was read since the beginning."""
        return self._hasher.hexdigest()

    def read(self, size: int = -1, /) -> bytes:
        self._telling.reached(self._file.tell())
        data = self._file.read(size)
        self._hasher.update(data)
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if (offset, whence) == (0, 0):
            self._hasher = Hasher()
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()


def _key(digest: str, called: str) -> str:
    return f"{digest[:2]}/{digest[2:]}/{called}"


def _row(entry: Entry) -> dict[str, object]:
    row: dict[str, object] = {"path": entry.path, "kind": KINDS[entry.kind]}
    if entry.kind == "l":
        return row | {"target": entry.value}
    if entry.kind in "fx":
        return row | {"digest": entry.value, "size": entry.size}
    return row
