"""Is the archive the same whenever the model is the same, and does it hold all of it?"""

from __future__ import annotations

import os
import shutil
import tarfile
from typing import TYPE_CHECKING

import pytest
from adapter_runs import EXAMPLES, run_script

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHELLS = {"sh": [], "dash": ["dash"], "busybox": ["busybox", "sh"], "bash": ["bash", "--posix"]}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a model with everything that an archive could get wrong."""
    model = shutil.copytree(EXAMPLES / "text-language", tmp_path / "model")
    (model / "run me").write_text("#!/bin/sh\n")
    (model / "run me").chmod(0o755)
    (model / "link").symlink_to("cog.yaml")
    (model / "empty").mkdir()
    (model / "-n").write_text("a name like an option")
    (model / "new\nline é").write_text("a name of two lines")
    (model / ("long" * 50)).write_text("a name that tar's old header has no room for")
    return model


def _later(model: Path) -> None:
    for path in [model, *model.rglob("*")]:
        os.utime(path, (1_900_000_000, 1_900_000_000), follow_symlinks=False)


def _as_another_user(model: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    for path in [model, *model.rglob("*")]:
        os.chown(path, 12345, 12345, follow_symlinks=False)


def _under_another_umask(model: Path) -> None:
    for path in [model, *model.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o700)


def _equal_files_as_one_inode(model: Path) -> None:
    (model / "copy").unlink()
    os.link(model / "cog.yaml", model / "copy")


@pytest.mark.parametrize(
    "change",
    [_later, _as_another_user, _under_another_umask, _equal_files_as_one_inode],
    ids=lambda change: change.__name__.strip("_"),
)
def test_what_does_not_matter_leaves_the_bytes_alone(
    change: Callable[[Path], None], model: Path, tmp_path: Path
) -> None:
    """Times, owners, group bits and shared inodes are not in the archive."""
    shutil.copy(model / "cog.yaml", model / "copy")
    before = run_script("archive", model, tmp_path, in_place=True).file().read_bytes()
    change(model)
    assert run_script("archive", model, tmp_path, in_place=True).file().read_bytes() == before


def test_tars_own_variables_do_not_matter(model: Path, tmp_path: Path) -> None:
    """Options in the environment and the user's locale change nothing."""
    more = {
        "TAR_OPTIONS": "--exclude=cog.yaml",
        "POSIXLY_CORRECT": "1",
        "LC_ALL": "C.UTF-8",
        "TZ": "Asia/Tokyo",
    }
    plain, other = (run_script("archive", model, tmp_path, more=more).file() for more in ({}, more))
    assert plain.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_makes_the_same_archive(shell: str, model: Path, tmp_path: Path) -> None:
    """The script is POSIX: dash, busybox and bash run it alike."""
    command = SHELLS[shell]
    if command and shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    plain = run_script("archive", model, tmp_path).file()
    assert run_script("archive", model, tmp_path, shell=command).file().read_bytes() == plain.read_bytes()


def test_the_archive_holds_the_model(model: Path, tmp_path: Path) -> None:
    """Unpacked, it is the model: names, contents, links, empty directories, executable files."""
    file = run_script("archive", model, tmp_path).file()
    with tarfile.open(file) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
        names = [entry.name for entry in archive]
        assert names == sorted(names, key=lambda name: os.fsencode(name).split(b"/")), (
            "the order is the disk's"
        )
        assert {(entry.mtime, entry.uid, entry.gid, entry.uname) for entry in archive} == {(0, 0, 0, "")}

    def seen(root: Path) -> dict[str, object]:
        return {
            str(path.relative_to(root)): os.readlink(path)
            if path.is_symlink()
            else (path.is_file() and path.read_bytes(), bool(path.stat().st_mode & 0o100))
            for path in root.rglob("*")
        }

    assert seen(tmp_path / "unpacked") == seen(model)


def test_a_changed_executable_bit_changes_the_archive(model: Path, tmp_path: Path) -> None:
    """Whether a file is executable is part of the model."""
    before = run_script("archive", model, tmp_path).file().read_bytes()
    (model / "run me").chmod(0o644)
    assert run_script("archive", model, tmp_path).file().read_bytes() != before


def test_a_tar_that_is_not_gnus_is_refused_with_what_to_install(model: Path, tmp_path: Path) -> None:
    """Where only another tar is there, the adapter fails and names the package that is needed."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "tar").write_text("#!/bin/sh\necho 'bsdtar 3.6.2'\n")
    (tools / "tar").chmod(0o755)
    ran = run_script("archive", model, tmp_path, more={"PATH": str(tools)})
    assert (ran.code, ran.stdout) == (1, "")
    assert ran.last_line == (
        "GNU tar is needed and was not found: install the package tar (Debian, Alpine) or gnu-tar (Homebrew)"
    )
