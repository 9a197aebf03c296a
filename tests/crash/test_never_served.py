"""A bit that flipped under cogbuild is found before an adapter or a test sees it, also where size and times are as before."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Sandbox
from test_flipped_bits import flip

from cogbuild import hashed, library
from cogbuild.database import models
from cogbuild.digest import LARGE, file_digest
from cogbuild.engine import Status
from cogbuild.housekeeping.collecting import collect

#: A model's files: a handful of small ones, one large one, and many small ones.
SHAPES = {
    "small": {},
    "large": {"weights.bin": "w" * (LARGE + 1)},
    "many": {f"part/{number:02}": f"part {number}" for number in range(12)} | {"weights.bin": "many"},
}
PUBLISHES = 'cp weights.bin "$COG_OUTPUT_DIR/weights.bin"; echo "$COG_OUTPUT_DIR/weights.bin"'
TREE = 'mkdir "$COG_OUTPUT_DIR/tree"; cp weights.bin "$COG_OUTPUT_DIR/tree/one"; echo "$COG_OUTPUT_DIR/tree"'
READS = """set -eu
at="${COG_PATH_FIRST:?}"
if [ -d "$at" ]; then at="$at/one"; fi
cp "$at" "$COG_OUTPUT_DIR/read"
echo "$COG_OUTPUT_DIR/read\""""


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were hashed because nothing was known of them."""
    names: list[str] = []

    def noted(path: str | os.PathLike[str]) -> tuple[str, int]:
        names.append(os.path.basename(path))
        return file_digest(path)

    monkeypatch.setattr(hashed, "file_digest", noted)
    return names


def object_of(box: Sandbox, path: str = "weights.bin") -> Path:
    """Return where a file of the only model is kept."""
    with box.project() as project:
        entry = library.tree_of(project, models.entries(project.con)[0].tree).get(path)
        assert entry is not None
        return project.objects.of(entry)


# -- models -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_no_adapter_runs_on_a_damaged_model(box: Sandbox, shape: str) -> None:
    """Its pair fails and names model and file, which is set aside; adding the model again puts it right."""
    box.adapter("one")
    box.add("a", SHAPES[shape])
    assert box.adapt().ran == ["a one"]
    at = object_of(box)
    whole = flip(at)
    refused = box.adapt(force=True)
    with box.project() as project:
        (entry,) = models.entries(project.con)
    assert refused.ran == []
    assert refused.error("a one") == (
        "a stored file no longer matches its name\n"
        f"  model   local/a@{entry.model[:12]}\n"
        "  file    weights.bin\n"
        "  reason  its content changed\n"
        f"  now at  {box.data / 'aside' / (at.parent.name + at.name)}\n"
        "hint: add the model again: `cogbuild models add` puts back what is missing"
    ), refused.error("a one")
    assert (box.data / "aside" / (at.parent.name + at.name)).stat().st_size == len(whole)
    assert "a stored file is not there" in box.adapt(force=True).error("a one")
    box.add("a", SHAPES[shape])
    assert at.read_bytes() == whole
    assert box.adapt(force=True).ran == ["a one"]


@pytest.mark.parametrize("shape", SHAPES)
def test_an_object_is_made_again_from_whatever_holds_its_content(box: Sandbox, shape: str) -> None:
    """A published artifact will do; the run says what was damaged, where it is now and what it was made of."""
    box.adapter("first", box.counting("first", PUBLISHES))
    box.adapter("second")
    box.add("a", SHAPES[shape])
    box.adapt(adapters=("first",))
    at = object_of(box)
    whole = flip(at)
    out = box.adapt()
    assert out.ran == ["a second"]
    assert at.read_bytes() == whole
    (said,) = (line for line in out.log if "is damaged" in line)
    assert "weights.bin of local/a@" in said
    assert f"it is kept as {box.data}/aside/{at.parent.name}{at.name}" in said
    assert f"made again from {box.data}/artifacts/" in said
    assert box.artifact(out, "a second").read_bytes().startswith(whole)


def test_a_sealed_tree_is_made_again_from_the_objects(box: Sandbox) -> None:
    """A file of the tree that is not the object itself is set aside; no object is touched."""
    box.adapter("one")
    added = box.add("a")
    box.adapt()
    at = box.data / "models" / added.model / "weights.bin"
    whole = at.read_bytes()
    at.unlink()
    at.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    out = box.adapt(force=True)
    assert (out.ran, out.status("a one")) == (["a one"], Status.BUILT)
    assert at.read_bytes() == whole
    assert at.stat().st_ino == object_of(box).stat().st_ino
    assert any("made again from the objects" in line for line in out.log)


def test_adding_again_sets_a_damaged_object_aside(box: Sandbox) -> None:
    """An addition does not trust what is there already for its name."""
    box.add("a")
    at = object_of(box)
    whole = flip(at)
    box.add("a")
    assert at.read_bytes() == whole
    assert (box.data / "aside" / (at.parent.name + at.name)).exists()


def test_only_what_an_adapter_is_shown_is_read(box: Sandbox, read: list[str]) -> None:
    """What `inputs` leaves out may be damaged; nobody sees it."""
    box.adapter("one", box.counting("one", "echo https://example.test/x"), inputs=["*.py", "cog.yaml"])
    box.add("a", SHAPES["large"])
    flip(object_of(box))
    read.clear()
    assert box.adapt().ran == ["a one"]
    assert sorted(set(read)) == ["cog.yaml", "predict.py"]
    box.add("a", SHAPES["large"])


# -- artifacts ----------------------------------------------------------------------------------------------------


def only_artifact(box: Sandbox) -> Path:
    """Return the file that is published, or that is in the directory that is."""
    (at,) = (path for path in box.data.glob("artifacts/*/*/**/*") if path.is_file())
    return at


@pytest.mark.parametrize("script", [PUBLISHES, TREE], ids=["file", "directory"])
@pytest.mark.parametrize("shape", ["small", "large"])
def test_no_adapter_is_handed_a_damaged_artifact(box: Sandbox, shape: str, script: str) -> None:
    """What it needs is made again first, because its artifact is lost; the reason says what was wrong."""
    box.adapter("first", box.counting("first", script))
    box.add("a", SHAPES[shape])
    box.adapt()
    whole = flip(only_artifact(box))
    box.adapter("second", box.counting("second", READS), needs=["first"])
    out = box.adapt()
    assert out.ran == ["a first", "a second"]
    assert out.status("a first") is Status.BUILT
    (reason,) = out.results["a first"].reasons
    assert "its content changed, kept as " in reason.text
    assert box.artifact(out, "a second").read_bytes() == whole
    (kept,) = (path for path in (box.data / "aside").rglob("*") if path.is_file())
    assert kept.stat().st_size == len(whole)


def test_no_test_is_handed_a_damaged_artifact(box: Sandbox) -> None:
    """A changed test alone would be asked about what is there: what is damaged is made again."""
    box.adapter("one", box.counting("one", PUBLISHES), test="#!/bin/sh\n")
    box.add("a")
    box.adapt()
    flip(only_artifact(box))
    tested = f'#!/bin/sh\nwc -c < "${{COG_ARTIFACT_URI#file://}}" >> {box.root}/tested\ngrep -q "^a$" "${{COG_ARTIFACT_URI#file://}}"\n'
    box.adapter("one", box.counting("one", PUBLISHES), test=tested)
    out = box.adapt()
    assert (out.ran, out.status("a one")) == (["a one"], Status.BUILT)
    assert (box.root / "tested").read_text().split() == ["1"]


@pytest.mark.parametrize("shape", ["small", "large"])
def test_nothing_damaged_is_restored(box: Sandbox, shape: str) -> None:
    """The cache has a record of the work, and the artifact is not what it says: the adapter runs."""
    box.adapter("one", params={"level": 1})
    box.add("a", SHAPES[shape])
    first = box.adapt()
    at = box.artifact(first, "a one")
    box.adapter("one", params={"level": 2})
    box.adapt()
    box.adapter("one", params={"level": 1})
    whole = flip(at)
    out = box.adapt()
    assert (out.ran, out.status("a one")) == (["a one"], Status.BUILT)
    assert box.artifact(out, "a one").read_bytes() == whole


# -- what it costs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["large", "many"])
def test_what_was_just_stored_is_not_read_again(box: Sandbox, read: list[str], shape: str) -> None:
    """Neither by the next run, nor after the links of a second version, nor by a second process."""
    box.adapter("one", box.counting("one", PUBLISHES))
    box.add("a", SHAPES[shape])
    read.clear()
    box.adapt()
    assert set(read) <= ({"cog.yaml", "predict.py"} if shape == "large" else set())
    box.add("a", SHAPES[shape] | {"new.txt": "new"})
    read.clear()
    box.adapter("two", needs=["one"])
    assert box.adapt().ran == ["a one", "a two", "a two"]
    assert "weights.bin" not in read or shape == "many"
    read.clear()
    box.adapt(force=True)
    assert "weights.bin" not in read or shape == "many"


def test_small_models_and_artifacts_leave_no_hints(box: Sandbox) -> None:
    """They are read each time; a row for each would cost more than it saves."""
    box.adapter("one")
    box.add("a")
    box.adapt()
    with box.project() as project:
        assert project.con.execute("SELECT COUNT(*) FROM hashed").fetchone() == (0,)


def test_a_young_file_is_read_again(tmp_path: Path, read: list[str]) -> None:
    """Git's rule: what may change again within the same time stamp is no hint, once it is older it is."""
    at = tmp_path / "file"
    at.write_bytes(b"x" * LARGE)
    digest = file_digest(at)[0]
    known = hashed.Hashed(boot=b"boot", now=lambda: 100)
    for _ in range(2):
        assert known.holds(at, os.lstat(at), digest)
    assert len(read) == 2
    os.utime(at, (time.time() + 3600, time.time() + 3600))  # nor is a time in the future
    assert known.holds(at, os.lstat(at), digest)
    assert len(read) == 3
    assert known.take() == []


def test_a_hint_ends_with_the_boot_and_after_a_day(tmp_path: Path, read: list[str]) -> None:
    """Whatever the file looks like, and wherever the clock of the machine steps."""
    at = tmp_path / "file"
    at.write_bytes(b"x" * LARGE)
    digest, kept = file_digest(at)[0], hashed.Hashed(boot=b"boot", now=lambda: 100)
    kept.written(digest, os.lstat(at))
    hints = dict(kept.take())
    for boot, now, trusted in (
        (b"boot", 100, True),
        (b"boot", 100 + hashed.LIMIT - 1, True),
        (b"boot", 100 + hashed.LIMIT, False),
        (b"boot", 99, False),
        (b"next", 100, False),
        (b"", 100, False),
    ):
        read.clear()
        later = hashed.Hashed(hints.get, boot=boot, now=lambda now=now: now)  # type: ignore[misc]
        assert later.holds(at, os.lstat(at), digest)
        assert read == ([] if trusted else ["file"]), (boot, now)


def test_gc_takes_hints_that_nobody_trusts(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of an earlier boot; those of today stay."""
    box.add("a", SHAPES["large"])
    for boot, left in ((hashed.boot_id(), 1), (b"next", 0)):
        monkeypatch.setattr(hashed, "boot_id", lambda boot=boot: boot)
        with box.project() as project:
            collect(project)
            assert project.con.execute("SELECT COUNT(*) FROM hashed").fetchone() == (left,)


# -- the medium ---------------------------------------------------------------------------------------------------


@contextmanager
def mounted(image: Path, at: Path) -> Iterator[None]:
    """Mount an ext4 of its own; skips where that takes a right or a tool that is missing."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    at.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-o", "loop,noatime", image, at], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"mount is refused here: {done.stderr.strip()}")
    try:
        yield
    finally:
        # Workers of other tests may have this mount in their own view of the machine, and keep it for a while yet.
        subprocess.run(["sync", "-f", at], check=True)
        subprocess.run(["umount", at], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["a day later", "after a boot"])
def test_a_bit_that_flips_in_the_medium(box: Sandbox, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """No stat moves; the hint ends after a day and with the boot, and then the file is read before anybody sees it."""
    image = box.root / "disk"
    with image.open("wb") as file:
        file.truncate(24 << 20)
    try:
        subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    except FileNotFoundError:
        pytest.skip("mkfs.ext4 is not here")
    box.adapter("one")
    weights = "the bytes to look for " * (LARGE // 16)
    with mounted(image, box.data):
        box.add("a", {"weights.bin": weights})
        assert box.adapt().ran == ["a one"]
        at = object_of(box)
        before = at.stat()
    data = bytearray(image.read_bytes())
    data[data.index(weights.encode()[:4096])] ^= 1
    # Another file: `mount` takes up a loop device that is not quite gone yet, with what that remembers of the old one.
    image = box.root / "the disk after years"
    image.write_bytes(data)
    if how == "a day later":
        monkeypatch.setattr(hashed, "seconds_up", lambda up=hashed.seconds_up: up() + hashed.LIMIT)
    else:
        monkeypatch.setattr(hashed, "boot_id", lambda: b"next")
    with mounted(image, box.data):
        now = at.stat()
        for field in ("st_mode", "st_size", "st_mtime_ns", "st_ctime_ns", "st_ino"):
            assert getattr(now, field) == getattr(before, field)
        assert at.read_bytes() != weights.encode()
        out = box.adapt(force=True)
        assert out.ran == []
        assert "its content changed" in out.error("a one")
        box.add("a", {"weights.bin": weights})
        assert box.adapt(force=True).ran == ["a one"]
        assert box.audit() == []
