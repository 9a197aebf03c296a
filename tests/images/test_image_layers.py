"""Does a layer depend on its files alone, and does it hold all of them?"""

from __future__ import annotations

import gzip
import hashlib
import importlib
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from image_fixtures import at_home, images, quickly, registry  # noqa: F401 - pytest finds fixtures by name


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A directory with everything that a layer could get wrong."""
    root = tmp_path / "files"
    (root / "empty").mkdir(parents=True)
    (root / "sub" / "__pycache__").mkdir(parents=True)
    (root / "sub" / "__pycache__" / "left.pyc").write_bytes(b"out")
    (root / "sub" / ("long" * 50)).write_text("a name for which tar's old header has no room")
    (root / "run").write_text("#!/bin/sh\n")
    (root / "run").chmod(0o755)
    (root / "link").symlink_to("sub/é")
    (root / "sub" / "é").write_text("a name that is not ASCII")
    (root / "weights").write_bytes(os.urandom(9 << 20))
    return root


def test_a_layer_is_the_same_whoever_makes_it_and_when(images: Any, files: Path) -> None:
    """Times, owners, group bits and the order of directories are not in it."""
    first = images.layer({"/src": files})
    for path in [files, *files.rglob("*")]:
        os.utime(path, (1_900_000_000, 1_900_000_000), follow_symlinks=False)
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o700)
            if os.geteuid() == 0:
                os.chown(path, 1234, 1234)
    second = images.layer({"/src": files})
    assert (first.digest, first.diff_id) == (second.digest, second.diff_id)
    assert first.file.read_bytes() == second.file.read_bytes()


def test_a_known_layer_has_a_known_digest(images: Any) -> None:
    """The same on every machine: what the tar is, is pinned here."""
    made = images.layer({"/etc/motd": "hello\n", "/usr/bin/hello": "#!/bin/sh\necho hello\n"})
    assert made.diff_id == "sha256:0db513e39d08b7c639ba24ed01fcc9ddc7d466d15a0a9ff4c9a1df74e8d6b335"


def test_a_layer_holds_its_files(images: Any, files: Path) -> None:
    """Unpacked, it is the directory: names, contents, links, empty directories, executable files; owned by root."""
    made = images.layer({"/src": files, "/src/.cog/schema.json": b"{}", "/bin/serve": "#!/bin/sh\n"})
    data = made.file.read_bytes()
    assert (made.size, made.digest) == (len(data), f"sha256:{hashlib.sha256(data).hexdigest()}")
    assert made.diff_id == f"sha256:{hashlib.sha256(gzip.decompress(data)).hexdigest()}"
    with tarfile.open(made.file) as archive:
        entries = {entry.name: entry for entry in archive}
        assert list(entries) == sorted(entries, key=os.fsencode)
        assert {name for name in entries if "__pycache__" in name} == set()
        assert set(entries) == {"bin/serve", "src", "src/.cog/schema.json"} | {
            f"src/{path.relative_to(files)}" for path in files.rglob("*") if "__pycache__" not in path.parts
        }
        assert {(entry.mtime, entry.uid, entry.gid, entry.uname) for entry in entries.values()} == {
            (0, 0, 0, "")
        }
        modes = {name: entry.mode for name, entry in entries.items()}
        assert [modes[f"src/{name}"] for name in ("run", "weights", "empty")] == [0o755, 0o644, 0o755]
        assert modes["bin/serve"] == 0o755
        weights = archive.extractfile("src/weights")
        assert weights is not None
        assert weights.read() == (files / "weights").read_bytes()
        assert entries["src/link"].linkname == "sub/é"


def test_what_does_not_shrink_is_stored(images: Any, tmp_path: Path) -> None:
    """Weights are not compressed for nothing; text is."""
    (tmp_path / "noise").write_bytes(os.urandom(4 << 20))
    (tmp_path / "text").write_bytes(b"all work and no play\n" * 200_000)
    noise, text = (images.layer({"/it": tmp_path / name}) for name in ("noise", "text"))
    assert 1 < noise.size / (4 << 20) < 1.001
    assert text.size < 4 << 16


def test_what_takes_long_says_how_far_it_is(
    images: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line every few seconds; here after every piece."""
    monkeypatch.setattr(importlib.import_module("cogbuild_adapter.images.progress"), "_EVERY", 0.0)
    (tmp_path / "noise").write_bytes(os.urandom(2 << 20))
    images.layer({"/it": tmp_path / "noise"}, comment="noise")
    assert capsys.readouterr().err.splitlines()[-1] == "packing noise: 2.1 MB of 2.1 MB"


def test_a_file_that_would_delete_others_is_refused(images: Any, tmp_path: Path) -> None:
    """``.wh.`` names mean in a layer that a file below is gone."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / ".wh.passwd").touch()
    with pytest.raises(Exception, match=r"\.wh\.passwd cannot be in an image: its name begins with \.wh\."):
        images.layer({"/etc": tmp_path / "model"})


@pytest.mark.parametrize("target", ["src", "/src/../etc"])
def test_a_place_that_is_not_absolute_is_refused(target: str, images: Any) -> None:
    """Everything in an image has a place from its root on."""
    with pytest.raises(Exception, match="is no absolute path in an image"):
        images.layer({target: "text"})
