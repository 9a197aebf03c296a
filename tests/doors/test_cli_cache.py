"""``cogbuild cache``: records listed, opened, compared, verified; room made."""

from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING

import pytest

from cogbuild import library
from cogbuild.database import models

if TYPE_CHECKING:
    from conftest import Sandbox
    from door import Door

pytest_plugins = ["door"]


def keys(cogbuild: Door) -> list[str]:
    """Return the keys of all records, the newest first."""
    return [row["key"] for row in cogbuild("cache", "ls", "--json").json["records"]]


def two_versions(box: Sandbox) -> None:
    """Build a model, and build it again with another parameter."""
    box.adapter("one", params={"level": 1})
    box.add("a")
    box.adapt()
    box.adapter("one", params={"level": 2})
    box.adapt()


def remove(box: Sandbox) -> None:
    """Let go of every model."""
    with box.project() as project:
        for entry in models.entries(project.con):
            library.remove(project, entry)


# -- ls, show, diff ---------------------------------------------------------------------------------------------------


def test_records_are_listed_newest_first(box: Sandbox, cogbuild: Door) -> None:
    """Key, adapter, age, cost, and what was left, be it a file or a reason."""
    box.adapter("no", '#!/bin/sh\necho "only for tensors" >&2\nexit 100\n', api=1)
    box.add("a")
    box.adapt()
    box.adapter("one")
    box.adapt()
    said = re.sub(r" \d s", " 0 s", cogbuild("cache", "ls").text)
    assert said.splitlines() == [
        "key           adapter  age   took  left",
        "ID  one      0 s  T s  made.txt",
        "ID  no       0 s  T s  not applicable: only for tensors",
    ]
    rows = cogbuild("cache", "ls", "--adapter", "no", "--json").json["records"]
    assert [row.pop("adapter") for row in rows] == ["no"]
    assert set(rows[0]) == {"key", "attempt", "made", "seconds", "cpu_seconds", "not_applicable", "artifacts"}
    assert rows[0]["not_applicable"] == "only for tensors"


def test_an_empty_cache(box: Sandbox, cogbuild: Door) -> None:
    """Nothing was built yet, and that is no error."""
    assert cogbuild("cache", "ls").out == "no records\n"
    assert cogbuild("cache", "stats").out.splitlines()[-1] == "0 environments, 0 B"
    assert cogbuild("cache", "verify").out == "0 intact\n"


def test_a_record_is_shown_with_its_rows(box: Sandbox, cogbuild: Door) -> None:
    """Any prefix of the key will do; the manifest's parts are opened, and files are named by their paths."""
    two_versions(box)
    newest, _ = keys(cogbuild)
    said = cogbuild("cache", "show", newest[:8])
    lines = said.text.splitlines()
    assert lines[0] == f"key      {newest}"
    assert lines[1:3] == ["pair     local/a@ID:one", "adapter  one"]
    assert "left     file:///STORE/made.txt" in lines
    rows = [line.split()[0] for line in lines[lines.index("rows") + 1 :]]
    assert rows[:2] == ["format", "platform"]
    assert {"adapter:adapter.sh", "model:weights.bin", "COG_MODEL_ID", "param:level"} <= set(rows)
    found = cogbuild("cache", "show", newest, "--json").json
    assert set(found) == {"key", "record", "pairs", "rows"}
    assert found["rows"]["param:level"] == "2"
    assert found["rows"]["model:weights.bin"].startswith("file ")


def test_the_key_of_an_outcome_can_be_shown_without_a_record(box: Sandbox, cogbuild: Door) -> None:
    """The cache may be gone; the database still knows what counted."""
    two_versions(box)
    newest, _ = keys(cogbuild)
    with box.project() as project:
        project.cache.remove(newest)
    said = cogbuild("cache", "show", newest[:12])
    assert "record  none in the cache" in said.out
    assert "param:level" in said.out


def test_two_keys_are_compared_row_by_row(box: Sandbox, cogbuild: Door) -> None:
    """Both values of each row that moved; a file by its path."""
    box.adapter("one", params={"level": 1})
    box.add("a")
    box.adapt()
    box.adapter("one", params={"level": 2})
    box.add("a", {"weights.bin": "other", "new.txt": "new"})
    box.adapt()
    first, *both = reversed(keys(cogbuild))
    rows = [cogbuild("cache", "show", key, "--json").json["rows"] for key in both]
    old, new = both if "model:new.txt" in rows[1] else reversed(both)
    said = cogbuild("cache", "diff", first[:9], old[:9])
    assert (said.text, said.code) == ("param:level  1 → 2\n", 1)
    rows = cogbuild("cache", "diff", old, new, "--json").json["rows"]
    moved = {row["label"]: (row["before"], row["after"]) for row in rows}
    assert set(moved) == {"COG_MODEL_ID", "model:weights.bin", "model:new.txt"}
    assert moved["model:new.txt"][0] is None
    assert re.fullmatch(r"file [0-9a-f]{64}", moved["model:weights.bin"][1])
    said = cogbuild("cache", "diff", old, old)
    assert (said.out, said.code) == ("no row differs\n", 0)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "123456",
            (
                "no record and no outcome has the key 123456\n"
                "hint: list the records with `cogbuild cache ls`\n"
            ),
        ),
        (
            "xyz",
            (
                "no record and no outcome has the key xyz\n  expected  4 to 64 hex digits\n"
                "hint: list the records with `cogbuild cache ls`\n"
            ),
        ),
    ],
)
def test_a_key_that_nothing_has(box: Sandbox, cogbuild: Door, key: str, message: str) -> None:
    """It is said, and what a key looks like where this is none."""
    said = cogbuild("cache", "show", key)
    assert (said.err, said.code) == (message, 2)


def test_a_prefix_of_several_keys(box: Sandbox, cogbuild: Door) -> None:
    """More digits are asked for, and the keys shown."""
    two_versions(box)
    twin = keys(cogbuild)[0][:63]
    with box.project() as project:
        key = twin + ("0" if keys(cogbuild)[0][63] != "0" else "1")
        project.cache._try(lambda cache: cache.set(key, b"x"))
    said = cogbuild("cache", "show", twin[:20])
    assert cogbuild("cache", "verify").code == 1  # which takes the planted one away again
    assert (said.err, said.code) == (
        (
            f"{twin[:20]} could be more than one key\n  could be  {twin[:16]}, {twin[:16]}\n"
            "hint: give more digits of the key\n"
        ),
        2,
    )


# -- stats, verify ----------------------------------------------------------------------------------------------------


def test_what_the_cache_was_good_for(box: Sandbox, cogbuild: Door) -> None:
    """Runs, hits, misses and restores by adapter, with the time saved; a forced run asks the cache nothing."""
    two_versions(box)
    box.adapter("one", params={"level": 1})
    assert box.adapt().ran == []
    box.adapt(force=True)
    lines = cogbuild("cache", "stats").text.splitlines()
    assert [line.split()[:5] for line in lines[:2]] == [
        ["adapter", "runs", "hits", "misses", "restored"],
        ["one", "3", "1", "2", "1"],
    ]
    assert lines[2].startswith("2 records, ")
    found = cogbuild("cache", "stats", "--json").json
    (row,) = found["adapters"]
    assert row.pop("saved") > 0
    assert row == {"adapter": "one", "runs": 3, "misses": 2, "restored": 1, "hits": 1}
    assert found["records"]["count"] == 2
    assert found["environments"] == {"count": 0, "bytes": 0}


def test_damaged_records_are_found_and_removed(box: Sandbox, cogbuild: Door) -> None:
    """A flipped bit in a record, a row that is no record, and a record whose artifact is not there any more."""
    for level in range(4):
        box.adapter("one", params={"level": level})
        box.add("a")
        box.adapt()
    assert cogbuild("cache", "verify").out == "4 intact\n"
    _, flipped, text, gone = keys(cogbuild)
    with box.project() as project:
        record = project.cache.get(gone)
        assert record is not None
        project.objects.withdraw(record.artifacts[0].digest or "")
        at = project.cache.directory / "cache.db"
    con = sqlite3.connect(at)
    (value,) = con.execute("SELECT value FROM Cache WHERE key = ?", (bytes.fromhex(flipped),)).fetchone()
    bad = value[:-1] + bytes([value[-1] ^ 1])
    con.execute("UPDATE Cache SET value = ? WHERE key = ?", (bad, bytes.fromhex(flipped)))
    con.execute("UPDATE Cache SET value = CAST(value AS TEXT) WHERE key = ?", (bytes.fromhex(text),))
    con.commit()
    con.close()
    said = cogbuild("cache", "verify")
    assert set(said.out.splitlines()) == {
        "a row of the cache can't be read and was passed over",
        f"removed {flipped[:12]}: it is damaged",
        f"removed {text[:12]}: it is damaged",
        f"removed {gone[:12]}: its artifact made.txt: it is not there",
        "1 intact, 3 removed",
    }
    assert said.code == 1
    said = cogbuild("cache", "verify", "--json")
    assert (said.json, said.code) == ({"intact": 1, "removed": [], "troubles": []}, 0)


# -- gc ---------------------------------------------------------------------------------------------------------------


def test_a_collection_tells_bytes_by_kind(box: Sandbox, cogbuild: Door) -> None:
    """A dry run lists each thing and takes nothing; then it goes."""
    box.adapter("one")
    box.add("a")
    box.adapt()
    remove(box)
    lines = cogbuild("cache", "gc", "--dry-run", "--older-than", "0s").text.splitlines()
    assert [line.split("  ")[0] for line in lines[: lines.index("")]] == [
        "kind",
        "sealed trees",
        "artifacts",
        *["objects"] * 3,
        "records",
        "rows",
    ]
    assert lines[-1].endswith(" would go")
    said = cogbuild("cache", "gc", "--older-than", "0s")
    table = dict(re.findall(r"^(\w+(?: \w+)*) +(\d+) ", said.out, re.MULTILINE))
    assert table.pop("rows") > "0"
    assert table == {"sealed trees": "1", "artifacts": "1", "objects": "3", "records": "1"}
    assert said.out.splitlines()[-1].endswith(" collected")
    assert (said.err, said.code) == ("", 0)
    assert cogbuild("cache", "gc").out == "0 B collected\n"


def test_a_collection_as_json(box: Sandbox, cogbuild: Door) -> None:
    """Every kind is there, also those of which nothing goes; items only in a dry run."""
    (box.data / "objects").mkdir(parents=True)
    (box.data / "objects" / ".tmp-1").write_text("123")
    found = cogbuild("cache", "gc", "--json", "--dry-run").json
    nothing = {"count": 0, "bytes": 0}
    assert found == {
        "dry_run": True,
        "complete": True,
        "artifact_store_left": None,
        "bytes": 3,
        "kinds": {
            "leftovers": {"count": 1, "bytes": 3},
            "sealed trees": nothing,
            "artifacts": nothing,
            "copies": nothing,
            "objects": nothing,
            "environments": nothing,
            "logs": nothing,
            "jobs": nothing,
            "records": nothing,
            "rows": nothing,
        },
        "items": [{"kind": "leftovers", "name": str(box.data / "objects" / ".tmp-1"), "bytes": 3}],
    }
    assert cogbuild("cache", "gc", "--json").json["items"] == []


def test_a_collection_beside_a_build_says_what_it_left(box: Sandbox, cogbuild: Door) -> None:
    """It is no failure: the rest goes when the build has ended."""
    from cogbuild.using import using

    box.adapter("one")
    box.add("a")
    with using(box.data):
        said = cogbuild("cache", "gc")
    assert (said.err, said.code) == (
        "a build runs: what it could use was left alone; collect again when it has ended\n",
        0,
    )


def test_an_artifact_store_elsewhere_is_left_alone_unless_it_is_ours(box: Sandbox, cogbuild: Door) -> None:
    """Another data directory may use the same store, and nothing here knows of it."""
    store = box.root / "store"
    box.configure(artifact_store=f"file:{store}")
    box.adapter("one")
    box.add("a")
    box.adapt()
    remove(box)
    said = cogbuild("cache", "gc", "--older-than", "0s")
    assert said.err == (
        f"artifacts in {store} were left alone: another data directory may use them; "
        "--artifact-store takes those that this one does not need\n"
    )
    assert [path.name for path in store.rglob("made.txt")] == ["made.txt"]
    said = cogbuild("cache", "gc", "--artifact-store")
    assert (said.err, said.out.splitlines()[-1]) == ("", "5 B collected")
    assert list(store.rglob("made.txt")) == []


@pytest.mark.parametrize("text", ["30", "x", "-1d", "1y"])
def test_a_time_that_is_none(box: Sandbox, cogbuild: Door, text: str) -> None:
    """The form is said."""
    said = cogbuild("cache", "gc", "--older-than", text)
    assert said.err.splitlines()[-1] == (
        f"Error: Invalid value for '--older-than': '{text}' is no time such as 30d, 12h or 45m"
    )
    assert said.code == 2


def test_a_damaged_cache_is_told_of(box: Sandbox, cogbuild: Door) -> None:
    """The run that sets it aside says so above its totals, and so does a listing that is empty for that reason."""
    box.adapter("count")
    for name in ("a", "b"):
        box.add(name)
        damaged = next((box.root / "site/.cogbuild/cache").glob("records-*/cache.db"), None)
        if damaged is not None:
            damaged.write_bytes(b"no database" * 100)
        said = cogbuild("adapt")
    assert [line.partition(" (")[0] for line in said.out.splitlines()[-2:]] == [
        "note: the cache is damaged",
        "1 built, 1 fresh",
    ]
    next((box.root / "site/.cogbuild/cache").glob("records-*/cache.db")).write_bytes(b"no database" * 100)
    listed = cogbuild("cache", "ls")
    assert (listed.out, listed.err.partition(" (")[0]) == ("no records\n", "note: the cache is damaged")
