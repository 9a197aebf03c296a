"""An adapter tried out: run for real, its output looked at, nothing of it recorded."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cogbuild import library
from cogbuild.active import beside
from cogbuild.adapters import kit_directory
from cogbuild.engine.attempt import Runner
from cogbuild.errors.housekeeping import NeedsNotMade, NotReproducible
from cogbuild.fingerprint.trees import differences, read_tree
from cogbuild.housekeeping.watching import Seen, Watch
from cogbuild.planner import Judge
from cogbuild.project import Project
from cogbuild.using import using
from cogbuild.verdict import Kind, Reason, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cogbuild.adapters import Adapter
    from cogbuild.database.pairs import Artifact
    from cogbuild.engine import Listener
    from cogbuild.errors import CogbuildError
    from cogbuild.planner import Judged

__all__ = ["Ran", "Trial", "tiny", "trial"]

# strace makes a program several times slower; whatever takes longer than this waits for something.
_LEAST_WATCHED, _SLOWER = 30.0, 10.0

_MODEL = """build:
  python_version: "3.11"
predict: predict.py:Predictor
"""
_PREDICT = """class Predictor:
    def setup(self):
        self.marks = open("marks.txt").read().split()

    def predict(self, text: str) -> str:
        return text.upper() + self.marks[0]
"""
_WISHES = """examples:
  - {input: {text: hello}, output: "HELLO!"}
"""


class _Scratch(Project):
    """A project whose artifacts and logs go to a place that is thrown away; all else is the project's own."""

    def __init__(self, of: Project, place: Path) -> None:
        super().__init__(of.data, environ=of.environ)
        self._of = of
        self._logs = place / "logs"
        self.objects.artifacts = place / "artifacts"
        self.remote = None  # nothing of a trial is sent anywhere
        for path in (self._logs, self.objects.artifacts):
            path.mkdir()

    @property
    def stores(self) -> tuple[Path, ...]:
        return (*super().stores, *self._of.stores)

    def uri(self, artifact: Artifact) -> str:
        at = self.objects.artifacts / artifact.uri
        return at.as_uri() if artifact.published and at.exists() else self._of.uri(artifact)

    def log(self, attempt: str) -> Path:
        return self._logs / f"{attempt}.log"


@dataclass(frozen=True)
class Ran:
    """One run of the adapter."""

    status: str  # "built", "not applicable", "failed" or "interrupted"
    seconds: float
    artifacts: tuple[Artifact, ...]
    paths: tuple[Path | None, ...]  # of what it published, until the trial ends
    uris: tuple[str, ...]
    reason: str | None  # not applicable
    error: CogbuildError | None
    log: bytes  # its end


class Trial:
    """One adapter on one model, run as often as asked."""

    def __init__(self, project: Project, judge: Judge, judged: Judged, listener: Listener) -> None:
        self._project = project
        self._judge = judge
        self._judged = judged
        self._runner = Runner(project, 1, listener)

    @property
    def model(self) -> str:
        """``user/name@<id12>``."""
        return f"{self._judged.entry.repo}@{self._judged.entry.model[:12]}"

    @property
    def adapter(self) -> Adapter:
        """The adapter that is tried."""
        return self._judged.adapter

    def run(self) -> Ran:
        """Run the script, and its test on what it made, in a workspace and an output directory of their own."""
        ended = self._runner.run(self._resolved())
        store = self._project.objects.artifacts
        if ended.error is not None:
            ended.error.facts.pop("log", None)  # it goes with the trial
        return Ran(
            ended.status,
            ended.attempt.seconds,
            ended.artifacts,
            tuple(store / item.uri if item.published else None for item in ended.artifacts),
            tuple(self._project.uri(item) for item in ended.artifacts),
            ended.reason,
            ended.error,
            ended.log_tail,
        )

    def run_watched(self, before: Ran) -> tuple[Ran, Seen]:
        """Run the script again and look at what it uses; without anybody watching where that is not possible.

        *before* is how the first run ended, which this one is expected to repeat.
        """
        watch = Watch.into(Path(tempfile.mkdtemp(dir=self._project.data, prefix=".tmp-watch-")) / "traces")
        if watch is None:
            return self.run(), Seen(note="strace is not installed")
        try:
            ended = self._watched(watch, before.seconds)
            if ended.status != before.status:
                return self.run(), Seen(note="it ended otherwise under strace")
            judged = self._resolved()
            # Where its runs write is this process's own: there are the files that cogbuild tells a run something with.
            runs = self._runner.means().spaces.directory
            allowed = [judged.adapter.directory, runs, *self._project.stores]
            allowed += [self._project.data / name for name in ("envs", f"state/{judged.adapter.name}")]
            if judged.adapter.spec.python is not None and judged.adapter.spec.python.kit:
                allowed.append(kit_directory())
            return ended, watch.seen(allowed, self._project.environ.get("PATH", os.defpath))
        finally:
            shutil.rmtree(watch.directory.parent, ignore_errors=True)

    def _watched(self, watch: Watch, seconds: float) -> Ran:
        patience = _LEAST_WATCHED + _SLOWER * seconds
        judged = self._resolved()
        spec = judged.adapter.spec
        spec = replace(spec, timeout=min(patience, spec.timeout or patience))
        before, self._judged = judged, replace(judged, adapter=replace(judged.adapter, spec=spec))
        self._runner.wrapper, self._runner.wrapper_writes = watch.wrapper, (watch.directory,)
        try:
            return self.run()
        finally:
            self._judged = before
            self._runner.wrapper, self._runner.wrapper_writes = (), ()

    def differs(self, first: Ran, second: Ran) -> list[CogbuildError]:
        """Return what the second run made otherwise than the first."""
        facts = {"adapter": self.adapter.name, "model": self.model}
        if first.status != second.status or first.reason != second.reason:
            return [NotReproducible(**facts, first=_ending(first), second=_ending(second))]
        names = [[item.name for item in run.artifacts] for run in (first, second)]
        if names[0] != names[1]:
            return [NotReproducible(**facts, first=names[0], second=names[1])]
        found: list[CogbuildError] = []
        for one, other, was, now in zip(
            first.artifacts, second.artifacts, first.paths, second.paths, strict=True
        ):
            if one.identity != other.identity or one.uri != other.uri:
                found.append(NotReproducible(**facts, **_difference(one, other, was, now)))
        return found

    def later(self) -> None:
        """Wait until the clock shows another time, also in a zip, which counts in steps of two seconds."""
        step = time.time() // 2
        while time.time() // 2 == step:
            time.sleep(0.02)

    def _resolved(self) -> Judged:
        if self._judged.python is not None and self._judged.python.lock is None:
            self._runner.resolve(self._judged)
            again = self._judge.look(self._judged.entry, self.adapter.name)
            self._judged = replace(again, verdict=self._judged.verdict)
        return self._judged

    def close(self) -> None:
        """End the worker."""
        self._runner.close()


def _ending(ran: Ran) -> str:
    return f"{ran.status}: {ran.reason}" if ran.reason else ran.status


def _difference(one: Artifact, other: Artifact, was: Path | None, now: Path | None) -> Mapping[str, object]:
    named = {"artifact": one.name or None}
    if was is None or now is None or was.name != now.name:
        first, second = (item.uri if path is None else path.name for item, path in ((one, was), (other, now)))
        return {**named, "first": first, "second": second}
    if was.is_dir() and now.is_dir():
        trees = [read_tree(path, rules="all").tree for path in (was, now)]
        files = list(differences(*trees))
        return {**named, "directory": was.name, "files": files[:8]}
    at = _first_difference(was, now)
    sizes = [path.stat().st_size for path in (was, now)]
    size = f"{sizes[0]} bytes" if sizes[0] == sizes[1] else f"{sizes[0]} bytes, then {sizes[1]}"
    return {**named, "file": was.name, "size": size, "first_difference": f"byte {at}"}


def _first_difference(one: Path, other: Path) -> int:
    at = 0
    with one.open("rb") as first, other.open("rb") as second:
        while True:
            a, b = first.read(1 << 16), second.read(1 << 16)
            if a != b:
                pairs = zip(a, b, strict=False)
                return at + next((n for n, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))
            if not a:
                return at
            at += len(a)


@contextlib.contextmanager
def trial(
    project: Project, directory: Path, prefix: str, *, repos: tuple[str, ...] = (), listener: Listener
) -> Iterator[Trial]:
    """Prepare the adapter in *directory* to run on a model; what it makes goes when this ends.

    Raises errors of declarations and models, and ``NeedsNotMade``.
    """
    with using(project.data):
        place = Path(tempfile.mkdtemp(dir=project.data, prefix=".tmp-trial-"))
        try:
            with _Scratch(project, place) as scratch:
                judge = Judge(scratch, beside(scratch, directory))
                tried = Trial(scratch, judge, _judged(scratch, judge, prefix, repos, directory), listener)
                try:
                    yield tried
                finally:
                    tried.close()
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _judged(project: Project, judge: Judge, prefix: str, repos: tuple[str, ...], directory: Path) -> Judged:
    library.refresh_links(project)
    entry = library.find(project, prefix, repos)[0]
    name = next(item.name for item in judge.adapters.values() if _same(item.directory, directory))
    judged = judge.look(entry, name)
    unmet = judged.verdict.kind in (Kind.PENDING, Kind.BLOCKED, Kind.NOT_APPLICABLE)
    if unmet and judged.manifest is None:
        missing = [reason.text for reason in judged.verdict.reasons]
        raise NeedsNotMade(
            adapter=name, model=f"{entry.repo}@{entry.model[:12]}", id=entry.model[:12], it=missing
        )
    return replace(judged, verdict=Verdict(Kind.STALE, (Reason("tried", "tried out"),)))


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


@contextlib.contextmanager
def tiny(environ: Mapping[str, str]) -> Iterator[tuple[Project, str]]:
    """Make a project of its own with one small model in it; yield it and the model's ID."""
    with tempfile.TemporaryDirectory(prefix="cogbuild-tiny-") as temporary:
        model = Path(temporary) / "tiny"
        model.mkdir()
        files = {"cog.yaml": _MODEL, "predict.py": _PREDICT, "marks.txt": "!\n", "cog-adapters.yaml": _WISHES}
        for name, text in files.items():
            (model / name).write_text(text)
        with Project(Path(temporary) / ".cogbuild", environ=environ) as project:
            yield project, library.add(project, model).model
