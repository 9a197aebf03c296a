"""A cache file that somebody else wrote into: nothing in it is executed, and nothing outside the cache is read or deleted."""

from __future__ import annotations

import os
import pickle
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import here
from conftest import Sandbox

from cogbuild.cache import Cache

pytestmark = pytest.mark.slow

COLUMNS = (
    "key",
    "raw",
    "store_time",
    "expire_time",
    "access_time",
    "access_count",
    "tag",
    "size",
    "mode",
    "filename",
    "value",
)
#: Everything that opens the cache.
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("cache", "ls"),
    ("cache", "stats"),
    ("cache", "verify"),
    ("adapt", "--force"),
    ("doctor",),
    ("cache", "gc"),
    ("adapt",),
)


class _Bomb:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def planted(box: Sandbox) -> Iterator[tuple[Sandbox, sqlite3.Connection]]:
    """A sandbox with one record, and its cache file opened; the record's row can be found by its rowid, 1."""
    box.adapter("one")
    box.add("a")
    assert box.adapt().ran == ["a one"]
    (file,) = (box.data / "cache").glob("records-v*/cache.db")
    con = sqlite3.connect(file)
    assert con.execute("SELECT count(*) FROM Cache").fetchone() == (1,)
    yield box, con
    con.close()
    shutil.rmtree(box.data / "cache", ignore_errors=True)


def everything(box: Sandbox, con: sqlite3.Connection) -> None:
    """Run every command that opens the cache, and ask the cache itself; nothing outside may have moved."""
    mark, outside = box.root / "executed", box.root / "outside"
    outside.write_text("mine")
    os.utime(outside, (1, 2))  # a time of access that the first reading moves
    inside = outside.stat()
    con.commit()
    con.close()
    key = "0" * 64
    with box.project() as project:
        found = project.cache
        for name in [key, *found.keys()]:
            found.get(name)
            found.raw(name)
        found.remove(key)
    for words in COMMANDS:
        assert here(box, *words).code in (0, 1, 3), words
        assert not mark.exists(), words
    cache = Cache(box.data / "cache")
    cache.compact()
    cache.close()
    assert not mark.exists()
    assert outside.stat() == inside


def pickled(box: Sandbox, protocol: int) -> bytes:
    """Return a pickle that leaves a mark."""
    return pickle.dumps(_Bomb(box.root / "executed"), protocol)


def test_the_bomb_works(box: Sandbox) -> None:
    """Who loads the pickle leaves the mark; so its absence says something."""
    pickle.loads(pickled(box, 4))
    assert (box.root / "executed").is_dir()


@pytest.mark.parametrize("column", COLUMNS)
def test_a_pickle_in_any_column_is_never_loaded(
    planted: tuple[Sandbox, sqlite3.Connection], column: str
) -> None:
    """In the record's own row and in a new one, whatever the row says of how to read it."""
    box, con = planted
    bomb = pickled(box, 4)
    for mode in (1, 2, 3, 4):
        con.execute(
            "INSERT INTO Cache (key, raw, store_time, expire_time, access_time, access_count, tag, size, mode, filename,"
            " value) VALUES (?, 0, 1, NULL, 1, 0, NULL, 0, ?, NULL, ?)",
            (pickled(box, 2) + bytes([mode]), mode, bomb),
        )
        con.execute(
            "INSERT INTO Cache (key, raw, store_time, access_time, mode, value) VALUES (?, 1, 1, 1, ?, ?)",
            (bytes(31) + bytes([mode]), mode, bomb),
        )
    con.execute(f"UPDATE Cache SET {column} = ? WHERE rowid = 1", (bomb,))
    if column in ("filename", "value"):
        con.execute("UPDATE Cache SET mode = 4 WHERE rowid = 1")
    everything(box, con)


PLACES = {
    "absolute": "{outside}",
    "upwards": "../../../../outside",
    "of the cache": "cache.db",
    "device": "/dev/zero",
}


@pytest.mark.parametrize("place", PLACES)
def test_a_file_that_a_row_names_is_neither_read_nor_deleted(
    planted: tuple[Sandbox, sqlite3.Connection], place: str
) -> None:
    """Whatever a row says of its file, in the record's row and in those that have expired long ago."""
    box, con = planted
    name = PLACES[place].format(outside=box.root / "outside")
    con.execute("UPDATE Cache SET filename = ?, mode = 2, value = NULL WHERE rowid = 1", (name,))
    con.executemany(
        "INSERT INTO Cache (key, raw, store_time, expire_time, access_time, mode, filename) VALUES (?, 1, 1, ?, 1, ?, ?)",
        [
            (bytes(30) + bytes([mode, old]), old or None, mode, name)
            for mode in (1, 2, 3, 4)
            for old in (0, 2)
        ],
    )
    everything(box, con)


@pytest.mark.parametrize(
    "setting",
    [
        "count",
        "cull_limit",
        "disk_min_file_size",
        "disk_pickle_protocol",
        "eviction_policy",
        "hits",
        "misses",
        "size",
        "size_limit",
        "sqlite_auto_vacuum",
        "sqlite_cache_size",
        "sqlite_journal_mode",
        "sqlite_mmap_size",
        "sqlite_synchronous",
        "statistics",
        "tag_index",
        "disk_planted",
        "sqlite_planted",
        "planted",
    ],
)
@pytest.mark.parametrize("kind", ["pickle", pytest.param("text", marks=pytest.mark.slow)])
def test_a_planted_setting_is_harmless(
    planted: tuple[Sandbox, sqlite3.Connection], setting: str, kind: str
) -> None:
    """Settings that are no numbers or that nobody knows neither run anything nor stop a run with a traceback."""
    box, con = planted
    value: object = pickled(box, 4) if kind == "pickle" else "x; ATTACH DATABASE '../../../executed' AS y"
    con.execute("INSERT OR REPLACE INTO Settings (key, value) VALUES (?, ?)", (setting, value))
    everything(box, con)


def test_planted_triggers_and_views_reach_nothing_outside(
    planted: tuple[Sandbox, sqlite3.Connection],
) -> None:
    """A trigger can change the cache's own rows, and those are checked; it runs nothing and opens no file."""
    box, con = planted
    con.execute("CREATE TRIGGER planted AFTER INSERT ON Cache BEGIN UPDATE Cache SET value = x'00'; END")
    everything(box, con)
