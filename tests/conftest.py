"""A sandbox that drives cogbuild as its users do, counts which adapters ran, and ends with an audit."""

from __future__ import annotations

import fcntl
import gc
import json
import os
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cogbuild import library
from cogbuild.active import active
from cogbuild.audit import audit
from cogbuild.database import models
from cogbuild.engine import Event, Line, Note, Result, Status
from cogbuild.planner import Judged, Plan, Planner, Selection
from cogbuild.project import Project
from cogbuild.tasks.running import Run, run_plan

# Most of what tests do is to start Python, and most of that is to compile: whatever this machine says, it is kept.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Environments of tests run once or twice, and compile what they import only.
os.environ["UV_COMPILE_BYTECODE"] = "0"

# Who starts tests in the background of a script has them ignore Ctrl-C, and so would all that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: A file system in memory, and what the tests that run at once may take of it.
MEMORY = Path("/dev/shm")
ROOM = 2 << 30

MODEL = """build:
  python_version: "3.11"
predict: predict.py:Predictor
"""
PREDICT = """class Predictor:
    def predict(self, text: str = "x") -> str:
        return text
"""
#: Counts that it ran, then publishes a file whose bytes follow from the model and the adapter's params.
COUNTING = """#!/bin/sh
echo "$COG_REPO_NAME {name}" >> {ran}
cat weights.bin > "$COG_OUTPUT_DIR/made.txt"
echo {name} ${{COG_PARAM_LEVEL:-}} >> "$COG_OUTPUT_DIR/made.txt"
echo "$COG_OUTPUT_DIR/made.txt"
"""


@dataclass
class Outcome:
    """What one run came to."""

    results: dict[str, Result]  # by "<repo name> <adapter>"
    ran: list[str]  # "<repo name> <adapter>", in order: the adapters whose script really ran
    log: list[str]
    exit_code: int
    plan: Plan
    counts: dict[Status, int] = field(default_factory=dict)

    def status(self, pair: str) -> Status:
        """Return how a pair ended."""
        return self.results[pair].status

    def error(self, pair: str) -> str:
        """Return the whole message of a failed pair."""
        return str(self.results[pair].error)


class Sandbox:
    """A project in a temporary directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ran_file = root / "ran"
        self.environ = {"PATH": os.environ["PATH"], "HOME": str(root)}
        (root / "site").mkdir()
        self.settings: dict[str, Any] = {"adapters": []}
        self._write_settings()

    # -- what there is --------------------------------------------------------------------------------------------

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.root / "site" / ".cogbuild"

    def project(self) -> Project:
        """Open the project anew, as a new command would."""
        return Project(self.data, environ=self.environ)

    def _write_settings(self) -> None:
        (self.root / "site" / "cogbuild.yaml").write_text(json.dumps(self.settings))

    def configure(self, **settings: object) -> None:
        """Change the site settings."""
        self.settings |= settings
        self._write_settings()

    def model(self, name: str = "m", files: dict[str, str] | None = None) -> Path:
        """Write a model's directory."""
        directory = self.root / "models" / name
        for path, text in {
            "cog.yaml": MODEL,
            "predict.py": PREDICT,
            "weights.bin": name,
            **(files or {}),
        }.items():
            at = directory / path
            at.parent.mkdir(parents=True, exist_ok=True)
            at.write_text(text)
        return directory

    def add(self, name: str = "m", files: dict[str, str] | None = None, **options: Any) -> library.Added:
        """Write a model and add it."""
        with self.project() as project:
            return library.add(project, self.model(name, files), **options)

    def adapter(
        self,
        name: str,
        script: str | None = None,
        *,
        activate: bool = True,
        test: str | None = None,
        **keys: Any,
    ) -> Path:
        """Write an adapter; without *script* it is one that counts. Its directory joins the settings."""
        directory = self.root / "adapters" / name
        directory.mkdir(parents=True, exist_ok=True)
        text = COUNTING.format(name=name, ran=self.ran_file) if script is None else script
        self.script(directory / "adapter.sh", text)
        if test is not None:
            self.script(directory / "test.sh", test)
            keys["test"] = "test.sh"
        (directory / "cog-adapter.yaml").write_text(
            json.dumps({"name": name, "script": "adapter.sh", **keys})
        )
        if activate and str(directory) not in self.settings["adapters"]:
            self.configure(adapters=[*self.settings["adapters"], str(directory)])
        return directory

    def counting(self, name: str, rest: str) -> str:
        """Return a script that counts that it ran and goes on with *rest*."""
        return f'#!/bin/sh\necho "$COG_REPO_NAME {name}" >> {self.ran_file}\n{rest}\n'

    def script(self, path: Path, text: str) -> None:
        """Write an executable file."""
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)

    # -- what is done ---------------------------------------------------------------------------------------------

    def adapt(
        self,
        *models: str,
        adapters: tuple[str, ...] = (),
        jobs: int = 1,
        force: bool = False,
        fail_fast: bool = False,
    ) -> Outcome:
        """Bring everything, or what is chosen, up to date; return what happened."""
        before = self.ran()
        events: list[Event] = []
        with self.project() as project:
            planner = Planner(project, active(project))
            plan = planner.plan(Selection(models=models, adapters=adapters, force=force))
            with Run(project, plan, jobs=jobs, watcher=events.append) as run:
                run_plan(run, fail_fast=fail_fast)
            summary = run.summary()
        results = {self._short(event.pair): event for event in events if isinstance(event, Result)}
        log = [
            f"{self._short(event.pair)} {event.text.decode()}" for event in events if isinstance(event, Line)
        ]
        log += [f"{self._short(event.pair)} {event.text}" for event in events if isinstance(event, Note)]
        if run.fatal is not None:
            raise run.fatal
        return Outcome(results, self.ran()[len(before) :], log, run.exit_code, plan, summary.counts)

    def look(self, repo: str, adapter: str) -> Judged:
        """Judge one pair as `explain` would."""
        with self.project() as project:
            library.refresh_links(project)
            judge = Planner(project, active(project)).judge
            entries = [entry for entry in models.entries(project.con) if entry.repo.endswith("/" + repo)]
            return judge.explained(judge.look(entries[0], adapter))

    def ran(self) -> list[str]:
        """Return every counted run so far."""
        return self.ran_file.read_text().splitlines() if self.ran_file.exists() else []

    def artifact(self, outcome: Outcome, pair: str) -> Path:
        """Return the published file of a pair."""
        return Path(outcome.results[pair].uris[0].removeprefix("file://"))

    def audit(self) -> list[str]:
        """Return what disagrees in the store."""
        if not self.data.exists():
            return []
        with self.project() as project:
            return [f"{item.path}: {item.what}" for item in audit(project)]

    def _short(self, pair: str) -> str:
        repo, _, rest = pair.partition("@")
        return f"{repo.partition('/')[2]} {rest.partition(':')[2]}"


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Sandbox]:
    """A sandbox; whatever the test did, store and records agree at its end."""
    sandbox = Sandbox(tmp_path)
    yield sandbox
    assert sandbox.audit() == [], "the test left store and records in disagreement"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A registry that holds a base image, and podman: what adapters that make images need of a site."""
    pytest.importorskip("oras", reason="the package oras is not installed")
    from sites import opened

    with opened(tmp_path_factory.mktemp("site")) as made:
        yield made


@pytest.fixture
def podman(site: Any) -> Iterator[Any]:
    """The engine, where it works, for one test at a time of all workers.

    Its containers are on the host's network, where Cog's servers with equal process IDs disturb each other (the kit's README).
    """
    if site.trouble:
        pytest.skip(site.trouble)
    with open(Path(os.environ["COGBUILD_TEST_RUN"], "podman"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield site.podman


def pytest_configure(config: pytest.Config) -> None:
    """Have quick tests write to memory where there is room, which takes half as long as a disk; slow ones keep the disk.

    Then make a directory that the workers of a run share, see `tests/adapters/adapter_runs.py`.
    """
    if config.option.markexpr == "not slow" and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)
    if not hasattr(config, "workerinput"):
        os.environ["COGBUILD_TEST_RUN"] = tempfile.mkdtemp(prefix="cogbuild-test-run-")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Have one worker more than there are processors: a third of the time of tests is waiting, for processes and clocks."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove what the workers shared."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ["COGBUILD_TEST_RUN"], ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep what needs the registry and podman on one worker, where `--dist loadgroup` is given: both are costly to set up."""
    for item in items:
        if item.path.parent.name == "adapters" and "site" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("site"))


def pytest_collection_finish() -> None:
    """Have the garbage collector pass over all that stays until the end: modules and thousands of tests."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> None:
    """Have the report say at how many steps a test stopped, see `tests/crash/builds.py`."""
    if (builds := sys.modules.get("builds")) is not None and builds.TRIED:
        item.user_properties.append(("steps", builds.TRIED.copy()))
        builds.TRIED.clear()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at how many steps of how many the tests stopped."""
    told = [
        steps
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == "steps"
        for steps in value
    ]
    if told:
        tried, there = (sum(numbers) for numbers in zip(*told, strict=True))
        terminalreporter.write_line(f"stopped at {tried:,} of {there:,} steps in {len(told)} runs")
