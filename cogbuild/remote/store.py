"""One object store: opened with the environment's settings, asked what it has; its errors in our words."""

from __future__ import annotations

import contextlib
import json
import os
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cogbuild.errors.remote import (
    StoreAway,
    StoreBucketMissing,
    StoreDenied,
    StoreError,
    StoreNameUnusable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obstore.store import AzureStore, GCSStore, S3Store

    Store = S3Store | GCSStore | AzureStore

__all__ = ["FILES", "KINDS", "STORES", "Remote", "forget_stores", "located"]

#: Kinds of object stores, as URIs name them.
STORES = ("s3", "gs", "az")

#: What the list of a directory's files is called, after the directory's name.
FILES = ".files.json"
#: What an entry of a tree is called in such a list.
KINDS = {"f": "file", "x": "executable", "l": "link", "d": "directory"}

_LARGEST_LIST = 64 << 20
_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
_GOOGLE = ("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH", "GOOGLE_APPLICATION_CREDENTIALS")
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


class Remote:
    """A bucket, or what lies below a prefix of one: ``s3://bucket/prefix``. Opening it asks nobody."""

    def __init__(self, url: str) -> None:
        scheme, _, rest = url.partition("://")
        self._scheme = scheme
        self._bucket, _, prefix = rest.partition("/")
        self._prefix = prefix.strip("/")
        self.url = f"{scheme}://{self._bucket}" + (f"/{self._prefix}" if self._prefix else "")

    # -- looking --------------------------------------------------------------------------------------------------

    def wrong(self, key: str, size: int | None) -> str | None:
        """Return None where *key* is there, with *size* bytes if that is known; else what is wrong with it.

        Raises the errors of ``errors.remote`` where the store does not say.
        """
        with self.errors():
            found = self.size(key, sure=True)
            if found is not None:
                return None if size in (None, found) else f"it has {found} bytes, {size} were uploaded"
            there = self.below(key)  # also tells whether there is a bucket at all
            listed = self.listed(key) if there else None
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

    def listed(self, key: str) -> list[dict[str, Any]] | None:
        """Return the list of a directory's files, None where there is none."""
        import obstore

        try:
            answer = obstore.get(self.opened, key + FILES)
        except FileNotFoundError:
            return None
        if answer.meta["size"] > _LARGEST_LIST:
            raise StoreAway(store=self.url, reason=f"{key}{FILES} is too large to be a list of files")
        try:
            listed = json.loads(bytes(answer.bytes()))["files"]
            return [row for row in listed if isinstance(row["path"], str) and row["kind"] in KINDS.values()]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise StoreAway(store=self.url, reason=f"{key}{FILES} is no list of files") from None

    # -- the store ------------------------------------------------------------------------------------------------

    @property
    def opened(self) -> Store:
        """The store as obstore has it."""
        plain, allowed = _plain(self._scheme)
        if plain and not allowed:
            reason = "http: is for stores on this machine only, unless AWS_ALLOW_HTTP is true"
            raise StoreAway(store=self.url, reason=reason)
        return _opened(self._scheme, self._bucket, self._prefix, plain)

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what obstore raises into errors with words."""
        import obstore

        try:
            yield
        except (obstore.exceptions.PermissionDeniedError, obstore.exceptions.UnauthenticatedError) as trouble:
            raise StoreDenied(store=self.url, reason=_reason(trouble)) from trouble
        except FileNotFoundError as trouble:
            if trouble.errno is not None:  # a file of ours
                raise
            raise StoreBucketMissing(store=self.url, reason=_reason(trouble)) from trouble
        except OSError as trouble:
            if trouble.errno is not None:
                raise
            # What was read for obstore could not be, and it tells of that in words alone.
            raise StoreAway(store=self.url, reason=str(trouble).rpartition("Error: ")[2]) from trouble
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


def located(uri: str) -> tuple[Remote, str] | None:
    """Return the bucket and the key that *uri* names; None where it names no object of a store."""
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    key = key.strip("/")
    return (Remote(f"{scheme}://{bucket}"), key) if scheme in STORES and bucket and key else None


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


def _plain(scheme: str) -> tuple[bool, bool]:
    """Return whether the store is to be asked without TLS, and whether it may: on this machine, or where the user says so."""
    endpoint = urlsplit(_endpoint(scheme))
    said = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true")
    return endpoint.scheme == "http", said or endpoint.hostname in _LOOPBACK


def _endpoint(scheme: str) -> str:
    """Return the address that the environment gives for stores of a kind, empty where it is the provider's own."""
    if scheme != "gs":
        return next((os.environ[name] for name in _ENDPOINTS[scheme] if os.environ.get(name)), "")
    named = next((os.environ[name] for name in _GOOGLE if os.environ.get(name)), None)
    if named is None:
        return ""
    try:
        with open(named, "rb") as file:
            return str(json.loads(file.read(_LARGEST_LIST)).get("gcs_base_url") or "")
    except (OSError, ValueError, AttributeError, RecursionError):
        return ""  # obstore says what is wrong with it


def _reason(trouble: BaseException) -> str:
    """Return the one thing of obstore's pages that says what happened."""
    said = str(trouble).partition("\n\nDebug source")[0]
    status = re.search(r"status code: (\d{3}(?: [A-Za-z]+)*)", said)
    code = re.search(r"<Code>(\w+)</Code>", said)
    if status is not None:
        return f"it says {status[1]}" + (f", {code[1]}" if code else "")
    return said.rpartition(" - ")[2].splitlines()[0][:200] if said else type(trouble).__name__
