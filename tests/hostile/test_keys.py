"""What content there is decides, whatever clocks, times, inode numbers and names try to hide."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Sandbox

from cogbuild.engine import Status
from cogbuild.fingerprint.trees import Memo, read_tree

pytestmark = pytest.mark.slow

OLD = 1_500_000_000 * 10**9
FUTURE = 4_000_000_000 * 10**9


def settle(path: Path) -> None:
    """Wait until a file is too old to be looked at twice because of its age."""
    while time.time_ns() - path.stat().st_ctime_ns < 2_100_000_000:
        time.sleep(0.05)


def rewritten(weights: Path) -> None:
    """Other content in place, of the same size and with the same time of modification."""
    weights.write_text("bbbb")


def replaced(weights: Path) -> None:
    """Another file moved over it."""
    other = weights.with_name("other")
    other.write_text("bbbb")
    os.utime(other, ns=(OLD, OLD))
    other.replace(weights)


def removed_and_made(weights: Path) -> None:
    """A new file that got the number of the old one."""
    number = weights.stat().st_ino
    for _ in range(64):
        weights.unlink()
        weights.write_text("bbbb")
        if weights.stat().st_ino == number:
            return


def mapped(weights: Path) -> None:
    """Changed through memory, without a write."""
    with weights.open("r+b") as file, mmap.mmap(file.fileno(), 4) as memory:
        memory[:4] = b"bbbb"


def test_other_content_of_the_same_size_and_time_is_noticed(box: Sandbox) -> None:
    """Size and time of modification tell nothing, old or in the future: the adapter runs on what is new, on that alone."""
    changes = {
        f"{change.__name__}-{when}": (change, at)
        for change in (rewritten, replaced, removed_and_made, mapped)
        for when, at in (("old", OLD), ("future", FUTURE))
    }
    for name, (_, at) in changes.items():
        weights = box.model(name, {"weights.bin": "aaaa"}) / "weights.bin"
        os.utime(weights, ns=(at, at))
    box.configure(models=[str(box.root / "models" / name) for name in changes])
    box.adapter("one")
    assert len(box.adapt().ran) == len(changes)
    settle(weights)
    assert box.adapt().results == {}
    for name, (change, at) in changes.items():
        weights = box.root / "models" / name / "weights.bin"
        change(weights)
        os.utime(weights, ns=(at, at))
        assert weights.read_text() == "bbbb"
        run = box.adapt()
        assert run.ran == [f"{name} one"]
        assert box.artifact(run, f"{name} one").read_text() == "bbbbone\n"
        weights.write_text("aaaa")
        os.utime(weights, ns=(at, at))
        assert box.adapt().ran == []  # the outcome of that content is still there
        assert box.look(name, "one").verdict.settled


def test_a_time_in_the_future_is_never_trusted(tmp_path: Path) -> None:
    """A file from the future is read each time: its time will not move when it is written again now."""
    (tmp_path / "a").write_text("1")
    os.utime(tmp_path / "a", ns=(FUTURE, FUTURE))
    first = read_tree(tmp_path)
    with (tmp_path / "a").open("r+") as file:
        file.write("2")
    os.utime(tmp_path / "a", ns=(FUTURE, FUTURE))
    assert read_tree(tmp_path, first).tree != first.tree
    later = read_tree(tmp_path, first, now_ns=time.time_ns() + 10**10)
    assert later.tree.entries[0].value != first.tree.entries[0].value


@pytest.mark.parametrize("step", [-3600, -10, -1, 0, 1])
def test_a_clock_that_steps_hides_nothing(tmp_path: Path, step: int) -> None:
    """Hashed while the clock went wrong by *step* seconds: what is written after it was set right is seen."""
    weights = tmp_path / "weights"
    weights.write_text("aaaa")
    os.utime(weights, ns=(OLD, OLD))
    row = weights.stat()
    memo = read_tree(tmp_path, now_ns=row.st_ctime_ns + step * 10**9)
    assert Memo.decode(memo.encode()) == memo
    weights.write_text("bbbb")
    os.utime(weights, ns=(OLD, OLD))
    assert read_tree(tmp_path, memo).tree.entries[0].value != memo.tree.entries[0].value
    # The write may have left every field of the stat as it was: a memo of such a file says nothing of it.
    assert memo.stats != read_tree(tmp_path, now_ns=row.st_ctime_ns + 10**10).stats


def test_a_clock_that_went_back_rebuilds_nothing(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the clock an hour and ten years behind, what is fresh stays fresh and what is new is built."""
    directory = box.model("a")
    box.configure(models=[str(directory)])
    box.adapter("one")
    box.adapt()
    real = time.time
    for back in (3600, 315_360_000):
        monkeypatch.setattr(time, "time", lambda back=back: real() - back)
        monkeypatch.setattr(time, "time_ns", lambda back=back: int((real() - back) * 1e9))
        assert box.adapt().results == {}
        (directory / "weights.bin").write_text(str(back))
        assert box.adapt().ran == ["a one"]


# -- what counts --------------------------------------------------------------------------------------------------


def executable(directory: Path) -> None:
    """The executable bit."""
    (directory / "weights.bin").chmod(0o755)


def target(directory: Path) -> None:
    """Where a symlink leads, to a file of the same content."""
    (directory / "link").unlink()
    (directory / "link").symlink_to("same.bin")


def renamed(directory: Path) -> None:
    """A name."""
    (directory / "extra").rename(directory / "extra2")


def emptied(directory: Path) -> None:
    """A directory with nothing in it."""
    (directory / "empty").mkdir()


@pytest.mark.parametrize("change", [executable, target, renamed, emptied])
def test_each_of_these_is_another_key(box: Sandbox, change: Callable[[Path], None]) -> None:
    """A change that leaves every byte of every file as it was makes a live model stale all the same."""
    directory = box.model("a", {"same.bin": "a", "extra": "x"})
    (directory / "link").symlink_to("weights.bin")
    box.configure(models=[str(directory)])
    box.adapter("one")
    box.adapt()
    before = box.look("a", "one").key
    change(directory)
    assert box.adapt().ran == ["a one"]
    assert box.look("a", "one").key != before


def test_a_helper_file_of_the_adapter_counts(box: Sandbox) -> None:
    """Content, name and executable bit of every file beside the script, also below it."""
    directory = box.adapter("one")
    (directory / "lib").mkdir()
    (directory / "lib" / "helper").write_text("1")
    box.add("a")
    box.adapt()
    for change in (
        lambda: (directory / "lib" / "helper").write_text("2"),
        lambda: (directory / "lib" / "helper").chmod(0o755),
        lambda: (directory / "lib" / "helper").rename(directory / "lib" / "other"),
        (directory / "lib" / "other").unlink,
    ):
        change()
        assert box.adapt().ran == ["a one"]
        assert box.adapt().results == {}


def test_what_a_symlink_of_the_adapter_leads_to_counts(box: Sandbox) -> None:
    """The script reads it by that name, whatever the file is called: itself, through another link, or a whole directory."""
    directory = box.adapter("one", test="#!/bin/sh\n")
    (directory / "docs").mkdir()
    for name in ("tpl.md", "two.md", "README.md", "docs/page.md"):
        (directory / name).write_text("1")
    for name, target in {
        "tpl": "tpl.md",
        "far": "hop.md",
        "hop.md": "two.md",
        "pages": "docs",
        "docs/up.md": "../cog-adapter.yaml",
    }.items():
        (directory / name).symlink_to(target)
    box.add("a")
    box.adapt()
    for name in ("tpl.md", "two.md", "docs/page.md"):
        (directory / name).write_text("2")
        assert box.adapt().ran == ["a one"], name
        assert box.adapt().results == {}
    (directory / "hop.md").unlink()
    (directory / "hop.md").symlink_to("adapter.sh")  # which counts anyway
    assert box.adapt().ran == ["a one"]
    (directory / "cog-adapter.yaml").write_text((directory / "cog-adapter.yaml").read_text() + "\n")
    assert box.adapt().ran == ["a one"]
    (directory / "README.md").write_text("2")
    box.script(directory / "test.sh", "#!/bin/sh\n# another\n")
    assert box.adapt().ran == []


def test_an_interpreter_of_the_same_size_and_time_counts(box: Sandbox) -> None:
    """A native interpreter that was replaced by another of equal size and time of modification is asked again."""
    place = box.root / "bin"
    place.mkdir()
    program = place / "mysh"
    box.environ["PATH"] = f"{place}:{os.environ['PATH']}"
    for end in (b"\0", b"\1"):
        program.unlink(missing_ok=True)
        program.write_bytes(Path("/bin/sh").read_bytes() + end)
        program.chmod(0o755)
        os.utime(program, ns=(OLD, OLD))
        box.adapter("one", box.counting("one", "echo x:y").replace("#!/bin/sh", "#!/usr/bin/env mysh"))
        if end == b"\0":
            box.add("a")
        assert box.adapt().ran == ["a one"], end


def test_another_version_of_the_interpreter_counts(box: Sandbox) -> None:
    """The program that the shebang leads to was replaced: what it made is stale, and the row is named."""
    place = box.root / "bin"
    place.mkdir()
    for version in ("1.0", "2.0"):
        box.script(
            place / "mysh",
            f'#!/bin/sh\n[ "$1" = --version ] && echo mysh {version} && exit\nexec /bin/sh "$@"\n',
        )
        box.environ["PATH"] = f"{place}:{os.environ['PATH']}"
        box.adapter("one", box.counting("one", "echo x:y").replace("#!/bin/sh", "#!/usr/bin/env mysh"))
        if version == "1.0":
            box.add("a")
        assert box.adapt().ran == ["a one"], version
    reasons = " ".join(reason.text for reason in box.look("a", "one").verdict.reasons)
    assert box.look("a", "one").verdict.settled, reasons


# -- while the adapter runs ---------------------------------------------------------------------------------------

MOVES = {
    "content": "echo moved > {model}/weights.bin",
    "same size and time": "printf b > {model}/weights.bin; touch -d @1500000000 {model}/weights.bin",
    "an edit taken back": "printf b > {model}/weights.bin; printf a > {model}/weights.bin",
    "another file and the old bytes": "cp {model}/weights.bin {model}/c; rm {model}/weights.bin;"
    " mv {model}/c {model}/weights.bin",
    "a new file": "touch {model}/weights2.bin",
    "executable bit": "chmod +x {model}/weights.bin",
    "removed": "rm {model}/weights.bin",
}


@pytest.mark.parametrize("move", MOVES)
def test_a_model_that_moves_under_the_run_records_nothing(box: Sandbox, move: str) -> None:
    """The file is named, nothing is recorded, and the next run works on what is there then."""
    directory = box.model("a", {"weights.bin": "a"})
    os.utime(directory / "weights.bin", ns=(OLD, OLD))
    box.configure(models=[str(directory)])
    once = box.root / "once"
    command = MOVES[move].format(model=directory)
    box.adapter("one", f"#!/bin/sh\n[ -e {once} ] || {{ touch {once}; {command}; }}\necho x:y\n")
    run = box.adapt()
    name = "weights2.bin" if move == "a new file" else "weights.bin"
    assert run.error("a one").splitlines()[0].endswith("changed while one ran; nothing was recorded")
    assert f"  files  {name}" in run.error("a one").splitlines()
    with box.project() as project:
        assert project.con.execute("SELECT count(*) FROM outcomes").fetchone() == (0,)
    assert box.adapt().exit_code == 0


def test_what_only_gives_files_rights_and_names_moves_nothing(box: Sandbox) -> None:
    """An adapter sees to its tools being executable, a backup makes links: both records what was made."""
    live = box.model("a", {"weights.bin": "a"})
    box.configure(models=[str(live)])
    directory = box.adapter("one", "#!/bin/sh\n")
    box.script(directory / "tool", "#!/bin/sh\n")
    backup = f"chmod +x {directory}/tool; cp -al {live} {box.root}/backup-$$"
    box.adapter("one", f"#!/bin/sh\n{backup}\necho x:y\n")
    assert box.adapt().status("a one") is Status.BUILT
    assert box.adapt().results == {}


@pytest.mark.parametrize("move", ["helper", "script", "taken back"])
def test_an_adapter_that_moves_under_its_run_records_nothing(box: Sandbox, move: str) -> None:
    """A helper file or the script edited while it runs: the same, with the adapter's file."""
    directory = box.adapter("one", "#!/bin/sh\n")
    (directory / "helper").write_text("a")
    os.utime(directory / "helper", ns=(OLD, OLD))
    command = {
        "helper": f"printf b > {directory}/helper; touch -d @1500000000 {directory}/helper",
        "taken back": f"printf b > {directory}/helper; printf a > {directory}/helper",
        "script": f"cp {directory}/adapter.sh {directory}/copy; echo '# more' >> {directory}/copy;"
        f" mv {directory}/copy {directory}/adapter.sh",
    }[move]
    once = box.root / "once"
    box.adapter("one", f"#!/bin/sh\n[ -e {once} ] || {{ touch {once}; {command}; }}\necho x:y\n")
    box.add("a")
    run = box.adapt()
    files = "adapter.sh" if move == "script" else "helper"
    assert f"  files  {files}" in run.error("a one").splitlines()
    assert "adapter one changed while it ran on" in run.error("a one")
    assert box.adapt().exit_code == 0
