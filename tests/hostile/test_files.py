"""Files of any name, kind and size: they work, or are refused with a name that is safe to show."""

from __future__ import annotations

import os
import socket
import stat
import zipfile
from pathlib import Path

import pytest
from commands import Said, here, peak
from conftest import MODEL, PREDICT, Sandbox

pytestmark = pytest.mark.slow

NAMES = {
    "newline": b"a\nb",
    "escape": b"\x1b[2Jcleared",
    "quotes": b'it\'s "quoted" `x` $(x)',
    "not UTF-8": b"caf\xe9\xff",
    "long": b"n" * 250,
    "long letters": "é".encode() * 125,
    "con": b"con",
    "aux.txt": b"AUX.txt",
    "dots": b"...",
    "dots and more": b"..x",
    "dots and a space": b".. ",
    "dots and an escape": b"..\x1b",
    "wide dots": "\uff0e\uff0e".encode(),
    "backslashes": b"..\\..\\x",
    "dash": b"-rf",
    "space": b" ",
    "tab": b"\t",
    "bang": b"!x",
    "hash": b"#x",
    "star": b"**",
    "question": b"[a]?",
    "tilde": b"~",
    "equals": b"a=b",
    "colon": b"c:x",
    "right-to-left": "a\u202eb".encode(),
    "composed": "é".encode(),
    "decomposed": "e\u0301".encode(),
}
#: Says what is there as bytes: names and contents.
LISTING = '#!/bin/sh\nfind . -type f -print0 | LC_ALL=C sort -z | xargs -0 cat > "$COG_OUTPUT_DIR/all"\n'
LISTING += 'find . -print0 | LC_ALL=C sort -z > "$COG_OUTPUT_DIR/names"\nmkdir "$COG_OUTPUT_DIR/d"\n'
LISTING += 'cp -a . "$COG_OUTPUT_DIR/d/copy"; mv "$COG_OUTPUT_DIR/all" "$COG_OUTPUT_DIR/names" "$COG_OUTPUT_DIR/d"; echo d\n'


def safe(said: Said) -> str:
    """Return what was said, having looked that nothing of it does anything."""
    text = said.text
    bad = {char for char in text if not char.isprintable() and char != "\n"}
    assert not bad, (bad, text)
    return text


def write(directory: Path) -> bytes:
    """Write a model with a file and a directory of each name; return what ``find -print0`` lists of it."""
    directory.mkdir(parents=True)
    at = os.fsencode(directory)
    (directory / "cog.yaml").write_text(MODEL)
    (directory / "predict.py").write_text(PREDICT)
    listed = [b".", b"./cog.yaml", b"./predict.py", b"./below"]
    os.mkdir(at + b"/below")
    for name in NAMES.values():
        for path in (name, b"below/" + name):
            with open(at + b"/" + path, "wb") as file:
                file.write(path)
            listed.append(b"./" + path)
    os.mkdir(at + b"/deep")
    listed.append(b"./deep")
    for name in NAMES.values():
        os.makedirs(at + b"/deep/" + name + b"/" + name)
        listed += [b"./deep/" + name, b"./deep/" + name + b"/" + name]
    return b"\0".join(sorted(listed)) + b"\0"


@pytest.mark.parametrize("how", ["sealed", "linked", "zip"])
def test_names_of_all_kinds_work(box: Sandbox, how: str) -> None:
    """Added, built, shown, verified and restored: the adapter finds the very names, and no view shows a bad one."""
    directory = box.root / "models" / "odd"
    listed = write(directory)
    box.adapter("one", LISTING)
    if how == "zip":
        skipped = {NAMES["backslashes"], NAMES["not UTF-8"], NAMES["colon"]}
        target = box.root / "odd.zip"
        with zipfile.ZipFile(target, "w") as archive:
            for path in sorted(directory.rglob("*")):
                if not any(part in skipped for part in map(os.fsencode, path.relative_to(directory).parts)):
                    archive.write(path, str(path.relative_to(directory)))
        left = [name for name in listed.split(b"\0") if not any(part in skipped for part in name.split(b"/"))]
        listed = b"\0".join(left)
    words = ["models", "add", str(directory if how != "zip" else target), "--repo", "a/odd"]
    said = here(box, *words, *(["--link"] if how == "linked" else []))
    assert said.code == 0, safe(said)
    assert here(box, "adapt").code == 0
    (names,) = (box.data / "artifacts").glob("*/*/d/names")
    assert names.read_bytes() == listed
    model = safe(here(box, "models", "ls", "--json")).split('"model": "')[1][:12]
    for shown in (
        ("models", "show", model),
        ("models", "verify"),
        ("explain", model, "one"),
        ("artifacts", "ls"),
        ("cache", "verify"),
    ):
        assert here(box, *shown).code == 0, shown
        safe(here(box, *shown))
        if shown != ("models", "verify"):
            safe(here(box, *shown, "--json"))
    target_dir = box.root / "got"
    assert here(box, "artifacts", "get", model, "one", "-o", str(target_dir)).code == 0
    assert (target_dir / "names").read_bytes() == listed
    changed = os.fsencode(directory) + b"/below/" + NAMES["escape"]
    if how == "linked":
        with open(changed, "wb") as file:
            file.write(b"changed")
        assert "model:below/\\x1b[2Jcleared" in safe(here(box, "adapt"))


def test_names_that_differ_only_in_case_are_two(box: Sandbox) -> None:
    """``Weights`` and ``weights`` are two files here, and of two models that differ in it each has its own ID."""
    box.adapter("one", LISTING)
    one = box.add("a", {"Weights": "1", "weights": "2", "WEIGHTS": "3"})
    other = box.add("b", {"Weights": "2", "weights": "1", "WEIGHTS": "3"})
    assert one.model != other.model
    assert box.adapt().exit_code == 0
    contents = sorted(path.read_text()[-3:] for path in (box.data / "artifacts").glob("*/*/d/all"))
    assert len(contents) == 2


@pytest.mark.parametrize("name", NAMES)
def test_a_model_in_a_directory_of_any_name(box: Sandbox, name: str) -> None:
    """The repo is made of the directory's name: it works, or the refusal names it safely and says what to do."""
    directory = Path(os.fsdecode(os.fsencode(box.root) + b"/" + NAMES[name]))
    directory.mkdir()
    (directory / "cog.yaml").write_text(MODEL)
    (directory / "predict.py").write_text(PREDICT)
    for words in (("models", "add"), ("models", "add", "--link"), ("models", "add", "--repo", "a/b")):
        said = here(box, *words, os.fspath(directory))
        text = safe(said)
        assert said.code in (0, 2), text
        assert said.code == 0 or words[-1] != "a/b" or name == "not UTF-8", text


@pytest.mark.parametrize("name", NAMES)
def test_an_artifact_of_any_name(box: Sandbox, name: str) -> None:
    """A file that the adapter publishes under an odd name: kept under it, or refused in words."""
    (box.root / "name").write_bytes(NAMES[name])
    script = f'#!/bin/bash\nn="$(cat {box.root}/name; echo .)"; n="${{n%.}}"; echo 1 > "$COG_OUTPUT_DIR/$n"; printf "%s" "$n"\n'
    box.adapter("one", script)
    box.add("a")
    said = here(box, "adapt")
    safe(said)
    if said.code == 0:
        (kept,) = (box.data / "artifacts").glob("*/*/*")
        assert os.fsencode(kept.name).strip() == NAMES[name].strip()
        for words in (("artifacts", "ls"), ("artifacts", "verify"), ("status",)):
            assert here(box, *words).code == 0
            safe(here(box, *words))
            safe(here(box, *words, "--json"))
    else:
        assert said.code == 1
        assert "printed" in said.text


# -- special files ------------------------------------------------------------------------------------------------


def fifo(at: Path) -> None:
    """A FIFO blocks whoever opens it."""
    os.mkfifo(at)


def bound(at: Path) -> None:
    """A socket can't be opened."""
    here = os.getcwd()
    os.chdir(at.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(at.name)
    finally:
        os.chdir(here)


def device(at: Path) -> None:
    """A device may do anything when it is opened; this one never ends."""
    try:
        os.mknod(at, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("needs the right to make devices")


@pytest.mark.parametrize(("make", "kind"), [(fifo, "a FIFO"), (bound, "a socket"), (device, "a device")])
@pytest.mark.parametrize("link", [False, True])
def test_special_files_of_a_model_are_refused_unopened(
    box: Sandbox, make: object, kind: str, link: bool
) -> None:
    """Named and refused at once, with nothing left behind; a symlink to one is refused for where it leads or works unopened."""
    assert callable(make)
    directory = box.model("a")
    (directory / "sub").mkdir()
    make(directory / "sub" / "odd\n")
    said = here(box, "models", "add", str(directory), *(["--link"] if link else []))
    assert said.code == 2
    assert f"sub/odd\\n is {kind}; a model holds files, directories and symlinks only" in safe(said)
    assert not box.data.exists() or list((box.data / "models").glob("*")) == []


@pytest.mark.parametrize("make", [fifo, bound, device])
@pytest.mark.parametrize("where", ["adapter", "inside", "itself"])
def test_special_files_elsewhere_are_refused_unopened(box: Sandbox, make: object, where: str) -> None:
    """Beside an adapter's script, in what an adapter publishes, and as the artifact itself."""
    assert callable(make)
    made = {
        fifo: 'mkfifo "$at"',
        bound: 'cd "$(dirname "$at")"; python3 -c "import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])" '
        '"$(basename "$at")"',
        device: 'mknod "$at" c 1 5',
    }[make]
    at = {"inside": '"$COG_OUTPUT_DIR/d/odd"', "itself": '"$COG_OUTPUT_DIR/d"'}.get(where, "/dev/null")
    prepare = 'mkdir "$COG_OUTPUT_DIR/d"; ' if where == "inside" else ""
    text = f"#!/bin/sh\n{prepare}at={at}\n{made if where != 'adapter' else ':'} || exit 7\necho d\n"
    directory = box.adapter("one", text)
    if where == "adapter":
        make(directory / "odd")
    box.add("a")
    said = here(box, "adapt")
    text = safe(said)
    assert said.code in (1, 2), text
    assert (
        "FIFO" in text
        or "socket" in text
        or "device" in text
        or "neither a file nor a directory" in text
        or (make is device and "status" in text)
    ), text
    assert [path for path in (box.data / "artifacts").glob("*/*") if path.is_dir()] == []


LINKS = {
    "absolute": "/etc/passwd",
    "upwards": "../../outside",
    "upwards and back": "../a/../../outside",
    "through a link": "up/../../outside",
    "of proc": "/proc/self/root/etc/passwd",
}


@pytest.mark.parametrize("target", LINKS)
def test_symlinks_that_lead_out_are_refused(box: Sandbox, target: str) -> None:
    """Refused by name and target, for sealed and for live models."""
    directory = box.model("a")
    (box.root / "outside").write_text("x")
    (directory / "up").symlink_to(".")
    (directory / "link\x1b").symlink_to(LINKS[target])
    for words in (("models", "add"), ("models", "add", "--link")):
        said = here(box, *words, str(directory))
        assert said.code == 2
        assert "the symlink link\\x1b leads out of the model" in safe(said)


# -- sizes --------------------------------------------------------------------------------------------------------


def test_empty_files_are_files(box: Sandbox) -> None:
    """A model of empty files, one of them executable, is built as any other."""
    box.adapter("one", LISTING)
    box.add("a", {"empty": "", "below/empty": ""})
    (box.root / "models" / "a" / "empty").chmod(0o755)
    box.add("a")
    assert box.adapt().exit_code == 0


@pytest.mark.parametrize("how", ["--link", "--repo=a/b"])
def test_ten_gigabytes_take_little_memory(box: Sandbox, how: str) -> None:
    """A sparse file of 10 GB is added, built from and verified in the memory, and with the disk, that a small one takes."""
    directory = box.model("a")
    with (directory / "weights.bin").open("wb") as weights:
        weights.truncate(10_000_000_000)
    box.adapter("one", '#!/bin/sh\nstat -c %s weights.bin > "$COG_OUTPUT_DIR/x"; echo x\n')
    assert peak(box, "models", "add", str(directory), how) < 100
    assert peak(box, "adapt") < 100
    if how != "--link":
        assert peak(box, "models", "verify") < 100
        assert (
            sum(path.stat().st_blocks for path in (box.data / "models").rglob("*")) < 1 << 11
        )  # of 512 bytes
    (size,) = (box.data / "artifacts").glob("*/*/x")
    assert size.read_text() == "10000000000\n"
