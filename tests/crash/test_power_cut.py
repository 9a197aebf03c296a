"""Power cuts at steps of a build: the disk holds what was flushed, and nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import steps
from builds import SmallBuild, check_database, chosen, needs_steps
from conftest import Sandbox

from cogbuild.housekeeping.collecting import collect

pytestmark = [needs_steps, pytest.mark.slow]
MEGABYTES = 24
#: What an audit may find before the next run has cleared up: things that nothing refers to.
UNFINISHED = "no attempt has this log|left over from|a workspace that nobody uses"


class Disk:
    """An ext4 file system in a file, on which a site lives."""

    def __init__(self, root: Path) -> None:
        self.root, self.at, self.image = root, root / "mounted", root / "disk-0"
        self.at.mkdir()
        with self.image.open("wb") as file:
            file.truncate(MEGABYTES << 20)
        tool("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", str(self.image))
        self._count = 0

    @contextmanager
    def mounted(self, image: Path | None = None) -> Iterator[Path]:
        """Mount what the disk holds, or what *image* does.

        As a copy: workers of other tests may have this mount in their own view of the machine for a while yet, and so
        the kernel has not let go of it.
        """
        self._count += 1
        old, self.image = self.image, self.root / f"disk-{self._count}"
        shutil.copyfile(image or old, self.image)
        old.unlink()
        tool("mount", "-o", "loop", str(self.image), str(self.at))
        try:
            yield self.at
        finally:
            tool("umount", str(self.at))

    def keep(self) -> Path:
        """Return an image of what the disk holds now, with all that is still in memory of it."""
        tool("sync", "-f", str(self.at))
        return Path(shutil.copyfile(self.image, self.root / "kept"))


def tool(*command: str) -> None:
    """Run a tool of the system; skip where it is not there or has no right."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip(f"{command[0]} is not there")
    if ended.returncode != 0 and command[0] == "mount":
        pytest.skip(f"mount: {ended.stderr.strip()}")
    assert ended.returncode == 0, ended.stderr


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    """A disk whose power can be cut."""
    return Disk(tmp_path)


@pytest.mark.parametrize("command", ["adapt", "models add"])
def test_a_power_cut_at_any_step_loses_nothing_that_was_reported(disk: Disk, command: str) -> None:
    """No file that the disk did not get is believed, and the next run ends where a clean one does."""
    scratch = disk.root / "scratch"
    with disk.mounted() as at:
        box = Sandbox(at)
        build = SmallBuild(box)
        arguments = ["-m", "cogbuild", "adapt", "-j", "1"]
        if command == "models add":
            box.adapt()
            arguments = ["-m", "cogbuild", "models", "add", str(box.model("c", {"data": "x" * 50_000}))]
        shutil.rmtree(box.root / "kept")
        kept = disk.keep()
    with disk.mounted(kept):
        whole = build.run(*arguments, scratch=scratch)
        assert whole.code == (1 if command == "adapt" else 0), whole.err
        if command == "models add":
            assert box.adapt().exit_code == 1
        clean = build.state()
    print(f"\npower cut, {command}: {len(whole.steps)} steps")
    for step in chosen(len(whole.steps), 10):
        with disk.mounted(kept):
            stopped = build.run(*arguments, at=step, do=steps.POWER_CUT, scratch=scratch)
            assert stopped.left == []
        with disk.mounted():
            check_database(box.data / "cog.db")
            for pair in stopped.done:
                assert box.look(*pair.split()).verdict.settled, f"{pair} was reported, {stopped.steps[step]}"
            if command == "models add" and "local/c" in stopped.out:
                assert "local/c" in {entry.repo for entry in build.entries()}
            assert [line for line in box.audit() if not re.search(UNFINISHED, line)] == []
            again = box.adapt()
            if command == "models add":
                box.add("c", {"data": "x" * 50_000})
                again = box.adapt()
            assert not stopped.done & set(again.ran), f"ran again, {stopped.steps[step]}"
            assert build.state() == clean, f"power cut at {stopped.steps[step]}"
            with box.project() as project:
                collect(project)  # logs of what ran then: their attempts were never on the disk
            assert box.audit() == [], f"power cut at {stopped.steps[step]}"
