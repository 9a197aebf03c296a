"""A disk that is full, has no inodes left, or can't keep what it took: at every write and at every fsync."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import steps
from builds import DOORS, SmallBuild, chosen, needs_steps, read_only
from conftest import Sandbox

pytestmark = pytest.mark.slow
FULL = "the disk is full"


def arguments_of(command: str, box: Sandbox) -> list[str]:
    """Return the arguments of one of the commands that write."""
    if command in DOORS:
        return DOORS[command][0]
    return ["-m", "cogbuild", "models", "add", str(box.model("a"))]


@needs_steps
@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("command", ["adapt", "doit", "models add"])
def test_no_room_at_any_write(box: Sandbox, command: str, *, for_good: bool) -> None:
    """It is said in words or does not matter; nothing partial is left; with room again all ends as ever."""
    build = SmallBuild(box)
    if command == "models add":
        with box.project() as project:
            project.database.write(lambda con: con.execute("DELETE FROM memos").rowcount)
        build.keep()
    arguments = arguments_of(command, box)
    whole = build.run(*arguments, only=steps.NEED_ROOM)
    box.adapt()
    clean = build.state()
    print(f"\nno room {'for good' if for_good else 'once'}, {command}: {len(whole.steps)} steps")
    for at in chosen(len(whole.steps), 6):
        build.reset()
        stopped = build.run(*arguments, at=at, do="no space", for_good=for_good, only=steps.NEED_ROOM)
        assert stopped.code in (0, 1, 3) or (command == "doit" and stopped.code == 2), stopped.err
        if stopped.code == 3:
            # SQLite does not say why it could not open a file or write to its index.
            assert FULL in stopped.err or "can't be written" in stopped.err, stopped.err
        try:
            build.check_after(stopped, clean)
        except AssertionError as wrong:
            raise AssertionError(f"no room at step {at}, {stopped.steps[at]}: {wrong}") from wrong


@needs_steps
@pytest.mark.parametrize("command", ["adapt", "models add"])
def test_a_failed_fsync_is_no_success(box: Sandbox, command: str) -> None:
    """What the disk could not keep is not reported, not recorded and not there; the next run makes it."""
    build = SmallBuild(box)
    box.adapt()
    clean = build.state()
    build.reset()
    if command == "models add":
        for path in box.data.glob("objects/*/*"):  # lost, and put back by adding again
            path.unlink()
        build.keep()
    arguments = arguments_of(command, box)
    whole = build.run(*arguments, only=steps.SYNCS)
    print(f"\nfsync fails, {command}: {len(whole.steps)} steps")
    for at in chosen(len(whole.steps), 10):
        build.reset()
        stopped = build.run(*arguments, at=at, do="I/O error", only=steps.SYNCS)
        where = stopped.steps[at] if at < len(stopped.steps) else ""
        if " objects" in where or " artifacts" in where:
            assert stopped.code == 3, f"{where}: {stopped.out}"
        if stopped.code == 3:
            assert "the disk refused a write" in stopped.err
        if command == "models add":
            box.add("b")
            if stopped.code:
                box.add("a")
        try:
            build.check_after(stopped, clean)
        except AssertionError as wrong:
            raise AssertionError(f"fsync failed at step {at}, {where}: {wrong}") from wrong


# -- a disk that really is full -----------------------------------------------------------------------------------


@contextmanager
def small_disk(at: Path, options: str) -> Iterator[Path]:
    """Mount a tmpfs; skip where that is refused."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    at.mkdir(exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(at)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"mount: {mounted.stderr.strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


def fill(at: Path, leave: int, *, inodes: bool) -> Path:
    """Fill the disk but for *leave* pages or inodes; return the directory to remove."""
    filler = at / "filler"
    filler.mkdir()
    disk = os.statvfs(at)
    if inodes:
        for number in range(disk.f_favail - leave):
            (filler / str(number)).touch()
    else:
        with (filler / "full").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, (disk.f_bavail - leave) * disk.f_frsize)
    return filler


def empty(filler: Path) -> None:
    """Give the room back."""
    for path in filler.iterdir():
        path.unlink()
    filler.rmdir()


def command(box: Sandbox, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run cogbuild in the site."""
    return subprocess.run(
        [sys.executable, "-m", "cogbuild", *arguments],
        cwd=box.root / "site",
        env={**os.environ, **box.environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


READING = [["status"], ["models", "ls"], ["artifacts", "ls"], ["cache", "ls"], ["cache", "gc"]]


@pytest.mark.parametrize("what", ["pages", "inodes"])
def test_a_full_disk_is_said_and_what_is_there_can_be_read(tmp_path: Path, what: str) -> None:
    """With ever less room left: words and exit code 3; reading and gc go on; with room again the build ends well."""
    at = tmp_path / "small"
    for leave in chosen(44 if what == "pages" else 24, 5):
        with small_disk(at, "size=4m,nr_inodes=2k"):
            box = Sandbox(at)
            build = SmallBuild(box)
            box.adapt(adapters=("never",))
            box.adapter(
                "new", "#!/bin/sh\nhead -c 30000 /dev/zero > $COG_OUTPUT_DIR/x; echo $COG_OUTPUT_DIR/x\n"
            )
            filler = fill(at, leave, inodes=what == "inodes")
            ended = command(box, "adapt", "-j", "1")
            said = ended.stdout + ended.stderr
            assert ended.returncode in (1, 3), said
            assert "Traceback" not in said, said
            assert "this is a bug" not in said, said
            if ended.returncode == 3:
                assert FULL in ended.stderr, said
            for reading in READING:
                answer = command(box, *reading)
                assert answer.returncode == 0, f"{leave} {what} left, {reading}: {answer.stderr}"
            empty(filler)
            assert command(box, "adapt").returncode == 1  # one adapter fails always
            assert len(build.state()) == 10
            assert box.audit() == []


def test_a_read_only_disk_serves_what_is_fresh(box: Sandbox) -> None:
    """Nothing to do is told and questions are answered; what would have to be built or added is refused in words."""
    box.adapter("one")
    box.add("a")
    box.adapt()
    with read_only(box.data):
        fresh = command(box, "adapt")
        assert (fresh.returncode, fresh.stdout) == (0, "1 fresh\n"), fresh.stderr
        for reading in READING[:-1]:
            answer = command(box, *reading)
            assert answer.returncode == 0, answer.stderr
        for writing in (["adapt", "--force"], ["models", "add", str(box.model("b"))]):
            refused = command(box, *writing)
            assert refused.returncode == 3, refused.stdout + refused.stderr
            assert "the data directory can't be written" in refused.stderr
            assert "Traceback" not in refused.stderr
    assert box.ran() == ["a one"]


def test_a_read_only_place_for_a_copy_is_told(box: Sandbox) -> None:
    """It is that place that can't be written, and not the data directory."""
    box.adapter("one")
    model = box.add("a").model
    box.adapt()
    target = box.root / "elsewhere"
    target.mkdir()
    with read_only(target):
        refused = command(box, "artifacts", "get", model, "one", "-o", str(target / "made"))
    assert (refused.returncode, refused.stderr) == (
        2,
        f"{target}/made can't be written\n  reason  Read-only file system\nhint: name another place with -o\n",
    )


@needs_steps
def test_a_lost_write_of_a_large_file_is_told_once_and_heard(box: Sandbox) -> None:
    """The disk takes a large file while it is copied; an error on the way counts although the last fsync succeeds."""
    build = SmallBuild(box)
    directory = box.model("large")
    with (directory / "weights.bin").open("wb") as file:
        file.truncate(2 << 20)
    arguments = ["-m", "cogbuild", "models", "add", str(directory)]
    whole = build.run(*arguments, only={"fdatasync"})
    at = next(index for index, step in enumerate(whole.steps) if " objects" in step)
    build.reset()
    stopped = build.run(*arguments, only={"fdatasync"}, at=at, do="I/O error")
    assert (stopped.code, "the disk refused a write" in stopped.err) == (3, True), stopped.out
    assert box.audit() == []
