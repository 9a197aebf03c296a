"""What the database keeps small comes out as it went in."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from characters import CHARACTERS
from conftest import Sandbox
from hypothesis import given
from hypothesis import strategies as st

from cogbuild.cache import Record
from cogbuild.database import Database, models, pairs
from cogbuild.database.packing import (
    attempt_bytes,
    attempt_name,
    name_number,
    pack_manifests,
    shared,
    unpack_manifests,
)
from cogbuild.database.pairs import Artifact, dump_artifacts, load_artifacts
from cogbuild.fingerprint.manifest import PARTS, Manifest, Row, rows_part

KNOWN = [rows_part([("row", str(number))]) for number in range(4)]
DIGESTS = st.sampled_from([part.digest for part in KNOWN]) | st.binary(min_size=32, max_size=32).map(
    bytes.hex
)
TEXT = st.text(CHARACTERS.filter(lambda one: one >= " "), min_size=1)
ROWS = st.lists(
    st.builds(Row, st.sampled_from(PARTS) | TEXT, DIGESTS, st.just(value=True))
    | st.builds(Row, st.sampled_from(PARTS) | TEXT, TEXT, st.just(value=False))
)


@pytest.fixture(scope="module")
def con(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """A database with some parts."""
    database = Database(tmp_path_factory.mktemp("data") / "cog.db")
    database.write(lambda con: models.put_parts(con, KNOWN))
    yield database.con
    database.close()


@given(rows=ROWS)
def test_a_manifest_comes_out_as_it_went_in(con: sqlite3.Connection, rows: list[Row]) -> None:
    """Whatever its rows, with parts that are kept and parts that are not."""
    blob = Manifest(tuple(rows)).encode()
    (packed,) = pack_manifests(con, [blob])
    assert unpack_manifests(con, [packed, packed]) == [blob, blob]
    assert len(packed) <= len(blob)


def test_a_manifest_of_parts_is_their_numbers(con: sqlite3.Connection) -> None:
    """Three parts take fifteen bytes."""
    rows = [Row(label, part.digest, part=True) for label, part in zip(PARTS[:3], KNOWN, strict=False)]
    assert len(pack_manifests(con, [Manifest(tuple(rows)).encode()])[0]) == 15


def test_a_part_that_is_gone_gives_another_key(box: Sandbox) -> None:
    """A manifest whose part was deleted reads with zeros, and an audit finds that it does not give its key."""
    box.adapter("one")
    box.add("a")
    box.adapt()
    with box.project() as project:
        (outcome,) = pairs.outcomes(project.con).values()
        digest = Manifest.decode(outcome.manifest).rows[0].value
        kept = models.part(project.con, digest)
        assert kept is not None
        number = project.con.execute(
            "SELECT pid FROM parts WHERE digest = ?", (bytes.fromhex(digest),)
        ).fetchone()
        project.database.write(lambda con: con.execute("DELETE FROM parts WHERE pid = ?", number).rowcount)
        assert any(item.endswith("the manifest of 1:one does not give its key") for item in box.audit())
        project.database.write(
            lambda con: (
                con.execute(
                    "INSERT INTO parts VALUES (?, ?, ?, ?)", (*number, bytes.fromhex(digest), *kept)
                ).rowcount
            )
        )


@pytest.mark.parametrize("name", ["0660fa88239e0f3060", "", "a", "abc", "ABCD", "x1", "ff 00"])
def test_names_of_attempts(name: str) -> None:
    """A name is what it was, whether it is hex digits or not."""
    assert attempt_name(attempt_bytes(name)) == name


def test_shared_texts_are_kept_once(con: sqlite3.Connection) -> None:
    """The same text has the same number."""
    assert shared(con, "[]") == shared(con, "[]") != shared(con, "[1]")


def test_artifacts_as_json() -> None:
    """Where a published artifact is kept follows from its digest; any other place is kept as it is."""
    digest = "ab" * 32
    artifacts = (
        Artifact("", f"{digest[:2]}/{digest[2:]}/m.onnx", "application/onnx", digest, 3, published=True),
        Artifact("moved", "elsewhere/m.onnx", None, digest, 3, published=True),
        Artifact("uri", "s3://a/b"),
        Artifact("image", "r/i@sha256:x", digest="sha256:x"),
    )
    text = dump_artifacts(artifacts)
    assert load_artifacts(text) == artifacts
    assert text.startswith(
        f'[{{"digest":"{digest}","file":"m.onnx","media_type":"application/onnx","size":3}},'
    )


def test_records_are_bound_to_their_key() -> None:
    """A record comes out as it went in, and not under another key."""
    manifest = Manifest((Row("model", "cd" * 32, part=True), Row("needs:x", "a\tb")))
    record = Record(
        manifest.key, manifest.encode(), (), "no weights\0here", "one", "ff", 1.5, 0.1, 0.2, "said\n"
    )
    assert Record.decode(record.encode(), record.key) == record
    other = replace(record, key="00" * 32)
    assert Record.decode(record.encode(), other.key) is None
    assert Record.decode(b"", record.key) is None


def test_names_lead_to_the_outcomes_that_carry_them(box: Sandbox, tmp_path: Path) -> None:
    """What a pair made before, or was dropped, is named by nobody."""
    script = tmp_path / "said"
    script.write_text("s3://a/1")
    box.adapter("one", f"#!/bin/sh\ncat {script}\n")
    box.add("a")
    box.adapt()
    with box.project() as project:
        assert [item.eid for item in pairs.naming(project.con, "s3://a/1")] == [1]
    script.write_text("s3://a/2")
    box.adapt(force=True)
    with box.project() as project:
        assert list(pairs.naming(project.con, "s3://a/1")) == []
        assert [item.eid for item in pairs.naming(project.con, "s3://a/2")] == [1]
        assert project.con.execute("SELECT name FROM named").fetchall() == [(name_number("s3://a/2"),)]
        project.database.write(lambda con: pairs.drop_outcome(con, 1, 1))
        assert list(pairs.naming(project.con, "s3://a/2")) == []
        assert project.con.execute("SELECT name FROM named").fetchall() == []
