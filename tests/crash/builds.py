"""A small build that is stopped at a step, and what has to be so afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import steps
from conftest import Sandbox

from cogbuild.database import feed, models, pairs

PROGRAM = Path(steps.__file__)
#: The commands by which a build is started, and how they end: one adapter fails.
DOORS = {
    "adapt": (["-m", "cogbuild", "adapt", "-j", "1"], 1),
    "doit": (["-m", "doit", "-n", "2"], 1),
}

needs_steps = pytest.mark.skipif(steps.supported() is not None, reason=str(steps.supported()))


#: (steps tried, steps there are) of the test that runs, for the summary of pytest.
TRIED: list[tuple[int, int]] = []


def chosen(count: int, sample: int) -> list[int]:
    """Return the steps to stop at: *sample* of *count*, evenly.

    With EVERY_STEP=1 in the environment all of them, with EVERY_STEP=2/5 every fifth from the second on: five such runs
    are one of all.
    """
    share, _, of = os.environ.get("EVERY_STEP", "").partition("/")
    if of:
        steps = list(range(int(share) - 1, count, int(of))) or [count - 1]  # more shares than steps
    elif share or count <= sample:
        steps = list(range(count))
    else:
        steps = sorted({round(index * (count - 1) / (sample - 1)) for index in range(sample)})
    TRIED.append((len(steps), count))
    return steps


@dataclass(frozen=True)
class Stopped:
    """How a stepped run ended."""

    code: int  # negative: the signal
    steps: list[str]
    left: list[str]  # processes that did not end with it
    out: str
    err: str

    @property
    def done(self) -> set[str]:
        """The pairs that were reported as done, as ``<repo name> <adapter>``."""
        lines = re.findall(
            r"^(?:built|not applicable|restored)\s+\S+?/(\S+?)@\w+:(\w+)", self.out, re.MULTILINE
        )
        return {f"{repo} {adapter}" for repo, adapter in lines}


def stepped(
    command: Iterable[str],
    root: Path,
    *,
    scratch: Path,
    cwd: Path,
    env: dict[str, str],
    at: int = -1,
    do: str = steps.KILL,
    for_good: bool = False,
    only: Iterable[str] = (),
) -> Stopped:
    """Run *command*, stop it at step *at* of those in *root*, and wait for all that it started."""
    scratch.mkdir(exist_ok=True)
    report = scratch / "report.json"
    report.unlink(missing_ok=True)
    order = {"command": list(command), "root": str(root), "at": at, "do": do, "for_good": for_good}
    order |= {"only": sorted(only), "report": str(report)}
    with (scratch / "out").open("w+b") as out, (scratch / "err").open("w+b") as err:
        subprocess.run(
            [sys.executable, "-S", str(PROGRAM), json.dumps(order)],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            timeout=120,
            check=False,
        )
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode(errors="replace"))
    if not report.exists():
        if "ptrace is refused" in said[1]:
            pytest.skip("ptrace is refused here")
        raise AssertionError(said[1])
    found = json.loads(report.read_text())
    return Stopped(found["code"], found["steps"], found["left"], *said)


class SmallBuild:
    """Two models and four adapters: one publishes a file, one needs that, one does not apply, one fails."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self.site = box.root / "site"
        box.adapter("file")
        needs = '#!/bin/sh\necho "$COG_REPO_NAME tree" >> {ran}\nmkdir "$COG_OUTPUT_DIR/tree"\n'
        needs += (
            'cp "${{COG_ARTIFACT_FILE#file://}}" "$COG_OUTPUT_DIR/tree/copy"; echo "$COG_OUTPUT_DIR/tree"\n'
        )
        box.adapter("tree", needs.format(ran=box.ran_file), needs=["file"])
        box.adapter("never", box.counting("never", "echo no network in it >&2; exit 100"), api=1)
        box.adapter("fails", box.counting("fails", 'echo half > "$COG_OUTPUT_DIR/x"; echo why >&2; exit 3'))
        (self.site / "doit.cfg").write_text("[GLOBAL]\nloader = cogbuild\n")
        (self.site / "dodo.py").write_text("")
        for name in "ab":
            box.add(name)
        self._kept = box.root / "kept"
        self.keep()

    def keep(self) -> None:
        """Keep the state of now for ``reset``."""
        shutil.rmtree(self._kept, ignore_errors=True)
        shutil.copytree(self.box.data, self._kept, symlinks=True)

    def reset(self) -> None:
        """Go back to the state that was kept."""
        shutil.rmtree(self.box.data, ignore_errors=True)
        shutil.copytree(self._kept, self.box.data, symlinks=True)
        self.box.ran_file.unlink(missing_ok=True)

    def run(self, *arguments: str, scratch: Path | None = None, **how: object) -> Stopped:
        """Run Python with *arguments* in the site, step by step."""
        return stepped(
            [sys.executable, *arguments],
            self.box.data,
            scratch=scratch or self.box.root / "scratch",
            cwd=self.site,
            env={**os.environ, **self.box.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            **how,  # type: ignore[arg-type] # named at each call
        )

    def entries(self) -> list[models.EntryRow]:
        """Return the models there are."""
        with self.box.project() as project:
            return models.entries(project.con)

    def state(self) -> dict[str, str]:
        """Return how every pair stands, as far as that follows from what is built."""
        with self.box.project() as project:
            names = feed.adapter_names(project.con)
            repos = {entry.eid: entry.repo for entry in models.entries(project.con)}
            outcomes = pairs.outcomes(project.con).items()
            found = {f"{repos[eid]} {names[aid]}": item.identity for (eid, aid), item in outcomes}
            listed = project.con.execute("SELECT eid, aid, why FROM pending").fetchall()
            times = re.compile(r"after [\d.]+ s")
            return found | {
                f"{repos[eid]} {names[aid]} listed": times.sub("after T s", why) for eid, aid, why in listed
            }

    def check_after(self, stopped: Stopped, clean: dict[str, str]) -> None:
        """All that was reported is kept, nothing torn is there, and the next run ends where a clean one does."""
        said = stopped.out + stopped.err
        assert stopped.left == [], "processes outlived the command"
        assert "Traceback" not in said, said
        assert "this is a bug" not in said, said
        check_database(self.box.data / "cog.db")
        for pair in stopped.done:
            assert self.box.look(*pair.split()).verdict.settled, f"{pair} was reported and is not kept"
        before = Counter(self.box.ran())
        again = self.box.adapt()
        now = self.state()
        assert now == clean, f"the next run ended with {set(now.items()) ^ set(clean.items())}"
        assert again.exit_code == 1  # one adapter fails always
        assert not stopped.done & set(again.ran), "what was reported ran again"
        assert all(count == 1 for pair, count in before.items()), before
        found = [*self.box.audit(), *temporary(self.box.data)]
        assert found == [], found


@contextlib.contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Have a file system there that nobody can write to; skips where that takes a right that is missing."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    bound = subprocess.run(["mount", "--bind", directory, directory], capture_output=True, check=False)
    if bound.returncode != 0:
        pytest.skip("mount is refused here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", directory], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


def check_database(path: Path) -> None:
    """The database opens and every page of it is sound."""
    con = sqlite3.connect(path)
    try:
        assert con.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        con.close()


def temporary(data: Path) -> Iterator[str]:
    """Yield everything below the data directory that somebody was in the middle of."""
    for at, directories, files in os.walk(data):
        for name in (*directories, *files):
            if name.startswith((".tmp", ".making-", ".removing-")) or name.endswith(("-journal", ".tmp")):
                path = os.path.join(at, name)
                if not (os.path.isdir(path) and not os.listdir(path)):
                    yield os.path.relpath(path, data)
    for item in sorted((data / "work").iterdir()):
        if item.is_dir():
            yield f"work/{item.name}"
