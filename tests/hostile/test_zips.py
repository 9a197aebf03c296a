"""Zips that were made to harm, through the command: refused in words, with next to nothing written.

Every way in which a zip can be wrong is in ``tests/unit/test_archive.py``; here is what reaches the disk and the screen.
"""

from __future__ import annotations

import io
import shutil
import struct
import zipfile
import zlib

import pytest
from commands import Said, cogbuild, peak
from conftest import MODEL, PREDICT, Sandbox

pytestmark = pytest.mark.slow

needs_prlimit = pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit is not installed")
#: No file may grow beyond; a database and its log need a little.
ONE_MB = ("prlimit", "--fsize=1000000")


def model(extra: dict[str, bytes], *, big: int = 0) -> bytes:
    """Return a zip of a model with more files; *big* is the size of one of zeros."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in {"cog.yaml": MODEL.encode(), "predict.py": PREDICT.encode(), **extra}.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
        if big:
            bomb = zipfile.ZipInfo("bomb")
            bomb.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(bomb, "w") as file:
                for _ in range(big >> 20):
                    file.write(bytes(1 << 20))
    return buffer.getvalue()


def lying(data: bytes, name: bytes, size: int) -> bytes:
    """Return the zip with another size of *name*, in its list and before its data."""
    for signature, at, length in ((b"PK\3\4", 22, 30), (b"PK\1\2", 24, 46)):
        start = -1
        while (start := data.find(signature, start + 1)) >= 0:
            if data[start + length : start + length + len(name)] == name:
                data = data[: start + at] + struct.pack("<L", size) + data[start + at + 4 :]
    return data


def overlapping(count: int) -> bytes:
    """Return the smallest kind of large bomb: many names that share one compressed file."""
    kernel = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = kernel.compress(bytes(10_000_000)) + kernel.flush()
    crc = zlib.crc32(bytes(10_000_000))
    local = (
        struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 8, 0, 33, crc, len(packed), 10_000_000, 1, 0)
        + b"0"
        + packed
    )
    listed = b"".join(
        struct.pack(
            "<4s6H3L5H2L",
            b"PK\1\2",
            20,
            20,
            0,
            8,
            0,
            33,
            crc,
            len(packed),
            10_000_000,
            len(str(n)),
            0,
            0,
            0,
            0,
            0,
            0,
        )
        + str(n).encode()
        for n in range(count)
    )
    return local + listed + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(listed), len(local), 0)


def add(box: Sandbox, data: bytes, *options: str, wrapper: tuple[str, ...] = ()) -> Said:
    """Add a zip as a model."""
    (box.root / "m.zip").write_bytes(data)
    return cogbuild(box, "models", "add", str(box.root / "m.zip"), *options, wrapper=wrapper)


def left(box: Sandbox) -> list[str]:
    """Return the files of the data directory that are neither the database nor empty."""
    kept = (path for path in box.data.rglob("*") if path.is_file() and not path.name.startswith("cog.db"))
    return [str(path) for path in kept if path.stat().st_size]


@needs_prlimit
def test_a_bomb_that_lies_is_stopped_at_what_it_declares(box: Sandbox) -> None:
    """42 kB that declare 1000 bytes and unpack to 42 MB: no file of a megabyte was ever written."""
    data = lying(model({}, big=42 << 20), b"bomb", 1000)
    assert len(data) < 50_000
    said = add(box, data, wrapper=ONE_MB)
    assert said.code == 2
    assert "bomb in " in said.text
    assert "unpacks to more than the 1000 bytes that it declares" in said.text
    assert left(box) == []


@needs_prlimit
def test_a_bomb_that_tells_the_truth_is_refused_before_it_is_unpacked(box: Sandbox) -> None:
    """What is declared is over the limit: said at once, whatever the zip's own size."""
    data = model({}, big=42 << 20)
    said = add(box, data, "--zip-limit", "10MB", wrapper=ONE_MB)
    assert said.code == 2
    assert "more than the limit of" in said.text
    assert left(box) == []


@needs_prlimit
def test_names_that_share_bytes_are_refused_unread(box: Sandbox) -> None:
    """12 kB that would be 2.5 GB: two entries that lie upon each other are no zip of ours."""
    data = overlapping(250)
    assert len(data) < 30_000
    said = add(box, data, wrapper=ONE_MB)
    assert said.code == 2
    assert "share bytes" in said.text or "says two things" in said.text
    assert left(box) == []


def test_a_zip_in_a_zip_stays_one(box: Sandbox) -> None:
    """Nothing is unpacked that the model holds: 42.zip is a file like any other."""
    inner = model({}, big=42 << 20)
    assert add(box, model({"inner.zip": inner})).code == 0
    box.adapter("one", '#!/bin/sh\nstat -c %s inner.zip > "$COG_OUTPUT_DIR/x"; echo x\n')
    run = box.adapt()
    assert box.artifact(run, "m one").read_text() == f"{len(inner)}\n"


def test_a_large_honest_zip_takes_little_memory(box: Sandbox) -> None:
    """1 GB of zeros is unpacked, hashed and stored in the memory of a small one."""
    (box.root / "m.zip").write_bytes(model({}, big=1 << 30))
    assert peak(box, "models", "add", str(box.root / "m.zip")) < 100


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"a\x00.py", "a\\x00.py"),
        (b"\x1b[2J/../x", "\\x1b[2J/../x"),
        ("\u202e/../x".encode(), "\\u202e/../x"),
        (b"../a\nb", "../a\\nb"),
        (b"\x9b/../x", "/../x"),
    ],
)
def test_names_that_are_refused_are_shown_safely(box: Sandbox, name: bytes, shown: str) -> None:
    """The name stands in the message, and does nothing to the terminal."""
    placeholder = b"p" * len(name)
    data = model({placeholder.decode(): b"x"}).replace(placeholder, name)
    said = add(box, data)
    assert said.code == 2
    assert shown in said.text
    assert all(char.isprintable() or char == "\n" for char in said.text)


@pytest.mark.parametrize("tail", [b"x", b"PK\5\6", bytes(100)])
def test_trailing_data_is_refused(box: Sandbox, tail: bytes) -> None:
    """Bytes behind the end belong to nobody."""
    said = add(box, model({}) + tail)
    assert said.code == 2
    assert left(box) == []


@pytest.mark.parametrize("field", range(4, 30))
def test_a_header_that_says_otherwise_is_refused_or_means_nothing(box: Sandbox, field: int) -> None:
    """Any byte of the header before the data changed: refused, or the very model that the list describes."""
    from cogbuild import library
    from cogbuild.errors import CogbuildError

    data = model({"a": b"content"})
    at = next(
        start
        for start in range(len(data))
        if data[start : start + 4] == b"PK\3\4"
        and data[start + 30 : start + 31] == b"a"
        and data[start + 26] == 1
    )
    changed = data[: at + field] + bytes([data[at + field] ^ 0x41]) + data[at + field + 1 :]
    (box.root / "good.zip").write_bytes(data)
    (box.root / "bad.zip").write_bytes(changed)
    with box.project() as project:
        good = library.add(project, box.root / "good.zip", repo="a/good").model
        try:
            bad: str | None = library.add(project, box.root / "bad.zip", repo="a/bad").model
        except CogbuildError as refusal:
            bad = None if refusal.exit_code == 2 else "refused as something else"
        assert bad in (None, good)
