"""Artifacts in object stores (S3, Google Cloud Storage, Azure): sent once, found by digest, looked for, fetched.

A file lies at ``ab/cdef…/<name>`` below the store's prefix, as in a directory of artifacts. A directory's files lie below
such a name, and ``<name>.files.json`` beside it, written last, lists them all: without it the directory is not whole.
obstore is imported when such a store is used and not before. It takes credentials from the environment.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from cogbuild.digest import Hasher, file_digest
from cogbuild.errors import is_text
from cogbuild.errors.remote import (
    StoreAway,
    StoreBucketMissing,
    StoreDenied,
    StoreError,
    StoreNameUnusable,
    UploadDamaged,
)
from cogbuild.fingerprint.trees import read_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from obstore.store import AzureStore, GCSStore, S3Store

    from cogbuild.fingerprint.trees import Entry

    Store = S3Store | GCSStore | AzureStore

__all__ = ["SCHEMES", "Remote", "Uploaded", "forget_stores", "is_remote"]

#: What can be an artifact store, or be looked at there.
SCHEMES = ("s3", "gs", "az")

_FILES = ".files.json"
_PIECE = 8 << 20  # bytes sent at once
_MOST_PIECES = 9000  # S3 takes 10,000
_AT_ONCE = 4
_TALKS = 64 << 20  # from that size on, how far it is is told
_LARGEST_LIST = 64 << 20
_KINDS = {"f": "file", "x": "executable", "l": "link", "d": "directory"}
_ENDPOINTS = (
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT",
    "AZURE_STORAGE_ENDPOINT",
    "AZURE_ENDPOINT",
)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_DENIED = (
    "AccessDenied",
    "AuthenticationFailed",
    "AuthorizationFailure",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
)
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")


class Uploaded(NamedTuple):
    """What was put into an object store."""

    uri: str
    digest: str  # of the file's content, or of the directory's tree
    size: int  # bytes


def is_remote(uri: str) -> bool:
    """Whether *uri* names something in an object store of a kind that is known here."""
    scheme, mark, rest = uri.partition("://")
    return bool(mark) and scheme in SCHEMES and bool(rest.strip("/"))


def _silent(_text: str) -> None:
    pass


class Remote:
    """A bucket, or what lies below a prefix of one: ``s3://bucket/prefix``. Opening it asks nobody."""

    def __init__(self, url: str) -> None:
        scheme, _, rest = url.partition("://")
        self._scheme = scheme
        self._bucket, _, prefix = rest.partition("/")
        self._prefix = prefix.strip("/")
        self.url = f"{scheme}://{self._bucket}" + (f"/{self._prefix}" if self._prefix else "")

    # -- sending --------------------------------------------------------------------------------------------------

    def upload(
        self,
        source: Path,
        called: str,
        *,
        say: Callable[[str], None] = _silent,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Uploaded:
        """Send a file or directory; durable when this returns. What is there already is not sent again.

        *say* hears how far a large one is. Raises the errors of ``errors.remote``.
        """
        if not is_text(called) or not called.isprintable():
            raise StoreNameUnusable(store=self.url, name=repr(called))
        sending = _Sending(self, say, cancelled)
        if source.is_dir():
            tree = read_tree(source, rules="all").tree
            key = _key(tree.digest, called)
            with self._errors():
                sending.directory(source, key, tree.entries, tree.digest)
            return Uploaded(f"{self.url}/{key}", tree.digest, tree.size)
        digest, size = file_digest(source)
        key = _key(digest, called)
        with self._errors():
            if self.size(key) != size:
                sending.file(source, key, size, digest)
        return Uploaded(f"{self.url}/{key}", digest, size)

    # -- looking --------------------------------------------------------------------------------------------------

    def wrong(self, key: str, size: int | None) -> str | None:
        """Return None where *key* is there, with *size* bytes if that is known; else what is wrong with it.

        Raises the errors of ``errors.remote`` where the store does not say.
        """
        with self._errors():
            found = self.size(key, sure=True)
            if found is not None:
                return None if size in (None, found) else f"it has {found} bytes, {size} were uploaded"
            there = self.below(key)  # also tells whether there is a bucket at all
            listed = self._listed(key) if there else None
        if not there:
            return "it is not there"
        if listed is None:
            return "the list of its files is not there" if size is not None else None
        return next(
            (
                f"{row['path']} in it is not there"
                if there.get(row["path"]) is None
                else f"{row['path']} in it has {there[row['path']]} bytes, {row['size']} were uploaded"
                for row in listed
                if "size" in row and there.get(row["path"]) != row["size"]
            ),
            None,
        )

    def size(self, key: str, *, sure: bool = False) -> int | None:
        """Return how many bytes *key* has, None where it is not there.

        S3 says "denied" instead to whoever may not list the bucket; with *sure* that is an error.
        """
        import obstore

        try:
            return obstore.head(self.opened, key)["size"]
        except FileNotFoundError:
            return None
        except obstore.exceptions.PermissionDeniedError:
            if sure:
                raise
            return None

    def below(self, key: str) -> dict[str, int]:
        """Return the sizes of what is below *key*, by path."""
        import obstore

        return {
            item["path"].removeprefix(f"{key}/"): item["size"]
            for batch in obstore.list(self.opened, prefix=key)
            for item in batch
            if item["path"].startswith(f"{key}/")
        }

    def _listed(self, key: str) -> list[dict[str, Any]] | None:
        import obstore

        try:
            answer = obstore.get(self.opened, key + _FILES)
        except FileNotFoundError:
            return None
        if answer.meta["size"] > _LARGEST_LIST:
            raise StoreAway(store=self.url, reason=f"{key}{_FILES} is too large to be a list of files")
        try:
            listed = json.loads(bytes(answer.bytes()))["files"]
            return [row for row in listed if isinstance(row["path"], str) and row["kind"] in _KINDS.values()]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise StoreAway(store=self.url, reason=f"{key}{_FILES} is no list of files") from None

    # -- fetching -------------------------------------------------------------------------------------------------

    def fetch(self, key: str, target: Path) -> bool:
        """Write what *key* names to *target*; False where it is not there. Raises the errors of ``errors.remote``."""
        with self._errors():
            if self.size(key, sure=True) is not None:
                self._fetch_file(key, target, 0o644)
                return True
            listed = self._listed(key) if self.below(key) else None
            if listed is None:
                return False
            target.mkdir()
            for row in listed:
                self._fetch_row(key, row, target)
            return True

    def _fetch_row(self, key: str, row: dict[str, Any], target: Path) -> None:
        at = target / row["path"]
        # The list comes from outside: nothing of it may lie elsewhere, nor be reached through one of its links.
        if ".." in at.parts or os.path.realpath(at.parent) != os.path.join(
            os.path.realpath(target), *at.relative_to(target).parts[:-1]
        ):
            raise StoreAway(store=self.url, reason=f"the list of {key} names {row['path']!r}")
        at.parent.mkdir(parents=True, exist_ok=True)
        if row["kind"] == "directory":
            at.mkdir(exist_ok=True)
        elif row["kind"] == "link":
            os.symlink(row["target"], at)
        else:
            self._fetch_file(f"{key}/{row['path']}", at, 0o755 if row["kind"] == "executable" else 0o644)

    def _fetch_file(self, key: str, target: Path, mode: int) -> None:
        import obstore

        answer = obstore.get(self.opened, key)
        with target.open("xb") as file:
            for chunk in answer.stream(min_chunk_size=1 << 20):
                file.write(chunk)
        target.chmod(mode)

    # -- the store ------------------------------------------------------------------------------------------------

    @property
    def opened(self) -> Store:
        """The store as obstore has it."""
        plain, allowed = _plain()
        if plain and not allowed:
            reason = "http: is for stores on this machine only, unless AWS_ALLOW_HTTP is true"
            raise StoreAway(store=self.url, reason=reason)
        return _opened(self._scheme, self._bucket, self._prefix, plain)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        import obstore

        try:
            yield
        except (obstore.exceptions.PermissionDeniedError, obstore.exceptions.UnauthenticatedError) as trouble:
            raise StoreDenied(store=self.url, reason=_reason(trouble)) from trouble
        except FileNotFoundError as trouble:
            if trouble.errno is not None:  # a file of ours
                raise
            raise StoreBucketMissing(store=self.url, reason=_reason(trouble)) from trouble
        except ValueError as trouble:  # of a name that somebody else made
            raise StoreNameUnusable(store=self.url, reason=str(trouble).splitlines()[0]) from trouble
        except obstore.exceptions.BaseError as trouble:
            said = str(trouble)
            kind: type[StoreError] = StoreAway
            if any(f"<Code>{code}<" in said for code in _DENIED):
                kind = StoreDenied
            elif any(word in said for word in _NO_BUCKET):
                kind = StoreBucketMissing
            raise kind(store=self.url, reason=_reason(trouble)) from trouble


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
        if self._to.size(key + _FILES) != len(data):
            obstore.put(self._to.opened, key + _FILES, data)


class _Reader(io.RawIOBase):
    """A file as it is sent: hashed on the way, with a word now and then on how far it is."""

    def __init__(
        self, source: Path, size: int, say: Callable[[str], None], cancelled: Callable[[], bool]
    ) -> None:
        super().__init__()
        self._file = open(source, "rb", buffering=0)  # noqa: SIM115 - closed with this
        self._name, self._size = source.name, size
        self._say, self._cancelled = say, cancelled
        self._hasher = Hasher()
        self._told = 0

    @property
    def digest(self) -> str:
        """Of what was read since the beginning."""
        return self._hasher.hexdigest()

    def read(self, size: int = -1, /) -> bytes:
        if self._cancelled():
            raise InterruptedError("the upload was broken off")
        data = self._file.read(size)
        self._hasher.update(data)
        at = self._file.tell()
        if self._size >= _TALKS and (at - self._told) * 10 >= self._size:
            self._told = at
            self._say(f"sending {self._name}: {at >> 20} of {self._size >> 20} MiB")
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
    row: dict[str, object] = {"path": entry.path, "kind": _KINDS[entry.kind]}
    if entry.kind == "l":
        return row | {"target": entry.value}
    if entry.kind in "fx":
        return row | {"digest": entry.value, "size": entry.size}
    return row


@lru_cache(maxsize=16)
def _opened(scheme: str, bucket: str, prefix: str, plain: bool) -> Store:
    from datetime import timedelta

    from obstore.store import AzureStore, GCSStore, S3Store

    makers: dict[str, Any] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
    made: Store = makers[scheme](
        bucket,
        prefix=prefix or None,
        client_options={
            "connect_timeout": timedelta(seconds=10),
            "timeout": timedelta(seconds=180),
            "allow_http": plain,
        },
        retry_config={
            "max_retries": 4,
            "retry_timeout": timedelta(seconds=180),
            "backoff": {
                "init_backoff": timedelta(seconds=0.1),
                "max_backoff": timedelta(seconds=5),
                "base": 3,
            },
        },
    )
    return made


def forget_stores() -> None:
    """Let go of open connections; what comes next reads the environment anew."""
    _opened.cache_clear()


def _plain() -> tuple[bool, bool]:
    """Return whether the store is to be asked without TLS, and whether it may: on this machine, or where the user says so."""
    endpoint = urlsplit(next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), ""))
    said = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true")
    return endpoint.scheme == "http", said or endpoint.hostname in _LOOPBACK


def _reason(trouble: BaseException) -> str:
    """Return the one thing of obstore's pages that says what happened."""
    said = str(trouble).partition("\n\nDebug source")[0]
    status = re.search(r"status code: (\d{3}(?: [A-Za-z]+)*)", said)
    code = re.search(r"<Code>(\w+)</Code>", said)
    if status is not None:
        return f"it says {status[1]}" + (f", {code[1]}" if code else "")
    return said.rpartition(" - ")[2].splitlines()[0][:200] if said else type(trouble).__name__
