"""Trees and manifests: what counts, what does not, and literal keys."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from characters import CHARACTERS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cogbuild import digest
from cogbuild.digest import file_digest, hexdigest, tagged
from cogbuild.errors.models import LinkLeavesModel, SpecialFile
from cogbuild.fingerprint.manifest import (
    Manifest,
    Row,
    changes,
    flatten,
    manifest,
    part_digest,
    part_rows,
    rows_part,
    tree_part,
)
from cogbuild.fingerprint.trees import Entry, Memo, Tree, left_out, read_tree, selected


def write(root: Path, files: dict[str, str]) -> Path:
    """Write files below *root*."""
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def paths(tree: Tree) -> list[str]:
    """Return the paths of a tree."""
    return [entry.path for entry in tree.entries]


# -- digests and keys ---------------------------------------------------------------------------------------------


def test_literal_keys() -> None:
    """These digests never change: a release that moves one rebuilds every artifact of every user."""
    tree = Tree((Entry("a", "f", hexdigest(b"x"), 1), Entry("b", "l", "a", 0), Entry("c", "d", "", 0)))
    rows = Manifest((Row("adapter", tree.digest, part=True), Row("needs:x", "y")))
    assert hexdigest(b"") == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert tagged("t", ["a", b"b"]) == "a5bc2b5011aadc22737c57fc10c20d28c00ff24abdf03ed277ab953176d745f7"
    assert tree.digest == "8663f43769e57854ffd02026fd8a12d7668fc333ad51cea5fc08718ac734503b"
    assert rows.key == "0454e53a50f7635da617a047d5b07a146fc71a512903844837bd79359eb36ffd"
    assert (
        rows_part([("label", "value")]).digest
        == "4339fe679f85b895023b94a5eab7ec58a3d6521ff9785a1fc31497ca43acfd41"
    )


def test_fields_are_told_apart() -> None:
    """Moving a byte from one field to the next gives another digest."""
    assert tagged("t", ["ab", "c"]) != tagged("t", ["a", "bc"])
    assert tagged("t", ["ab"]) != tagged("ta", ["b"])


@given(
    st.lists(
        st.tuples(st.text(CHARACTERS.filter(lambda one: one != "\0")), st.text(CHARACTERS), st.booleans())
    )
)
def test_a_manifest_survives_its_encoding(rows: list[tuple[str, str, bool]]) -> None:
    """What is decoded is what was encoded, whatever the labels and values hold."""
    of = Manifest(
        tuple(Row(label, hexdigest(value.encode()) if part else value, part) for label, value, part in rows)
    )
    assert Manifest.decode(of.encode()) == of


def test_rows_come_in_one_order() -> None:
    """However the parts are given, the manifest lists them the same."""
    one = manifest({"model": "11" * 32, "adapter": "22" * 32, "params": None}, {"b": "2", "a": "1"})
    two = manifest({"adapter": "22" * 32, "model": "11" * 32}, {"a": "1", "b": "2"})
    assert [row.label for row in one.rows] == ["adapter", "model", "needs:a", "needs:b"]
    assert one.key == two.key


def test_changes_name_rows_in_opened_parts() -> None:
    """A part that differs is opened, and the file in it is named."""
    before = tree_part(Tree((Entry("a.py", "f", hexdigest(b"1"), 1),)))
    after = tree_part(Tree((Entry("a.py", "f", hexdigest(b"2"), 1), Entry("b.py", "x", hexdigest(b"3"), 1))))
    parts = {part.digest: part for part in (before, after)}
    old, new = manifest({"model": before.digest}, {}), manifest({"model": after.digest}, {})
    moved = changes(flatten(old, parts.get), flatten(new, parts.get))
    assert [(change.label, change.before and change.before[:8]) for change in moved] == [
        ("model:a.py", "file " + hexdigest(b"1")[:3]),
        ("model:b.py", None),
    ]


def test_a_part_is_found_by_its_digest() -> None:
    """The digest under which a part is kept is that of its bytes and kind."""
    part = rows_part([("a", "b")])
    assert part_digest(part.kind, part.blob) == part.digest
    assert part_rows(part.kind, part.blob) == [("a", "b")]


# -- trees --------------------------------------------------------------------------------------------------------


def test_what_is_left_out(tmp_path: Path) -> None:
    """Version control, caches, our own and Cog's own directories, and the wishes file do not count."""
    write(
        tmp_path,
        {
            "cog.yaml": "",
            "a.py": "",
            "__pycache__/a.pyc": "",
            "b.pyc": "",
            ".git/config": "",
            ".cogbuild/x": "",
            ".cog/tmp/x": "",
            ".cog/openapi_schema.json": "",
            "cog-adapters.yaml": "",
            "sub/cog-adapters.yaml": "",
        },
    )
    assert paths(read_tree(tmp_path).tree) == [
        ".cog/openapi_schema.json",
        "a.py",
        "cog.yaml",
        "sub/cog-adapters.yaml",
    ]


def test_dockerignore_is_dockers(tmp_path: Path) -> None:
    """Patterns are rooted, cover what is below, the last match wins, and ``cog.yaml`` can't be ignored away."""
    write(
        tmp_path,
        dict.fromkeys(("cog.yaml", "data/a", "data/keep/b", "sub/data/c", "x.log", "sub/x.log", "y.tmp"), ""),
    )
    (tmp_path / ".dockerignore").write_text("# words\ndata\n!data/keep\n*.log\n**/*.tmp\n/cog.yaml\n")
    assert paths(read_tree(tmp_path).tree) == [
        ".dockerignore",
        "cog.yaml",
        "data/keep/b",
        "sub/data/c",
        "sub/x.log",
    ]


@pytest.mark.parametrize(
    "change", ["content", "executable", "rename", "symlink", "empty directory", "removed"]
)
def test_each_of_these_moves_the_id(tmp_path: Path, change: str) -> None:
    """Content, executable bit, name, symlink target and empty directories all count."""
    write(tmp_path, {"cog.yaml": "1", "a": "1"})
    (tmp_path / "l").symlink_to("a")
    before = read_tree(tmp_path).tree.model_id
    if change == "content":
        (tmp_path / "a").write_text("2")
    elif change == "executable":
        (tmp_path / "a").chmod(0o755)
    elif change == "rename":
        (tmp_path / "a").rename(tmp_path / "b")
    elif change == "symlink":
        (tmp_path / "l").unlink()
        (tmp_path / "l").symlink_to("cog.yaml")
    elif change == "empty directory":
        (tmp_path / "e").mkdir()
    else:
        (tmp_path / "l").unlink()
    assert read_tree(tmp_path).tree.model_id != before


def test_names_of_any_bytes(tmp_path: Path) -> None:
    """Newlines, escapes and bytes that are not UTF-8 are kept, and two such names differ."""
    for name in (b"a\nb", b"\x1b[31m", b"\xff", b"\xfe", "é".encode()):
        with open(os.path.join(os.fsencode(tmp_path), name), "wb"):
            pass
    tree = read_tree(tmp_path).tree
    assert len(tree.entries) == 5
    assert Tree.decode(tree.encode()) == tree


def test_special_files_are_refused_without_being_opened(tmp_path: Path) -> None:
    """A FIFO would block whoever opens it; it and a socket are named and refused."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SpecialFile, match="pipe is a FIFO"):
        read_tree(tmp_path)
    (tmp_path / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.getcwd()
        os.chdir(tmp_path)
        try:
            listening.bind("sock")
        finally:
            os.chdir(here)
        with pytest.raises(SpecialFile, match="sock is a socket"):
            read_tree(tmp_path)


@pytest.mark.parametrize("target", ["/etc/passwd", "../x", "sub/../../x", "sub/back/../../x"])
def test_symlinks_that_leave_are_refused(tmp_path: Path, target: str) -> None:
    """Absolute targets and those that climb out, also through another link, are no part of a model."""
    root = tmp_path / "m"
    write(root, {"cog.yaml": "", "sub/f": ""})
    (root / "sub" / "back").symlink_to("..")
    (root / "l").symlink_to(target)
    with pytest.raises(LinkLeavesModel):
        read_tree(root)


# -- the memo -----------------------------------------------------------------------------------------------------


def old(root: Path) -> None:
    """Make every file look as if it had not been touched for an hour (its ctime can't be set, so look later)."""
    for path in root.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)


LATER = 10**19


def test_an_unchanged_tree_is_not_read_again(tmp_path: Path) -> None:
    """With a memo whose stats hold, the very same memo comes back."""
    write(tmp_path, {"a": "1", "s/b": "2"})
    memo = read_tree(tmp_path, now_ns=LATER)
    assert read_tree(tmp_path, Memo.decode(memo.encode()), now_ns=LATER) == memo
    kept = Memo.decode(memo.encode())
    assert read_tree(tmp_path, kept, now_ns=LATER) is kept


def test_a_young_file_is_read_again(tmp_path: Path) -> None:
    """Git's racy rule: same size and time, other content, is found, because the file was too young to trust."""
    write(tmp_path, {"a": "1"})
    info = os.stat(tmp_path / "a")
    memo = read_tree(tmp_path)
    (tmp_path / "a").write_text("2")
    os.utime(tmp_path / "a", ns=(info.st_atime_ns, info.st_mtime_ns))
    assert read_tree(tmp_path, memo).tree.digest != memo.tree.digest


def test_a_damaged_or_newer_memo_is_no_memo() -> None:
    """A memo is only a hint: what can't be read is passed over."""
    assert Memo.decode(None) is None
    assert Memo.decode(b"\x09whatever") is None


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.dictionaries(
        st.sampled_from(["a", "b", "d/a", "d/e/f", "g.py"]), st.binary(max_size=3), max_size=5
    )
)
def test_equal_ids_mean_equal_trees(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    """Two directories have one ID exactly when they hold the same."""
    root = tmp_path_factory.mktemp("t")
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    tree = read_tree(root).tree
    assert {entry.path: entry.value for entry in tree.entries} == {
        path: hexdigest(data) for path, data in files.items()
    }
    assert Tree.decode(tree.encode()).digest == tree.digest


# -- filters ------------------------------------------------------------------------------------------------------


def test_inputs_admit_and_exclude(tmp_path: Path) -> None:
    """Patterns admit in order, the last match wins; all of it is the tree itself."""
    write(tmp_path, dict.fromkeys(("cog.yaml", "a.py", "docs/x.md", "docs/y.py", "w/big.bin"), ""))
    tree = read_tree(tmp_path).tree
    assert selected(tree, ["**"]) is tree
    assert paths(selected(tree, ["**", "!docs/**", "docs/y.py"])) == [
        "a.py",
        "cog.yaml",
        "docs/y.py",
        "w/big.bin",
    ]
    assert paths(selected(tree, ["*.py"])) == ["a.py", "docs/y.py"]


def test_left_out_names_whole_directories(tmp_path: Path) -> None:
    """What a workspace has to hide is named once, a directory for all that it holds."""
    write(tmp_path, {"cog.yaml": "", ".git/a/b": "", "docs/x": "", "w/keep": "", "w/drop/y": ""})
    tree = selected(read_tree(tmp_path).tree, ["cog.yaml", "w/keep"])
    assert left_out(tmp_path, tree) == [".git", "docs", "w/drop"]


@pytest.mark.parametrize("ahead", [digest._READ_AHEAD, 1 << 20])
def test_large_and_small_files_hash_alike(
    ahead: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one piece or in many, of which one is read while another is hashed: no byte is missed, or taken twice."""
    monkeypatch.setattr(digest, "_READ_AHEAD", ahead)
    data = os.urandom((13 << 20) + 5)
    for size in (0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 4 << 20, 8 << 20, (8 << 20) + 1, len(data)):
        (tmp_path / "f").write_bytes(data[:size])
        assert file_digest(tmp_path / "f") == (hexdigest(data[:size]), size)
