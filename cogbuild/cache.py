"""Action key to record, in diskcache. May be lost or deleted at any time; that costs only time.

A record is bytes with their own digest, kept in the row: never a file, never a pickle. diskcache unpickles values, keys
on iteration, and what a planted row names (CVE-2025-69872, also under its ``JSONDisk``); the ``Disk`` here takes
digests as keys and inline bytes and refuses everything else on every way in and out.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
import zlib
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from cogbuild.database.pairs import Artifact, dump_artifacts, load_artifacts
from cogbuild.digest import DIGEST_SIZE, hexdigest
from cogbuild.errors.state import CacheTooNew

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future, ThreadPoolExecutor
    from pathlib import Path

__all__ = ["FORMAT", "Cache", "Record"]

#: Number of the format of records, in the directory's name.
FORMAT = 1

_CHECKSUM = 16  # bytes
# What nearly every record says, so that none has to hold it: part of the format.
_WORDS = (
    b'{\\"digest\\":\\"\\",\\"file\\":\\".onnx\\",\\"media_type\\":\\"application/\\",\\"name\\":\\"\\",\\"size\\":'
    b'{"adapter":"","artifacts":"[{\\"uri\\":\\"https://s3://\\"}]","attempt":"0660","cpu_seconds":0.00,"log":"","made":17'
    b',"reason":null,"seconds":0.0}\0adapter\0p\0\0\0\x20params\0p\0\0\0\x20examples\0p\0\0\0\x20python\0p\0\0\0\x20'
    b"model\0p\0\0\0\x20variables\0p\0\0\0\x20"
)

# How long another process may hold the cache before this one goes on without an answer.
_BUSY_SECONDS = 5.0
# Another process may damage what this one has just made anew; then the run goes on without a cache.
_TRIES = 3
# Records of one transaction.
_TOGETHER = 64
# Records of one question.
_ASKED = 500
# Bytes of a record that are packed in a window of 2 KB, its dictionary included.
_SMALL = 1500

# One row as diskcache writes it; its triggers count rows and sizes.
_PUT = """INSERT INTO Cache(key, raw, store_time, expire_time, access_time, access_count, tag, size, mode, filename, value)
    VALUES (?, 1, ?, NULL, ?, 0, NULL, 0, ?, NULL, ?) ON CONFLICT (key, raw) DO UPDATE SET store_time = excluded.store_time,
    expire_time = NULL, access_time = excluded.access_time, access_count = 0, tag = NULL, size = 0, mode = excluded.mode,
    filename = NULL, value = excluded.value"""


@dataclass(frozen=True)
class Record:
    """What one successful action left."""

    key: str
    manifest: bytes
    artifacts: tuple[Artifact, ...]
    reason: str | None  # not None: not applicable
    adapter: str
    attempt: str
    made: float  # seconds since the epoch
    seconds: float  # what it cost
    cpu_seconds: float
    log: str  # the end of it

    def encode(self) -> bytes:
        """Return the record as bytes."""
        fields = vars(self) | {"artifacts": dump_artifacts(self.artifacts)}
        del fields["key"], fields["manifest"]  # the row's own name; bytes
        text = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
        whole = text + b"\0" + self.manifest
        # Most of the time goes to making room for what packs, so that is kept small for what is small.
        room = (-11, 2) if len(whole) < _SMALL else (-15, 8)
        packer = zlib.compressobj(9, zlib.DEFLATED, *room, zdict=_WORDS)
        body = packer.compress(whole) + packer.flush()
        return _checksum(self.key, body) + body

    @classmethod
    def decode(cls, data: bytes, key: str) -> Record | None:
        """Return the record, or None where *data* is not what was written for *key*."""
        body = data[_CHECKSUM:]
        if _checksum(key, body) != data[:_CHECKSUM]:
            return None
        text, _, manifest = zlib.decompressobj(wbits=-15, zdict=_WORDS).decompress(body).partition(b"\0")
        fields: dict[str, Any] = json.loads(text)
        return cls(key=key, manifest=manifest, **fields | {"artifacts": load_artifacts(fields["artifacts"])})


def _checksum(key: str, body: bytes) -> bytes:
    return bytes.fromhex(hexdigest(key.encode() + body))[:_CHECKSUM]


class Cache:
    """Records below *root*; opened when first asked. A damaged cache is set aside and counts as empty."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._opened: Any = None
        self._unusable = False
        self._guard = threading.Lock()
        self._thread: ThreadPoolExecutor | None = None
        self._pid = os.getpid()
        self._waiting: deque[Record] = deque()  # to be put by the cache's thread
        self._troubles: list[str] = []

    @property
    def troubles(self) -> list[str]:
        """What went wrong and was passed over, for `doctor` and the run's summary."""
        if self._waiting:
            self._try(lambda _cache: None)  # after everything that was handed over before
        return self._troubles

    @property
    def directory(self) -> Path:
        """Where this format's records are."""
        return self.root / f"records-v{FORMAT}"

    def get(self, key: str) -> Record | None:
        """Return the intact record of *key*."""
        return self.find([key]).get(key)

    def find(self, keys: Sequence[str]) -> dict[str, Record]:
        """Return the intact records there are of *keys*, by key."""
        found: dict[str, Record] = {}
        for start in range(0, len(keys), _ASKED):
            asked = keys[start : start + _ASKED]
            for raw, value in self._try(partial(_rows, keys=asked)) or ():
                key = raw.hex()
                record = Record.decode(value, key)
                if record is None:
                    self._troubles.append(f"record {key[:12]} is damaged and was passed over")
                    self.remove(key)
                else:
                    found[key] = record
        return found

    def put(self, *records: Record) -> None:
        """Keep records: soon, and together with others, but before anything else is asked.

        A cache that can't take it is no error: the outcome is in the database.
        """
        if self._opened is None:
            self._try(lambda _cache: None)  # here, where a cache that must not be touched can be refused
        with self._guard:
            first = not self._waiting
            self._waiting.extend(records)
        if first:
            self._submit(self._put_waiting)

    def _put_waiting(self) -> None:
        records: list[Record] = []

        def put(cache: Any) -> None:
            from diskcache.core import MODE_RAW

            now = time.time()
            with cache.transact():
                rows = [
                    (bytes.fromhex(record.key), now, now, MODE_RAW, record.encode()) for record in records
                ]
                cache._con.executemany(_PUT, rows)  # noqa: SLF001 - its own call asks for each row first

        while True:
            with self._guard:
                records[:] = [self._waiting.popleft() for _ in range(min(len(self._waiting), _TOGETHER))]
            if not records:
                return
            self._tried(put)

    def remove(self, key: str) -> None:
        """Drop a record."""
        self._try(lambda cache: cache.delete(key))

    def keys(self) -> Iterator[str]:
        """Yield the keys there are; what is not a key of ours is passed over."""
        query = "SELECT key FROM Cache WHERE raw = 1 AND typeof(key) = 'blob'"
        found = self._try(lambda cache: cache._sql(query).fetchall())  # noqa: SLF001 - its own iteration unpickles keys
        yield from (key.hex() for (key,) in found or () if len(key) == DIGEST_SIZE)

    def raw(self, key: str) -> bytes | None:
        """Return a record's bytes unchecked, for `cache verify`."""
        data = self._try(lambda cache: cache.get(key))
        return data if isinstance(data, bytes) else None

    def compact(self) -> None:
        """Give the room of removed records back to the disk; meant for a time when nobody else writes."""
        with contextlib.suppress(
            sqlite3.OperationalError
        ):  # no room for the copy that this takes, or somebody reads
            self._try(lambda cache: cache._sql("VACUUM"))  # noqa: SLF001 - diskcache has no such command

    def volume(self) -> int:
        """Return the bytes that the cache takes on disk."""
        return sum(item.stat().st_size for item in self.directory.glob("*") if item.is_file())

    def close(self) -> None:
        """Put what waits, and close what was opened."""
        thread, self._thread = self._thread, None
        if thread is not None and self._pid == os.getpid():
            thread.submit(self._close).result()
            thread.shutdown()
        self._opened = None

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.close()

    def _try(self, action: Any) -> Any:
        """Return what *action* gives on the opened cache; None, and a line in ``troubles``, where it can't be asked."""
        return self._submit(self._tried, action).result()

    def _submit(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Have the cache's own thread do something, after all that it was told before.

        diskcache keeps a connection for every thread that ever asked, and a run of many batches has many.
        """
        with self._guard:
            if self._thread is None or self._pid != os.getpid():
                from concurrent.futures import ThreadPoolExecutor

                self._thread = ThreadPoolExecutor(1, thread_name_prefix="cache")
                self._opened, self._pid = None, os.getpid()
            return self._thread.submit(call, *arguments)

    def _tried(self, action: Any) -> Any:  # noqa: PLR0911 - one answer for each kind of trouble
        if self._opened is None and not self.root.parent.is_dir():
            return None  # nothing was ever kept; who only looks makes no data directory
        for _ in range(_TRIES):
            if self._unusable:
                return None
            opened = None
            try:
                opened = self._open()
                return action(opened)
            except sqlite3.DatabaseError as trouble:
                if "decode" in str(trouble):  # one row's text is none: that row is damaged, not the cache
                    self._troubles.append("a row of the cache can't be read and was passed over")
                    return None
                if isinstance(trouble, sqlite3.OperationalError) and "malformed" not in str(trouble):
                    self._unusable = True  # read-only or full: this run goes on without
                    self._troubles.append(f"the cache can't be used: {trouble}")
                    return None
                self._set_aside(opened, str(trouble))
            except (OSError, UnreadableRow) as trouble:
                self._troubles.append(f"the cache can't be used: {trouble}")
                return None
            except Exception as trouble:
                import diskcache

                if not isinstance(trouble, diskcache.Timeout):
                    raise
                self._troubles.append("the cache was busy with another process for too long")
                return None
        self._unusable = True
        return None

    def _open(self) -> Any:
        if self._opened is None:
            self._opened = self._opened_anew()
        return self._opened

    def _opened_anew(self) -> Any:
        self._refuse_newer()
        import diskcache

        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory.mkdir(mode=0o700, exist_ok=True)
        self._refuse_planted(diskcache.core)
        try:
            return diskcache.Cache(
                str(self.directory),
                timeout=_BUSY_SECONDS,
                disk=_disk_class(),
                eviction_policy="none",
                cull_limit=0,
                size_limit=1 << 62,
                disk_min_file_size=1 << 62,
                statistics=0,
                tag_index=0,
                # Its own defaults take 96 MB of a large cache into memory.
                sqlite_cache_size=128,  # pages
                sqlite_mmap_size=0,
            )
        except UnreadableRow as trouble:
            raise sqlite3.DatabaseError(str(trouble)) from trouble

    def _refuse_newer(self) -> None:
        for found in self.root.glob("records-v*"):
            number = found.name.removeprefix("records-v")
            if number.isdigit() and int(number) > FORMAT:
                raise CacheTooNew(cache=found, readable=f"v{FORMAT}")

    def _refuse_planted(self, known: Any) -> None:
        """Refuse settings that diskcache never wrote: it would make pragmas and arguments of them."""
        try:
            file = f"file:{quote(os.fsencode(self.directory / 'cache.db'))}?mode=rw"
            with contextlib.closing(sqlite3.connect(file, uri=True, timeout=_BUSY_SECONDS)) as con:
                found = con.execute("SELECT key, value FROM Settings").fetchall()
        except sqlite3.OperationalError:
            return  # nothing there yet, or nothing that can be opened: told when it is
        texts = {"eviction_policy": "none", "sqlite_journal_mode": "wal"}
        for key, value in found:
            ours = key in known.DEFAULT_SETTINGS or key in known.METADATA
            if not ours or not (isinstance(value, int) or value == texts.get(key)):
                raise sqlite3.DatabaseError("a setting that is none of ours")

    def _set_aside(self, broken: Any, why: str) -> None:
        if broken is not None:
            broken.close()
        self._opened = None
        aside = self.root / f"aside-{os.urandom(4).hex()}"
        with contextlib.suppress(FileNotFoundError):  # another process has done it
            self.directory.rename(aside)
        self._troubles.append(
            f"the cache is damaged ({why}); it was set aside as {aside.name} and counts as empty"
        )


def _key(key: object) -> bytes:
    with contextlib.suppress(ValueError, TypeError):
        raw = bytes.fromhex(key)  # type: ignore[arg-type] # what is no text is no key
        if len(raw) == DIGEST_SIZE:
            return raw
    raise UnreadableRow("a key is no digest")


def _rows(cache: Any, keys: Sequence[str]) -> list[tuple[bytes, bytes]]:
    """Return the rows of *keys* as (key, value)."""
    from diskcache.core import MODE_RAW

    marks = ",".join("?" * len(keys))
    query = f"SELECT key, mode, filename, value FROM Cache WHERE raw = 1 AND key IN ({marks})"
    rows = cache._sql(query, [_key(key) for key in keys]).fetchall()  # noqa: SLF001 - its own call asks for one row at a time
    for _, mode, filename, value in rows:
        if mode != MODE_RAW or filename is not None or not isinstance(value, bytes):
            raise UnreadableRow("a value is not inline bytes")
    return [(key, value) for key, _, _, value in rows]


class UnreadableRow(Exception):
    """A row of the cache that is neither digest nor inline bytes."""


def _disk_class() -> Any:
    import diskcache

    class PlainDisk(diskcache.Disk):  # type: ignore[misc] # diskcache has no types
        """Digests and inline bytes; nothing is ever unpickled, opened or unlinked for a row."""

        def put(self, key: object) -> tuple[sqlite3.Binary, bool]:
            return sqlite3.Binary(_key(key)), True

        def get(self, key: object, raw: object) -> str:
            if not raw or not isinstance(key, bytes):
                raise UnreadableRow("a key is no digest")
            return key.hex()

        def store(
            self,
            value: object,
            read: object,
            key: object = None,  # noqa: ARG002 - diskcache passes it by name
        ) -> tuple[int, int, None, sqlite3.Binary]:
            if read or not isinstance(value, bytes):
                raise UnreadableRow("a value is not bytes")
            return 0, diskcache.core.MODE_RAW, None, sqlite3.Binary(value)

        def fetch(self, mode: object, filename: object, value: object, read: object) -> bytes:
            if (
                mode != diskcache.core.MODE_RAW
                or filename is not None
                or read
                or not isinstance(value, bytes)
            ):
                raise UnreadableRow("a value is not inline bytes")
            return value

        def remove(self, *_paths: object) -> None:
            """Rows of ours have no files, and a planted row's file is none of our business."""

    return PlainDisk
