"""A large file is copied, hashed and synced at the same time; what comes of it is what was read."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from cogbuild import copying
from cogbuild.copying import copy_hashed
from cogbuild.digest import LARGE, file_digest, hexdigest

SIZES = [0, 1, LARGE - 1, LARGE, LARGE + 1, 3 * LARGE, 3 * LARGE + 17]


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a few megabytes is copied in several steps."""
    monkeypatch.setattr(copying, "_STEP", LARGE + 5)


@pytest.mark.parametrize("size", SIZES)
def test_the_copy_and_its_digest(tmp_path: Path, size: int) -> None:
    """Of any size, with the mode that was asked for."""
    data = os.urandom(size)
    (tmp_path / "a").write_bytes(data)
    assert copy_hashed(tmp_path / "a", tmp_path / "b", mode=0o444) == hexdigest(data)
    assert file_digest(tmp_path / "b") == (hexdigest(data), size)
    assert (tmp_path / "b").read_bytes() == data
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o444


@pytest.mark.parametrize("size", SIZES)
def test_where_the_kernel_does_not_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """A file system that refuses `copy_file_range` gets the bytes through us."""

    def refused(*_arguments: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(os, "copy_file_range", refused)
    data = os.urandom(size)
    (tmp_path / "a").write_bytes(data)
    assert copy_hashed(tmp_path / "a", tmp_path / "b", mode=0o600) == hexdigest(data)
    assert (tmp_path / "b").read_bytes() == data


def test_no_room_for_the_rest(tmp_path: Path) -> None:
    """A disk that is full in the middle of a large file is an error, not a digest."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mount is refused here")
    try:
        (tmp_path / "a").write_bytes(os.urandom(3 * LARGE))
        with pytest.raises(OSError, match="No space"):
            copy_hashed(tmp_path / "a", place / "b", mode=0o444)
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize("places", [(0,), (0, 9), (5,), ()], ids=["end", "middle", "both ends", "all"])
def test_holes_stay_holes(tmp_path: Path, places: tuple[int, ...]) -> None:
    """A sparse file is copied in what its data take, and its digest is that of all its bytes."""
    with (tmp_path / "a").open("wb") as file:
        file.truncate(10 << 20)
        for place in places:
            os.pwrite(file.fileno(), b"data" * (1 << 18), place << 20)
    data = (tmp_path / "a").read_bytes()
    assert copy_hashed(tmp_path / "a", tmp_path / "b", mode=0o444) == hexdigest(data)
    assert (tmp_path / "b").read_bytes() == data
    assert (tmp_path / "b").stat().st_blocks <= (len(places) << 11) + 64
