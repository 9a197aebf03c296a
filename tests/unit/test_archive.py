"""Zips, as the world makes them and as an attacker would: unpacked exactly, or refused with nothing left behind."""

from __future__ import annotations

import io
import os
import random
import stat
import struct
import tracemalloc
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cogbuild.archive import extract
from cogbuild.archive._source import Source
from cogbuild.archive._structure import read_structure
from cogbuild.errors.uploads import ZipLinkLeaves, ZipRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 1 << 20
FILE, EXECUTABLE, LINK, DIRECTORY = 0o100644, 0o100755, 0o120777, 0o040755
AGAIN = "\nhint: copy or upload it again"
REZIP = "\nhint: zip the directory again"


@dataclass
class Member:
    """One file of a zip made by hand; *own* and *listed* change what its header and the list say of it."""

    name: bytes
    data: bytes = b""
    mode: int = FILE
    method: int = 0
    flags: int = 0
    before: bytes = b""
    after: bytes = b""
    packed: bytes | None = None
    own: dict[str, Any] = field(default_factory=dict)
    listed: dict[str, Any] = field(default_factory=dict)


def build(*members: Member, tail: bytes = b"", comment: bytes = b"", gap: bytes = b"", **end: int) -> bytes:
    """Return a zip with exactly these bytes."""
    body, listing = bytearray(), bytearray()
    for m in members:
        packed = m.data if m.packed is None else m.packed
        said: dict[str, Any] = {
            "name": m.name,
            "flags": m.flags,
            "method": m.method,
            "crc": zlib.crc32(m.data),
            "packed": len(packed),
            "size": len(m.data),
            "extra": b"",
        }
        body += m.before
        own = said | m.own
        listed = said | {"system": 3, "mode": m.mode, "offset": len(body), "disk": 0} | m.listed
        body += (
            struct.pack(
                "<4s5H3L2H", b"PK\3\4", 20, own["flags"], own["method"], 0, 33,
                own["crc"], own["packed"], own["size"], len(own["name"]), len(own["extra"]),
            )
            + own["name"] + own["extra"] + packed + m.after
        )  # fmt: skip
        listing += (
            struct.pack(
                "<4s6H3L5H2L", b"PK\1\2", listed["system"] << 8 | 20, 20, listed["flags"], listed["method"], 0, 33,
                listed["crc"], listed["packed"], listed["size"], len(listed["name"]), len(listed["extra"]),
                0, listed["disk"], 0, listed["mode"] << 16, listed["offset"],
            )
            + listed["name"] + listed["extra"]
        )  # fmt: skip
    body += gap
    said_end = {
        "disk": 0,
        "here": len(members),
        "total": len(members),
        "size": len(listing),
        "offset": len(body),
    }
    e = said_end | end
    record = struct.pack(
        "<4s4H2LH",
        b"PK\5\6",
        e["disk"],
        e["disk"],
        e["here"],
        e["total"],
        e["size"],
        e["offset"],
        len(comment),
    )
    return bytes(body + listing) + record + comment + tail


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def zipped(files: dict[str, bytes | str], **options: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tree(root: Path) -> dict[str, tuple[int, bytes]]:
    """Return everything below *root*: path → (mode with kind, content or target)."""
    found: dict[str, tuple[int, bytes]] = {}
    for directory, names, files in os.walk(root):
        for name in [*names, *files]:
            path = os.path.join(directory, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                content, mode = os.fsencode(os.readlink(path)), stat.S_IFLNK
            else:
                content = b"" if stat.S_ISDIR(mode) else Path(path).read_bytes()
            found[os.path.relpath(path, root)] = (mode, content)
    return found


@pytest.fixture
def into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty directory, beside which zips are named without the way there."""
    monkeypatch.chdir(tmp_path)
    target = tmp_path / "into"
    target.mkdir()
    return target


def unzip(data: bytes, into: Path, limit: int = LIMIT) -> dict[str, tuple[int, bytes]]:
    extract(io.BytesIO(data), into, limit=limit)
    return tree(into)


def refusal(data: bytes, into: Path, limit: int = LIMIT) -> str:
    """Return the message of the refusal; nothing may be left of what was refused."""
    Path("model.zip").write_bytes(data)
    with pytest.raises(ZipRefused) as caught:
        extract(Path("model.zip"), into, limit=limit)
    assert caught.value.exit_code == 2
    assert os.listdir(into) == []
    return str(caught.value)


# What works


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_files_come_back_as_they_were(into: Path, method: int) -> None:
    """Stored and compressed files arrive byte by byte, in directories that the zip need not name."""
    big = random.Random(0).randbytes(700_000) + bytes(200_000)
    found = unzip(zipped({"cog.yaml": "a: 1", "src/deep/x.bin": big, "empty": ""}, compression=method), into)
    assert found == {
        "cog.yaml": (FILE, b"a: 1"),
        "src": (DIRECTORY, b""),
        "src/deep": (DIRECTORY, b""),
        "src/deep/x.bin": (FILE, big),
        "empty": (FILE, b""),
    }


def test_executable_bits_are_kept_and_nothing_else_of_the_mode(into: Path) -> None:
    """Any executable bit makes 0755, everything else is 0644: no setuid, no unreadable files."""
    modes = {b"run": 0o100710, b"suid": 0o104777, b"secret": 0o100400, b"none": 0, b"mac": 0o100755}
    members = [Member(name, mode=mode) for name, mode in modes.items()]
    members[-1].listed["system"] = 19
    found = unzip(build(*members), into)
    assert {name: stat.S_IMODE(mode) for name, (mode, _) in found.items()} == {
        "run": 0o755,
        "suid": 0o755,
        "secret": 0o644,
        "none": 0o644,
        "mac": 0o755,
    }


def test_umask_changes_nothing(into: Path) -> None:
    """The same zip gives the same modes for everybody."""
    before = os.umask(0o077)
    try:
        found = unzip(build(Member(b"d/run", mode=EXECUTABLE), Member(b"f")), into)
    finally:
        os.umask(before)
    assert found == {"d": (DIRECTORY, b""), "d/run": (EXECUTABLE, b""), "f": (FILE, b"")}


def test_zip_made_on_windows_has_plain_files(into: Path) -> None:
    """Where the mode means nothing, nothing is executable."""
    member = Member(b"run.exe", mode=EXECUTABLE, listed={"system": 0})
    assert unzip(build(member), into) == {"run.exe": (FILE, b"")}


def test_empty_directories_are_kept(into: Path) -> None:
    """A directory that the zip names is there, also when nothing is in it."""
    found = unzip(build(Member(b"a/b/", mode=DIRECTORY), Member(b"c/", mode=0)), into)
    assert set(found) == {"a", "a/b", "c"}


def test_directory_that_was_compressed_works(into: Path) -> None:
    """Java packs the nothing of a directory into two bytes."""
    member = Member(b"a/", mode=0, method=8, packed=deflated(b""))
    assert set(unzip(build(member), into)) == {"a"}


def test_names_that_begin_with_a_dot_and_a_slash_work(into: Path) -> None:
    """`tar` writes zips so on macOS and Windows, the directory itself included."""
    members = [Member(b"./", mode=DIRECTORY), Member(b"./a", b"1"), Member(b"./b/", mode=DIRECTORY)]
    assert unzip(build(*members), into) == {"a": (FILE, b"1"), "b": (DIRECTORY, b"")}


def test_symlinks_inside_are_kept(into: Path) -> None:
    """A link is a link again, wherever in the zip it stands; one that leads to nothing stays so."""
    found = unzip(
        build(
            Member(b"bin/run", b"../src/run.py", mode=LINK),
            Member(b"src/run.py", b"print()"),
            Member(b"latest", b"src", mode=LINK, method=8, packed=deflated(b"src")),
            Member(b"later", b"src/not-yet", mode=LINK),
            Member(b"via", b"latest/../bin/run", mode=LINK),
        ),
        into,
    )
    links = {name: target.decode() for name, (mode, target) in found.items() if mode == stat.S_IFLNK}
    assert links == {
        "bin/run": "../src/run.py",
        "latest": "src",
        "later": "src/not-yet",
        "via": "latest/../bin/run",
    }
    assert (into / "via").read_bytes() == b"print()"


@pytest.mark.parametrize(
    "name",
    [
        b"caf\xe9",
        "caf\u00e9".encode(),
        b"two\nlines",
        b"'\"$(x)",
        b"con",
        b"..a",
        b"a..",
        b"...",
        b"n" * 255,
        b" ",
    ],
)
def test_odd_names_keep_their_bytes(into: Path, name: bytes) -> None:
    """A name is bytes: UTF-8 or not, it arrives as it was written."""
    assert unzip(build(Member(name)), into) == {os.fsdecode(name): (FILE, b"")}


def test_names_that_differ_in_case_are_two_names(into: Path) -> None:
    """What Linux keeps apart stays apart."""
    assert set(unzip(build(Member(b"README"), Member(b"readme")), into)) == {"README", "readme"}


def test_entries_may_be_listed_in_another_order(into: Path) -> None:
    """The list need not have the order of the data."""
    data = build(Member(b"a", b"1"), Member(b"b", b"22"))
    cut = data.index(b"PK\1\2")
    first, second = data[cut : cut + 47], data[cut + 47 : cut + 94]
    swapped = data[:cut] + second + first + data[cut + 94 :]
    assert unzip(swapped, into) == {"a": (FILE, b"1"), "b": (FILE, b"22")}


def test_comment_is_no_trailing_data(into: Path) -> None:
    """A comment that the end record declares belongs to the zip."""
    assert set(unzip(build(Member(b"a"), comment=b"made by hand"), into)) == {"a"}


@pytest.mark.parametrize("wide", [False, True])
def test_streamed_zip_works(into: Path, wide: bool) -> None:
    """A writer that can't go back puts checksum and sizes behind the data, in 32 or 64 bits."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise io.UnsupportedOperation

        def seek(self, *_: int) -> int:
            raise io.UnsupportedOperation

    pipe = Pipe()
    with zipfile.ZipFile(cast("BinaryIO", pipe), "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a", "empty"):
            with archive.open(name, "w", force_zip64=wide) as file:
                file.write(b"x" * 1000 if name == "a" else b"")
    assert unzip(pipe.getvalue(), into) == {"a": (FILE, b"x" * 1000), "empty": (FILE, b"")}


def test_descriptor_without_signature_works(into: Path) -> None:
    """The older form of what follows the data has no signature."""
    after = struct.pack("<3L", zlib.crc32(b"hi"), 2, 2)
    member = Member(b"a", b"hi", flags=8, after=after, own={"crc": 0, "packed": 0, "size": 0})
    assert unzip(build(member, Member(b"b")), into) == {"a": (FILE, b"hi"), "b": (FILE, b"")}


def test_zip64_works(into: Path) -> None:
    """Sizes in 64 bits are read where the 32-bit ones refer to them, and so is the end record of zip64."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, archive.open("a", "w", force_zip64=True) as file:
        file.write(b"x" * 10)
    assert unzip(wide_end(buffer.getvalue()), into) == {"a": (FILE, b"x" * 10)}


def wide_end(data: bytes) -> bytes:
    """Return *data* with its end record moved into zip64 ones."""
    at = data.rindex(b"PK\5\6")
    _, _, _, here, total, size, offset, _ = struct.unpack("<4s4H2LH", data[at:])
    wide = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, here, total, size, offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
    return (
        data[:at]
        + wide
        + locator
        + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, *[0xFFFF] * 2, *[0xFFFFFFFF] * 2, 0)
    )


@pytest.mark.slow
def test_65535_files_need_no_zip64(into: Path) -> None:
    """The largest count that fits is a count, not a reference to zip64."""
    data = build(*(Member(b"%d" % i) for i in range(65535)))
    assert len(read_structure(Source(io.BytesIO(data), "x"))) == 65535


def test_a_single_directory_at_the_top_is_not_unwrapped(into: Path) -> None:
    """Whether the zip of a model's parent directory is a model is for the caller to say."""
    assert set(unzip(zipped({"digits/cog.yaml": ""}), into)) == {"digits", "digits/cog.yaml"}


NAMES = st.text("abA.\u00e9\n '%", min_size=1, max_size=6).filter(lambda name: name not in (".", ".."))


@st.composite
def trees(draw: st.DrawFn) -> dict[str, tuple[int, bytes]]:
    """Draw a tree as ``tree`` returns it."""
    found: dict[str, tuple[int, bytes]] = {}
    for parts in draw(st.lists(st.lists(NAMES, min_size=1, max_size=3), max_size=8)):
        paths = ["/".join(parts[:i]) for i in range(1, len(parts) + 1)]
        if (
            any(found.get(path, (DIRECTORY, b""))[0] != DIRECTORY for path in paths[:-1])
            or paths[-1] in found
        ):
            continue
        found |= dict.fromkeys(paths[:-1], (DIRECTORY, b""))
        kind = draw(st.sampled_from([FILE, EXECUTABLE, DIRECTORY, stat.S_IFLNK]))
        content = draw(st.binary(max_size=50)) * draw(st.sampled_from([1, 20_000]))
        if kind == stat.S_IFLNK:
            content = "/".join(draw(st.lists(NAMES, min_size=1, max_size=2))).encode()
        found[paths[-1]] = (kind, b"" if kind == DIRECTORY else content)
    return found


@pytest.mark.parametrize("examples", [20, pytest.param(300, marks=pytest.mark.slow)])
def test_any_tree_comes_back_from_a_zip_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, examples: int
) -> None:
    """Zip and unzip is the identity, whatever the order, the compression and the directories that are named."""

    @settings(max_examples=examples, deadline=None)
    @given(wanted=trees().filter(bool), data=st.data())
    def holds(wanted: dict[str, tuple[int, bytes]], data: st.DataObject) -> None:
        comes_back(tmp_path_factory.mktemp("into"), wanted, data)

    holds()


def comes_back(into: Path, wanted: dict[str, tuple[int, bytes]], data: st.DataObject) -> None:
    """Zip a tree in an order that is drawn, unzip it, and compare."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in data.draw(st.permutations(sorted(wanted))):
            mode, content = wanted[name]
            info = zipfile.ZipInfo(name + "/" * (mode == DIRECTORY))
            info.external_attr = (mode | 0o777 * (mode == stat.S_IFLNK)) << 16
            info.compress_type = data.draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
            archive.writestr(info, content)
    links = {name: content for name, (mode, content) in wanted.items() if mode == stat.S_IFLNK}
    try:
        found = unzip(buffer.getvalue(), into, limit=10 << 20)
    except ZipLinkLeaves:
        assert links
        assert os.listdir(into) == []
    else:
        assert found == wanted


# What is refused


def overlapping() -> bytes:
    """Two entries of which the first is said to contain the second: the structure of the small large bombs."""
    inner = Member(b"b", b"x")
    first = Member(b"a", b"")
    data = build(first, inner)
    size = data.index(b"PK\1\2") - 31
    whole = data[31 : 31 + size]
    crc = zlib.crc32(whole)
    fix = struct.pack("<3L", crc, size, size)
    at = data.index(b"PK\1\2")
    return data[:14] + fix + data[26 : at + 16] + fix + data[at + 28 :]


TWICE = build(Member(b"a", b"1"), Member(b"a", b"2"))
CASES: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", "model.zip is not a zip"),
    "no zip": (b"\x1f\x8b" + b"x" * 100, "model.zip is not a zip"),
    "a zip of nothing": (build(), "model.zip holds nothing"),
    "cut off": (zipped({"a": b"x" * 100})[:-10], "model.zip ends too early" + AGAIN),
    "only the start": (b"PK\3\4", "model.zip ends too early" + AGAIN),
    "something behind": (
        build(Member(b"a"), tail=b"tail"),
        "model.zip holds 4 bytes that belong to none of its files" + REZIP,
    ),
    "something in front": (
        build(Member(b"a", before=b"#!/bin/sh")),
        "model.zip holds 9 bytes that belong to none of its files" + REZIP,
    ),
    "a program in front": (
        b"#!/bin/sh" + build(Member(b"a")),
        "model.zip holds 9 bytes that belong to none of its files" + REZIP,
    ),
    "something between": (
        build(Member(b"a"), Member(b"b", before=b"hidden")),
        "model.zip holds 6 bytes that belong to none of its files\n  after  a" + REZIP,
    ),
    "something before the list": (
        build(Member(b"a"), gap=b"hidden"),
        "model.zip holds 6 bytes that belong to none of its files\n  after  a" + REZIP,
    ),
    "a file that is not listed": (
        build(Member(b"a"), gap=build(Member(b"b"))[:31]),
        "model.zip holds 31 bytes that belong to none of its files\n  after  a" + REZIP,
    ),
    "two ends": (
        build(Member(b"a"), comment=build(Member(b"b"))),
        "model.zip is not built as a zip should be: it ends in two ways",
    ),
    "in parts": (
        build(Member(b"a"), disk=1),
        "model.zip is one part of a zip that was split\nhint: join the parts first",
    ),
    "an entry elsewhere": (
        build(Member(b"a", listed={"disk": 2})),
        "model.zip is one part of a zip that was split\nhint: join the parts first",
    ),
    "count too small": (
        build(Member(b"a"), Member(b"b"), here=1, total=1),
        "model.zip is not built as a zip should be: its list of files is longer than its end says",
    ),
    "count too large": (
        build(Member(b"a"), here=2, total=2),
        "model.zip is not built as a zip should be: its list of files is shorter than its end says",
    ),
    "list too late": (
        build(Member(b"a"), offset=500),
        "model.zip is not built as a zip should be: its list of files is not where it should be",
    ),
    "zip64 missing": (
        build(Member(b"a", listed={"size": 0xFFFFFFFF})),
        "model.zip is not built as a zip should be: a zip64 field is missing",
    ),
    "zip64 elsewhere": (
        build(Member(b"a"))[:-22] + struct.pack("<4sLQL", b"PK\6\7", 0, 0, 1) + build(Member(b"a"))[-22:],
        "model.zip is not built as a zip should be: its zip64 record is not where it should be",
    ),
    "header elsewhere": (
        build(Member(b"a"), Member(b"b")).replace(b"PK\3\4", b"PK\3\5", 1),
        "model.zip is not built as a zip should be: a is not where its list of files says",
    ),
    "upwards": (build(Member(b"../x")), "model.zip names a file outside of it: ../x"),
    "upwards within": (build(Member(b"a/../../x")), "model.zip names a file outside of it: a/../../x"),
    "absolute": (build(Member(b"/etc/passwd")), "model.zip names a file outside of it: /etc/passwd"),
    "drive": (build(Member(b"C:/x")), "model.zip names a file outside of it: C:/x"),
    "backslash": (build(Member(b"..\\x")), "model.zip names a file outside of it: ..\\x"),
    "NUL": (
        build(Member(b"a\0.py")),
        "model.zip has a name that can't be used: a\\x00.py\n  reason  it holds a NUL character",
    ),
    "no name": (
        build(Member(b"")),
        "model.zip has a name that can't be used: \n  reason  a part of it is empty or a dot",
    ),
    "dot": (
        build(Member(b"a/./b")),
        "model.zip has a name that can't be used: a/./b\n  reason  a part of it is empty or a dot",
    ),
    "dot alone": (
        build(Member(b".")),
        "model.zip has a name that can't be used: .\n  reason  a part of it is empty or a dot",
    ),
    "absolute behind a dot": (build(Member(b".//etc")), "model.zip names a file outside of it: .//etc"),
    "the same behind a dot": (build(Member(b"a"), Member(b"./a")), "model.zip has a twice"),
    "two slashes": (
        build(Member(b"a//b")),
        "model.zip has a name that can't be used: a//b\n  reason  a part of it is empty or a dot",
    ),
    "long": (
        build(Member(b"n" * 256)),
        f"model.zip has a name that can't be used: {'n' * 197}...\n  reason  it is too long or too deep",
    ),
    "deep": (
        build(Member(b"/".join([b"d"] * 65))),
        f"model.zip has a name that can't be used: {'/'.join('d' * 65)}\n  reason  it is too long or too deep",
    ),
    "not UTF-8": (
        build(Member(b"caf\xe9", flags=0x800)),
        "model.zip has a name that can't be used: caf\\xe9\n  reason  it is marked as UTF-8 and is not",
    ),
    "escape": (build(Member(b"\x1b[2J/../x")), "model.zip names a file outside of it: \\x1b[2J/../x"),
    "newline": (build(Member(b"../a\nb")), "model.zip names a file outside of it: ../a\\nb"),
    "twice": (TWICE, "model.zip has a twice"),
    "directory twice": (build(Member(b"a/", mode=0), Member(b"a/", mode=0)), "model.zip has a twice"),
    "file and directory": (
        build(Member(b"a"), Member(b"a/", mode=DIRECTORY)),
        "model.zip has a as a file and as a directory",
    ),
    "file below a file": (
        build(Member(b"a/b/c"), Member(b"a/b")),
        "model.zip has a/b as a file and as a directory",
    ),
    "file below a link": (
        build(Member(b"a", b"b", mode=LINK), Member(b"a/x")),
        "model.zip has a as a file and as a directory",
    ),
    "overlap": (overlapping(), "a and b in model.zip share bytes"),
    "same data": (
        build(Member(b"a", b"1"), Member(b"a", b"1", listed={"name": b"b", "offset": 0})),
        "a and b in model.zip share bytes",
    ),
    "other name": (
        build(Member(b"a", own={"name": b"b"})),
        "model.zip says two things about a\n  about        name\n  in the list  a\n  at the file  b",
    ),
    "other method": (
        build(Member(b"a", own={"method": 8})),
        "model.zip says two things about a\n  about        method\n  in the list  0\n  at the file  8",
    ),
    "other size": (
        build(Member(b"a", b"12", own={"size": 1})),
        "model.zip says two things about a\n  about        size\n  in the list  2\n  at the file  1",
    ),
    "other flags": (
        build(Member(b"a", own={"flags": 1})),
        "model.zip says two things about a\n  about        flags\n  in the list  0\n  at the file  1",
    ),
    "other descriptor": (
        build(Member(b"a", b"12", flags=8, after=struct.pack("<4s3L", b"PK\7\x08", zlib.crc32(b"12"), 2, 3))),
        "model.zip says two things about a\n  about  what follows its data",
    ),
    "stored sizes": (
        build(Member(b"a", b"12", own={"size": 1}, listed={"size": 1})),
        "model.zip says two things about a\n  size    1\n  stored  2",
    ),
    "directory with content": (
        build(Member(b"a/", b"x", mode=0)),
        "model.zip says two things about a/\n  kind  directory\n  size  1",
    ),
    "directory by mode only": (
        build(Member(b"a", mode=DIRECTORY)),
        "model.zip has a name that can't be used: a\n  reason  name and mode disagree on what it is",
    ),
    "more than declared": (
        build(Member(b"a", b"x" * 10, method=8, packed=deflated(b"x" * 5000))),
        "a in model.zip unpacks to more than the 10 bytes that it declares",
    ),
    "less than declared": (
        build(Member(b"a", b"x" * 10, method=8, packed=deflated(b"x" * 9))),
        "a in model.zip is damaged: it has 9 bytes where 10 are declared" + AGAIN,
    ),
    "wrong checksum": (
        build(Member(b"a", b"x", own={"crc": 1}, listed={"crc": 1})),
        "a in model.zip is damaged: its checksum is wrong" + AGAIN,
    ),
    "not deflate": (
        build(Member(b"a", b"x", method=8, packed=b"\xff\xff")),
        "a in model.zip is damaged: its compressed data makes no sense" + AGAIN,
    ),
    "deflate cut off": (
        build(Member(b"a", b"x" * 10, method=8, packed=deflated(b"x" * 10)[:-1])),
        "a in model.zip is damaged: its compressed data does not end where it should" + AGAIN,
    ),
    "deflate and more": (
        build(Member(b"a", b"x", method=8, packed=deflated(b"x") + b"hidden")),
        "a in model.zip is damaged: its compressed data does not end where it should" + AGAIN,
    ),
    "deflate and much more": (
        build(Member(b"a", b"x", method=8, packed=deflated(b"x") + bytes(600_000))),
        "a in model.zip is damaged: its compressed data ends early" + AGAIN,
    ),
    "encrypted": (
        build(Member(b"a", flags=1)),
        "a in model.zip is encrypted\nhint: zip it without a password",
    ),
    "unknown method": (
        build(Member(b"a", method=9)),
        (
            "a in model.zip is compressed in a way that cogbuild doesn't read\n  method  9\n"
            "hint: zip it with deflate, as `zip -r` does"
        ),
    ),
    "fifo": (
        build(Member(b"a", mode=stat.S_IFIFO | 0o644)),
        "a in model.zip is a FIFO; a model holds files, directories and symlinks only",
    ),
    "device": (
        build(Member(b"a", mode=stat.S_IFBLK | 0o644)),
        "a in model.zip is a block device; a model holds files, directories and symlinks only",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_zip_that_is_not_right_is_refused_and_leaves_nothing(into: Path, case: str) -> None:
    """Each way to be wrong has its own whole message, and nothing is written of it."""
    data, message = CASES[case]
    assert refusal(data, into) == message


LINKS = {
    "absolute": ({b"a": b"/etc/passwd"}, "a", "leads out of it", "/etc/passwd"),
    "upwards": ({b"d/a": b"../../x"}, "d/a", "leads out of it", "../../x"),
    "through another": (
        {b"d/e/up": b"../..", b"out": b"d/e/up/../x"},
        "out",
        "leads out of it",
        "d/e/up/../x",
    ),
    "circle": ({b"a": b"b", b"b": b"a"}, "a", "leads nowhere", "b"),
    "itself": ({b"a": b"a/x"}, "a", "leads nowhere", "a/x"),
    "NUL": ({b"a": b"x\0y"}, "a", "leads nowhere", "x\\x00y"),
    "backslash": ({b"a": b"..\\x"}, "a", "leads out of it", "..\\x"),
}


@pytest.mark.parametrize("case", LINKS)
def test_symlink_that_leads_out_is_refused(into: Path, case: str) -> None:
    """Where a link leads is found by following it, through other links too."""
    links, entry, problem, target = LINKS[case]
    members = [Member(b"d/e/file", b"x"), *(Member(name, to, mode=LINK) for name, to in links.items())]
    assert refusal(build(*members), into) == (
        f"model.zip has a symlink that {problem}: {entry}\n  target  {target}\n"
        "hint: put the file itself into the zip"
    )


@pytest.mark.parametrize(("target", "size"), [(b"", 0), (b"x" * 4096, 4096)])
def test_symlink_without_a_usable_target_is_refused(into: Path, target: bytes, size: int) -> None:
    """A link to nothing, and one longer than any path, are no links."""
    assert refusal(build(Member(b"a", target, mode=LINK)), into) == (
        f"model.zip says two things about a\n  kind  symlink\n  size  {size}"
    )


@pytest.mark.slow
def test_links_through_links_do_not_cost_time(into: Path) -> None:
    """Thousands of links that each walk through thirty others by a long way are refused before they take minutes."""
    members = [Member(b"d/x")]
    for i in range(1500):
        follows = b"%d" % (i + 1) if i % 30 < 29 else b"d/x"
        members.append(Member(b"%d" % i, b"d/../" * 500 + follows, mode=LINK))
    assert "leads nowhere" in refusal(build(*members), into, limit=1 << 30)


def test_zip_that_declares_more_than_the_limit_is_refused_at_once(into: Path) -> None:
    """The sum of what is declared counts, and nothing can be more than it declares."""
    data = zipped({"a": b"x" * 60, "b": b"x" * 41}, compression=zipfile.ZIP_DEFLATED)
    assert refusal(data, into, limit=100) == (
        "model.zip unpacks to 101 bytes, more than the limit of 100\n"
        "hint: if that is meant, give --zip-limit SIZE, or raise zip_limit in the settings"
    )
    assert set(unzip(data, into, limit=101)) == {"a", "b"}


def test_too_many_files_are_refused_before_they_are_read(into: Path) -> None:
    """The count in the end record is enough to say no."""
    data = wide_end(build(Member(b"a")))
    at = data.index(b"PK\6\6")
    data = data[: at + 24] + struct.pack("<2Q", 1_000_001, 1_000_001) + data[at + 40 :]
    assert refusal(data, into) == "model.zip has more than 1000000 files and directories"


def test_directories_count_as_files_do(into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few files in very many directories are no way around the limit."""
    monkeypatch.setattr("cogbuild.archive._structure.MAX_ENTRIES", 100)
    data = build(*(Member(b"/".join([b"%d" % i] * 60)) for i in range(2)))
    assert refusal(data, into) == "model.zip has more than 100 files and directories"


def test_damage_in_the_last_file_takes_back_all_before_it(into: Path) -> None:
    """Nothing is left of a zip that is refused, however much of it was good."""
    members = [Member(b"d%d/f" % i, b"x" * 100, mode=EXECUTABLE) for i in range(50)]
    bad = Member(b"z", b"x", own={"crc": 1}, listed={"crc": 1})
    assert "checksum" in refusal(build(*members, Member(b"e/", mode=0), bad), into)


def test_full_disk_leaves_nothing(into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the system goes to the caller as it is, with the directory empty again."""
    writes: Iterator[int] = iter(range(3))

    def write(fd: int, data: memoryview, real: Any = os.write) -> int:
        if next(writes, None) is None:
            raise OSError(28, "No space left on device")
        return int(real(fd, data))

    monkeypatch.setattr(os, "write", write)
    data = zipped({f"d/{i}": b"x" for i in range(10)})
    with pytest.raises(OSError, match="No space left"):
        extract(io.BytesIO(data), into, limit=LIMIT)
    assert os.listdir(into) == []


def test_directory_has_to_be_empty(into: Path) -> None:
    """Cleaning up must never reach what was there before."""
    (into / "mine").write_text("")
    with pytest.raises(ValueError, match="is not empty"):
        extract(io.BytesIO(build(Member(b"a"))), into, limit=LIMIT)
    assert os.listdir(into) == ["mine"]


def test_upload_without_a_name_is_called_so(into: Path) -> None:
    """A stream has no path to show."""
    with pytest.raises(ZipRefused) as caught:
        extract(io.BytesIO(b"x"), into, limit=LIMIT)
    assert str(caught.value) == "the upload is not a zip"


def test_fifo_is_not_waited_for(into: Path) -> None:
    """Something that is not a file is refused without reading from it."""
    os.mkfifo("model.zip")
    with pytest.raises(ZipRefused) as caught:
        extract(Path("model.zip"), into, limit=LIMIT)
    assert str(caught.value) == "model.zip is not a zip"


def test_zip_cut_at_any_byte_is_refused(into: Path) -> None:
    """No prefix of a zip is taken for the whole."""
    data = zipped({"a": b"x" * 40, "d/b": b"y" * 40}, compression=zipfile.ZIP_DEFLATED)
    for length in range(len(data)):
        with pytest.raises(ZipRefused):
            extract(io.BytesIO(data[:length]), into, limit=LIMIT)
        assert os.listdir(into) == []


WHOLE = zipped({"a": b"x" * 40, "d/b": b"y" * 9, "d/c/": b""}, compression=zipfile.ZIP_DEFLATED)


CHANGES = st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=4)


@pytest.mark.parametrize("examples", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_changed_bytes_are_refused_or_unpack_within_the_declared(
    tmp_path_factory: pytest.TempPathFactory, examples: int
) -> None:
    """Whatever is changed, the outcome is a refusal or a tree with the content that the checksums vouch for."""

    @settings(max_examples=examples, deadline=None)
    @given(CHANGES)
    def holds(changes: list[tuple[int, int]]) -> None:
        data = bytearray(WHOLE)
        for at, value in changes:
            data[at] = value
        into = tmp_path_factory.mktemp("into")
        try:
            extract(io.BytesIO(bytes(data)), into, limit=LIMIT)
        except ZipRefused:
            assert os.listdir(into) == []
        else:
            contents = {content for _, content in tree(into).values()}
            assert contents <= {b"", b"x" * 40, b"y" * 9}

    holds()


def test_memory_stays_flat(into: Path) -> None:
    """A file of 24 MiB, stored or as a bomb of 24 kB, is unpacked in a few MiB of memory."""
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        Path("model.zip").write_bytes(zipped({f"big{method}": bytes(24 << 20)}, compression=method))
        target = into / str(method)
        target.mkdir()
        tracemalloc.start()
        extract(Path("model.zip"), target, limit=1 << 30)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4 << 20
