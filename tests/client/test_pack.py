"""A model is read for sending as the store reads it, and its zip is the same bytes every time."""

from __future__ import annotations

import os
import tracemalloc
from hashlib import sha256
from pathlib import Path

import pytest
from conftest import MODEL, PREDICT, Sandbox

from cogbuild.archive import extract
from cogbuild.client.pack import Model, manifest, pieces, read_model, zipped
from cogbuild.errors.client import NameNotSent
from cogbuild.errors.declarations import ReferencedFileMissing
from cogbuild.errors.models import FileChangedWhileRead, NoModelFile, NotAModelPath
from cogbuild.fingerprint.trees import read_tree


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model with everything that a tree can hold, and with what is left out of it."""
    at = tmp_path / "m"
    at.mkdir()
    for path, text in {
        "cog.yaml": MODEL,
        "predict.py": PREDICT,
        "tool.sh": "#!/bin/sh\n",
        "ü/deep/ä": "letters",
        ".dockerignore": "out/\n*.tmp\n",
        "out/large": "left out",
        "a.tmp": "left out",
        "__pycache__/x.pyc": "left out",
        ".git/config": "left out",
        "cog-adapters.yaml": "adapters: [one]\n",
    }.items():
        (at / path).parent.mkdir(parents=True, exist_ok=True)
        (at / path).write_text(text)
    (at / "tool.sh").chmod(0o700)
    (at / "predict.py").chmod(0o600)
    (at / "link").symlink_to("ü/deep")
    (at / "empty").mkdir()
    return at


def whole(model: Model) -> bytes:
    """Return the whole zip."""
    return b"".join(zipped(model))


def test_the_id_is_known_before_anything_is_sent(box: Sandbox) -> None:
    """The client's ID of a directory is the one that the store gives it."""
    files = {".dockerignore": "no\n", "no": "x", "sub/yes": "y", "cog-adapters.yaml": "adapters: []\n"}
    added = box.add("m", files)
    found = read_model(box.root / "models" / "m")
    assert (found.tree.model_id, len(found.tree.entries)) == (added.model, added.files)
    assert found.wishes == b"adapters: []\n"


def test_a_zip_is_read_back_as_the_same_tree(model: Path, tmp_path: Path) -> None:
    """Executable bits, symlinks, empty directories and names arrive; what is left out does not; wishes go along."""
    packed = tmp_path / "m.zip"
    packed.write_bytes(whole(read_model(model)))
    (tmp_path / "back").mkdir()
    extract(packed, tmp_path / "back", limit=1 << 20)
    assert read_tree(tmp_path / "back").tree == read_model(model).tree
    assert (tmp_path / "back" / "cog-adapters.yaml").read_text() == "adapters: [one]\n"
    assert sorted(os.listdir(tmp_path / "back")) == [
        ".dockerignore",
        "cog-adapters.yaml",
        "cog.yaml",
        "empty",
        "link",
        "predict.py",
        "tool.sh",
        "ü",
    ]


def test_a_zip_is_the_same_bytes_every_time(model: Path) -> None:
    """Times and modes that do not count change nothing; the bytes are pinned, whoever makes them."""
    first = whole(read_model(model))
    for path in model.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
    (model / "predict.py").chmod(0o644)
    (model / "tool.sh").chmod(0o755)
    (model / "out" / "more").write_text("left out")
    assert whole(read_model(model)) == first
    assert sha256(first).hexdigest() == PINNED


PINNED = "7845a3840836560fab59e9e7eb68d5eced62357639fa0287accf9ee9edc8138f"


def test_the_list_of_files_names_each_thing(model: Path) -> None:
    """Kinds, digests, sizes and targets, in the order of the tree; the ID follows from nothing else."""
    rows = {row["path"]: row for row in manifest(read_model(model).tree)}
    assert rows["link"] == {"path": "link", "kind": "l", "target": "ü/deep"}
    assert rows["empty"] == {"path": "empty", "kind": "d"}
    assert (rows["tool.sh"]["kind"], rows["tool.sh"]["size"]) == ("x", 10)
    assert "out/large" not in rows


def test_the_same_content_is_sent_once(model: Path) -> None:
    """Two files of one content are one digest."""
    (model / "twin.sh").write_text("#!/bin/sh\n")
    found = read_model(model)
    assert len(found.files) == len([row for row in manifest(found.tree) if row["kind"] in "fx"]) - 1


def test_what_the_server_would_refuse_is_not_sent(model: Path, tmp_path: Path) -> None:
    """A directory without a cog.yaml, one with a wrong one, and what is no directory."""
    with pytest.raises(NotAModelPath):
        read_model(model / "cog.yaml")
    with pytest.raises(NoModelFile):
        read_model(tmp_path)
    (model / "predict.py").unlink()
    with pytest.raises(ReferencedFileMissing):
        read_model(model)


@pytest.mark.parametrize("text", ["class", PREDICT + "# more\n"])
def test_a_file_that_changes_while_it_is_sent_is_noticed(model: Path, text: str) -> None:
    """Shorter or longer than it was read: what is sent would not be what the ID says."""
    found = read_model(model)
    (model / "predict.py").write_text(text)
    entry = found.tree.get("predict.py")
    assert entry is not None
    with pytest.raises(FileChangedWhileRead) as caught:
        list(pieces(found, entry))
    assert caught.value.title == "predict.py changed while it was read"


def test_a_file_that_went_away_or_became_a_link_is_noticed(model: Path) -> None:
    """No link is followed out of the model."""
    found = read_model(model)
    entry = found.tree.get("predict.py")
    assert entry is not None
    (model / "predict.py").unlink()
    with pytest.raises(FileChangedWhileRead):
        list(pieces(found, entry))
    (model / "predict.py").symlink_to("cog.yaml")
    with pytest.raises(FileChangedWhileRead):
        list(pieces(found, entry))


def test_a_name_that_is_no_text_is_not_zipped(model: Path) -> None:
    """A zip says of names that they are UTF-8; the list of files takes them as they are."""
    (model / os.fsdecode(b"caf\xe9")).write_text("x")
    found = read_model(model)
    with pytest.raises(NameNotSent) as caught:
        whole(found)
    assert str(caught.value) == (
        "caf\\xe9 has a name that is not UTF-8, which a Cog server of 2021 can't take\nhint: rename the file"
    )
    assert "caf\udce9" in [row["path"] for row in manifest(found.tree)]


def test_memory_does_not_grow_with_a_file(model: Path) -> None:
    """A large file goes through in pieces."""
    with (model / "weights").open("wb") as file:
        file.truncate(64 << 20)
    found = read_model(model)
    tracemalloc.start()
    size = sum(len(piece) for piece in zipped(found))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > 64 << 20
    assert peak < 4 << 20
