"""Workspaces: an overlay or a copy of a model, and nothing of it left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cogbuild.process import Command, Level, Pool, Protection, Reason
from cogbuild.workspace import Workspaces, open_workspace, sweep

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
NO_OVERLAY = Protection(Level.SUBREAPER, overlay=False)
OVERLAY = Protection(Level.NAMESPACES, overlay=True)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Make a sealed tree."""
    top = tmp_path / "model"
    for name in ("weights.bin", "run.sh", "docs/a.md", "docs/deep/b.md"):
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\n")
        path.chmod(0o555 if name == "run.sh" else 0o444)
    (top / "link").symlink_to("weights.bin")
    (top / "dangling").symlink_to("/no/such")
    return top


def test_copy_is_writable_and_leaves_the_model_alone(model: Path, tmp_path: Path) -> None:
    """A copy keeps contents, executable bits, links and times; what is done to it stays in it."""
    with open_workspace(model, tmp_path / "work", protection=NO_OVERLAY) as workspace:
        assert workspace.view is None
        assert sorted(path.name for path in workspace.root.iterdir()) == [
            *("dangling", "docs", "link", "run.sh", "weights.bin"),
        ]
        assert (workspace.root / "weights.bin").stat().st_mode & 0o7777 == 0o644
        assert (workspace.root / "run.sh").stat().st_mode & 0o7777 == 0o755
        assert os.readlink(workspace.root / "link") == "weights.bin"
        assert os.readlink(workspace.root / "dangling") == "/no/such"
        assert (workspace.root / "docs/deep/b.md").read_text() == "docs/deep/b.md\n"
        assert (workspace.root / "run.sh").stat().st_mtime_ns == (model / "run.sh").stat().st_mtime_ns
        (workspace.root / "weights.bin").write_text("changed")
    assert (model / "weights.bin").read_text() == "weights.bin\n"
    assert list((tmp_path / "work").iterdir()) == []


def test_copy_leaves_out_what_is_masked(model: Path, tmp_path: Path) -> None:
    """Masked files and directories are not copied."""
    with open_workspace(
        model, tmp_path / "work", masked=("docs/deep", "link"), protection=NO_OVERLAY
    ) as workspace:
        found = sorted(str(path.relative_to(workspace.root)) for path in workspace.root.rglob("*"))
    assert found == ["dangling", "docs", "docs/a.md", "run.sh", "weights.bin"]


def test_copy_of_a_sparse_file_is_whole(tmp_path: Path) -> None:
    """A file with holes, and an empty one, come out with the same size and bytes."""
    model = tmp_path / "model"
    model.mkdir()
    with (model / "sparse").open("wb") as file:
        file.seek(50 << 20)
        file.write(b"end")
    (model / "empty").touch()
    with open_workspace(model, tmp_path / "work", protection=NO_OVERLAY) as workspace:
        copied = (workspace.root / "sparse").read_bytes()
        assert copied == bytes(50 << 20) + b"end"
        assert (workspace.root / "empty").stat().st_size == 0


def test_copy_across_file_systems_works(model: Path) -> None:
    """Where blocks can't be shared at all, bytes are copied."""
    places = [place for place in (Path("/dev/shm"), Path("/var/tmp")) if os.access(place, os.W_OK)]
    other = next((place for place in places if place.stat().st_dev != model.stat().st_dev), None)
    if other is None:
        pytest.skip("no second file system to write to")
    parent = other / f"cogbuild-test-{os.urandom(6).hex()}"
    with open_workspace(model, parent, protection=NO_OVERLAY) as workspace:
        assert (workspace.root / "weights.bin").read_text() == "weights.bin\n"
    parent.rmdir()


def test_copy_that_fails_leaves_nothing(model: Path, tmp_path: Path) -> None:
    """A model that vanishes while it is copied is an OSError, and no half of it stays."""
    with pytest.raises(FileNotFoundError):
        open_workspace(model / "gone", tmp_path / "work", protection=NO_OVERLAY)
    assert list((tmp_path / "work").iterdir()) == []


def test_locked_directories_are_removed(model: Path, tmp_path: Path) -> None:
    """Whatever modes an adapter leaves, the workspace goes."""
    with open_workspace(model, tmp_path / "work", protection=NO_OVERLAY) as workspace:
        (workspace.root / "docs").chmod(0)
        workspace.root.chmod(0)
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize("large_writes", [False, True])
def test_overlay_runs_and_leaves_nothing(model: Path, tmp_path: Path, *, large_writes: bool) -> None:
    """An adapter sees the model where the workspace says, writes there, and nothing stays."""
    with Pool(1) as pool, Workspaces(tmp_path / "work", pool.protection) as workspaces:
        if not pool.protection.overlay:
            pytest.skip("no overlay here")
        for _ in range(2):
            with workspaces.open(model, masked=["docs/deep"], large_writes=large_writes) as workspace:
                text = "pwd; ls . docs; rm weights.bin; echo x > new; mkdir -p made/deep; chmod 0 made"
                command = Command(("sh", "-c", text), ENVIRONMENT, workspace.root, workspace.view)
                ended = pool.run(command)
                assert ended.stdout.decode().split() == [
                    str(workspace.root),
                    *[".:", "dangling", "docs", "link", "run.sh", "weights.bin", "docs:", "a.md"],
                ]
    assert (model / "weights.bin").read_text() == "weights.bin\n"
    assert list((tmp_path / "work").iterdir()) == []


def test_workspaces_of_sealed_models_are_their_own(model: Path, tmp_path: Path) -> None:
    """Many runs over sealed models at once, some of which write, each see their model unchanged."""
    (tmp_path / "second").mkdir()
    (tmp_path / "second/file").write_text("second\n")
    with Pool(2) as pool, Workspaces(tmp_path / "work", pool.protection) as workspaces:

        def one(number: int) -> bytes:
            chosen = model if number % 3 else tmp_path / "second"
            text = "ls; echo x > made" if number % 5 == 0 else "ls"
            with workspaces.open(chosen, sealed=True) as workspace:
                return pool.run(
                    Command(("sh", "-c", text), ENVIRONMENT, workspace.root, workspace.view)
                ).stdout

        with ThreadPoolExecutor(2) as threads:
            results = list(threads.map(one, range(60)))
    assert {result for number, result in enumerate(results) if number % 3} == {
        b"dangling\ndocs\nlink\nrun.sh\nweights.bin\n"
    }
    assert set(results[::3]) == {b"file\n"}


def test_refused_overlay_falls_back_to_a_copy(tmp_path: Path) -> None:
    """Where the kernel refuses a view of this model at run time, a copy of it can be asked for."""
    with Pool(1) as pool, Workspaces(tmp_path / "work", pool.protection) as workspaces:
        if not pool.protection.overlay:
            pytest.skip("no overlay here")
        model = Path("/proc/sys/fs/epoll")  # no overlay can be made over /proc
        with workspaces.open(model) as workspace:
            ended = pool.run(Command(("true",), ENVIRONMENT, workspace.root, workspace.view))
        assert (ended.reason, ended.view_failed) == (Reason.NOT_STARTED, True)
        with workspaces.open(model, copy=True) as workspace:
            ended = pool.run(Command(("ls",), ENVIRONMENT, workspace.root, workspace.view))
        assert ended.stdout == b"max_user_watches\n"


HOLDER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from cogbuild.process import Level, Protection
from cogbuild.workspace import open_workspace
protection = Protection(Level.SUBREAPER, False)
workspace = open_workspace(Path(sys.argv[1]), Path(sys.argv[2]), protection=protection)
print(workspace.root, flush=True)
sys.stdin.read()
"""


def test_sweep_takes_what_the_dead_left_and_nothing_else(model: Path, tmp_path: Path) -> None:
    """Workspaces of living processes stay, those of killed ones go, also with locked directories in them."""
    work = tmp_path / "work"
    assert sweep(work) == []
    words = [sys.executable, "-c", HOLDER, str(model), str(work)]
    with (
        open_workspace(model, work, protection=OVERLAY) as mine,
        subprocess.Popen(
            words, env={"PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as holder,
    ):
        assert holder.stdout is not None
        theirs = Path(holder.stdout.readline().strip())
        (theirs / "docs").chmod(0)
        assert sweep(work) == []
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert sweep(work) == [theirs.parents[1]]
        assert not theirs.exists()
        assert mine.root.exists()
    assert list(work.iterdir()) == []
