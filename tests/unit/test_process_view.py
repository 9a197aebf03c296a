"""Private views: what a command sees, and that nothing it does there is seen by anyone else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cogbuild.errors.adapters_process import ProtectionRefused
from cogbuild.process import Command, Ended, Level, Pool, Reason, View
from cogbuild.process.tree import remove_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    """Make a pool that gives views."""
    with Pool(1) as pool:
        if not pool.protection.overlay:
            pytest.skip(pool.protection.notes.get("overlay", str(pool.protection.notes)))
        yield pool


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Path]:
    """Make a sealed tree: files read-only, one executable, hard links from elsewhere."""
    top = tmp_path / "model"
    for name in ("weights.bin", "run.sh", "docs/a.md", "docs/deep/b.md", "src/main.py"):
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\n")
        path.chmod(0o555 if name == "run.sh" else 0o444)
    (top / "link").symlink_to("weights.bin")
    os.utime(top, (1_000_000_000, 1_000_000_000))
    before = snapshot(top)
    yield top
    assert snapshot(top) == before


def snapshot(top: Path) -> dict[str, object]:
    """Return names, kinds, modes, times and contents of a tree."""
    found: dict[str, object] = {}
    for path in (top, *sorted(top.rglob("*"))):
        seen = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(top))] = (seen.st_mode, seen.st_mtime_ns, content)
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make the empty directory where a view is seen."""
    path = tmp_path / "root"
    path.mkdir()
    return path


def sh(pool: Pool, view: View, text: str, **options: tuple[Path, ...]) -> Ended:
    """Run a shell script in *view*."""
    return pool.run(Command(("sh", "-c", text), ENVIRONMENT, view.root, view, **options))  # type: ignore[arg-type]  # paths only


def said(ended: Ended) -> list[str]:
    """Return the words of a command that ended well."""
    assert (ended.reason, ended.code) == (Reason.EXIT, 0), ended
    return ended.stdout.decode().split()


CHANGES = (
    "rm weights.bin; mv src/main.py src/other.py; chmod u+w docs/a.md; echo more >> docs/a.md; rm link;"
    " rm -r docs/deep; mkdir docs/deep; echo new > docs/deep/c.md; chmod u+w run.sh; echo x > run.sh; touch ."
)


@pytest.mark.parametrize("on_disk", [False, True])
def test_changes_stay_in_the_view(
    pool: Pool, model: Path, root: Path, tmp_path: Path, *, on_disk: bool
) -> None:
    """Removing, renaming, replacing and appending work, and reach neither the layer nor the next run."""
    disk = tmp_path / "disk"
    disk.mkdir()
    view = View(root, (model,), disk=disk if on_disk else None)
    seen = said(sh(pool, view, CHANGES + "; ls . src docs docs/deep; cat docs/a.md run.sh"))
    assert " ".join(seen) == (
        ".: docs run.sh src docs: a.md deep docs/deep: c.md src: other.py docs/a.md more x"
    )
    assert said(sh(pool, view, "cat docs/a.md run.sh; ls . docs/deep")) == (
        ["docs/a.md", "run.sh", ".:", "docs", "link", "run.sh", "src", "weights.bin", "docs/deep:", "b.md"]
    )
    assert list(root.iterdir()) == []
    assert list(disk.iterdir()) == []


def test_view_looks_like_the_model(pool: Pool, model: Path, root: Path) -> None:
    """The root of a view has the model's mode and time, and the path it is given."""
    model.chmod(0o750)
    os.utime(model, (1_000_000_000, 1_000_000_000))
    seen = said(sh(pool, View(root, (model,)), "stat -c '%a %Y' .; pwd; ./run.sh 2>&1 | head -1 || true"))
    assert seen[:3] == ["750", "1000000000", str(root)]
    model.chmod(0o755)


def test_upper_layer_covers_the_lower(pool: Pool, model: Path, root: Path, tmp_path: Path) -> None:
    """Of several layers the topmost shows."""
    above = tmp_path / "above, with: odd\\name"
    above.mkdir()
    (above / "weights.bin").write_text("replaced\n")
    assert said(sh(pool, View(root, (above, model)), "cat weights.bin; ls docs")) == [
        "replaced",
        "a.md",
        "deep",
    ]


def test_masked_paths_are_not_there(pool: Pool, model: Path, root: Path) -> None:
    """A masked file or directory is invisible, can be made anew, and comes back for a run that does not mask it."""
    masked = ("docs/deep", "src/main.py", "link", "docs/deep/b.md", "not/there")
    view = View(root, (model,), masked)
    seen = said(sh(pool, view, "ls -R; cat src/main.py 2>/dev/null && exit 1; mkdir docs/deep; ls docs/deep"))
    assert " ".join(seen) == ".: docs run.sh src weights.bin ./docs: a.md ./src:"
    assert "main.py" in said(sh(pool, View(root, (model,)), "ls src"))


def test_writing_past_the_limit_is_no_space_left(pool: Pool, model: Path, root: Path) -> None:
    """Writes over the memory limit fail for the adapter alone, and the next run has all the room again."""
    view = View(root, (model,), memory_limit=8 << 20)
    fill = "head -c 7000000 /dev/zero > big && echo fits; head -c 7000000 /dev/zero > more || echo full"
    for _ in range(3):
        ended = sh(pool, view, fill)
        assert said(ended) == ["fits", "full"]
        assert ended.last_line.endswith(b"No space left on device")


def test_many_runs_leave_no_mounts(pool: Pool, model: Path, root: Path, tmp_path: Path) -> None:
    """However many runs there were, a command sees few mounts, and the worker keeps few files open."""
    other = tmp_path / "other"
    other.mkdir()
    count = "wc -l < /proc/self/mountinfo"
    first = int(said(sh(pool, View(root, (model,)), count))[0])
    for number in range(80):
        place = root if number % 7 else other
        last = int(said(sh(pool, View(place, (model,)), count))[0])
        assert last < first + 40
    assert list(root.iterdir()) == list(other.iterdir()) == []


@pytest.mark.slow
def test_deep_and_locked_trees_are_thrown_away(pool: Pool, model: Path, root: Path, tmp_path: Path) -> None:
    """What was written on disk goes whatever its depth and modes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    deep = (
        "for i in $(seq 1500); do mkdir d; cd d; done; cd " + str(root) + "; mkdir no; touch no/x; chmod 0 no"
    )
    said(sh(pool, View(root, (model,), disk=disk), deep))
    assert list(disk.iterdir()) == []


def test_layer_that_is_not_there_is_told(pool: Pool, model: Path, root: Path) -> None:
    """A view that can't be made is not started, and says that a copy may do."""
    ended = sh(pool, View(root, (model / "gone",)), "true")
    assert (ended.reason, ended.view_failed) == (Reason.NOT_STARTED, True)
    assert ended.detail == f"mounting the view ({model / 'gone'}): No such file or directory"
    assert said(sh(pool, View(root, (model,)), "cat src/main.py")) == ["src/main.py"]


def test_layer_that_the_kernel_refuses_is_told(pool: Pool, root: Path) -> None:
    """A layer on a file system that an overlay can't use is refused at run time, and the pool goes on."""
    ended = sh(pool, View(root, (Path("/proc"),)), "true")
    assert (ended.reason, ended.view_failed) == (Reason.NOT_STARTED, True)
    assert ended.detail.startswith("mounting the view: ")


@pytest.mark.parametrize("level", [Level.BUBBLEWRAP, Level.CGROUP, Level.SUBREAPER])
def test_lower_levels_have_no_views(model: Path, root: Path, level: Level) -> None:
    """Where there are no views, a command that asks for one is not started."""
    with Pool(1, level=level) as pool:
        try:
            ended = sh(pool, View(root, (model,)), "true")
        except ProtectionRefused as refused:
            pytest.skip(str(refused))
    assert (ended.reason, ended.view_failed) == (Reason.NOT_STARTED, True)
    assert ended.detail == f"there are no views at the level {level}"


# Hidden directories


@pytest.fixture
def data(tmp_path: Path, model: Path) -> Path:
    """Make a data directory that holds a database, a model, work and outputs."""
    top = tmp_path / "data"
    for name in ("models", "work/1", "work/2", "out/1", "out/2", "envs/e"):
        (top / name).mkdir(parents=True)
    (top / "cog.db").write_text("secret")
    (top / "envs/e/tool").write_text("tool\n")
    shutil.copytree(model, top / "models/m", symlinks=True)
    return top


def test_hidden_directory_shows_only_what_is_exposed(pool: Pool, data: Path) -> None:
    """Run after run, a command sees of the data directory its view, its output and what it may read."""
    for number in ("1", "2", "1"):
        view = View(data / "work" / number, (data / "models/m",))
        text = (
            f"cd {data}; ls . work out envs/e; cat envs/e/tool; echo made > out/{number}/file; cat work/*/weights.bin;"
            " touch x 2>/dev/null || echo ro; touch envs/e/x 2>/dev/null || echo ro; touch work/x 2>/dev/null || echo ro"
        )
        ended = sh(
            pool, view, text, hide=(data,), expose=(data / "envs/e",), writable=(data / "out" / number,)
        )
        assert " ".join(said(ended)) == (
            f".: envs out work envs/e: tool out: {number} work: {number} tool weights.bin ro ro ro"
        )
        assert (data / "out" / number / "file").read_text() == "made\n"
        (data / "out" / number / "file").unlink()
    assert list((data / "work/1").iterdir()) == []


def test_shown_directory_that_was_made_anew_is_shown_anew(pool: Pool, data: Path) -> None:
    """A path that was removed and made again between two runs shows what is there now."""
    view = View(data / "work/1", (data / "models/m",))
    for content in ("old", "new"):
        shutil.rmtree(data / "envs/e")
        (data / "envs/e").mkdir()
        (data / "envs/e/tool").write_text(content)
        assert said(sh(pool, view, f"cat {data}/envs/e/tool", hide=(data,), expose=(data / "envs/e",))) == [
            content
        ]


def test_sealed_models_share_what_is_mounted(pool: Pool, data: Path, root: Path) -> None:
    """Runs over sealed models see each its own; what one writes is not there for the next, of any model."""
    (data / "models/n").mkdir()
    (data / "models/n/other").write_text("n\n")
    place = data / "work/1"
    for hide in ((), (data,)):
        for _ in range(20):
            for name, files in (("m", ["docs", "link", "run.sh", "src", "weights.bin"]), ("n", ["other"])):
                view = View(place if hide else root, (data / "models" / name,), sealed=True)
                assert said(sh(pool, view, "ls", hide=hide)) == files
        view = View(place if hide else root, (data / "models/n",), sealed=True)
        assert said(sh(pool, view, "echo x >> other; touch made; ls; cat other", hide=hide)) == [
            "made",
            "other",
            "n",
            "x",
        ]
        assert said(sh(pool, view, "ls; cat other", hide=hide)) == ["other", "n"]
        masked = View(view.root, view.layers, ("other",), sealed=True)
        assert said(sh(pool, masked, "ls", hide=hide)) == []
        (data / "models/later").mkdir()
        (data / "models/later/file").touch()
        later = View(view.root, (data / "models/later",), sealed=True)
        assert said(sh(pool, later, "ls; rm file; ls", hide=hide)) == ["file"]
        assert said(sh(pool, later, "ls", hide=hide)) == ["file"]
        shutil.rmtree(data / "models/later")
    assert (data / "models/n/other").read_text() == "n\n"


def test_exposed_file_is_read_only(pool: Pool, data: Path, tmp_path: Path) -> None:
    """A single file can be exposed, and can't be written."""
    command = Command(
        ("sh", "-c", f"cat {data}/envs/e/tool; echo x > {data}/envs/e/tool || echo ro; ls {data}"),
        ENVIRONMENT,
        tmp_path,
        hide=(data,),
        expose=(data / "envs/e/tool",),
    )
    assert said(pool.run(command)) == ["tool", "ro", "envs"]


@pytest.mark.parametrize("level", [Level.NAMESPACES, Level.BUBBLEWRAP])
def test_copy_in_a_hidden_directory_stays_usable(data: Path, level: Level) -> None:
    """A working directory without a view is shown for writing at each level that can hide."""
    with Pool(1, level=level) as pool:
        try:
            assert pool.protection.level == level
        except ProtectionRefused as refused:
            pytest.skip(str(refused))
        for number in ("1", "2"):
            text = f"pwd; echo x > made; cd {data}; ls . work; cat envs/e/tool; touch envs/e/x 2>/dev/null || echo ro"
            command = Command(
                ("sh", "-c", text),
                ENVIRONMENT,
                data / "work" / number,
                hide=(data,),
                expose=(data / "envs/e",),
                writable=(data / "out/1",),
            )
            assert " ".join(said(pool.run(command))) == (
                f"{data / 'work' / number} .: envs out work work: {number} tool ro"
            )
            assert (data / "work" / number / "made").read_text() == "x\n"


def test_missing_path_to_show_is_not_a_matter_of_the_view(pool: Pool, data: Path) -> None:
    """What can't be shown is named, and a copy would not help."""
    view = View(data / "work/1", (data / "models/m",))
    ended = sh(pool, view, "true", hide=(data,), expose=(data / "gone",))
    assert (ended.reason, ended.view_failed) == (Reason.NOT_STARTED, False)
    assert ended.detail == (
        f"showing what lies in a hidden directory ({data / 'gone'}): No such file or directory"
    )


def test_command_sees_no_process_but_its_own(pool: Pool, model: Path, root: Path) -> None:
    """Neither our environment nor our open files can be read from inside."""
    text = "ls /proc | grep -c '^[0-9]'; cat /proc/1/environ /proc/1/root/etc/passwd 2>/dev/null; readlink /proc/1/fd/*; id -u"
    count, user = said(sh(pool, View(root, (model,)), text))
    assert int(count) < 8
    assert int(user) == os.getuid()


# Removing


def test_remove_tree_takes_any_tree(tmp_path: Path) -> None:
    """Deep, long-named, locked and linked: all of it goes, and what links point to stays."""
    top = tmp_path / "top"
    top.mkdir()
    (tmp_path / "kept").write_text("kept")
    (top / "link").symlink_to(tmp_path / "kept")
    (top / "dir-link").symlink_to(tmp_path)
    here = os.open(top, os.O_RDONLY)
    for _ in range(100):
        os.mkdir("n" * 200, dir_fd=here)
        below = os.open("n" * 200, os.O_RDONLY, dir_fd=here)
        os.mkdir("side", 0o000, dir_fd=below)
        os.close(os.open("file", os.O_CREAT, dir_fd=below))
        os.close(here)
        here = below
    os.close(here)
    remove_tree(top)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "kept"]
    remove_tree(top)
    remove_tree(tmp_path / "kept")
    assert list(tmp_path.iterdir()) == []
