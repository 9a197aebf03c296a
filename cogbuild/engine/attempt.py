"""One attempt: environment, workspace, process, what it printed, its test; nothing is recorded here."""

from __future__ import annotations

import contextlib
import json
import os
import time
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cogbuild import lacking
from cogbuild.database.history import Attempt
from cogbuild.engine.artifacts import artifacts_of
from cogbuild.engine.copies import Copies
from cogbuild.engine.ending import error_of
from cogbuild.engine.events import Line, Note, Started
from cogbuild.engine.fidelity import with_fidelity
from cogbuild.engine.flight import Flights
from cogbuild.engine.keeping import keeper
from cogbuild.engine.leftovers import recover
from cogbuild.engine.places import Places, Shelf
from cogbuild.engine.preparing import Prepared, Preparer
from cogbuild.engine.recording import reasons_json
from cogbuild.engine.underway import Attempted, Running, new_attempt, summed_up
from cogbuild.engine.unmoved import Unmoved
from cogbuild.errors import CogbuildError
from cogbuild.errors.adapters import ArtifactNoRoom, TestRefused
from cogbuild.errors.remote import StoreError
from cogbuild.errors.state import DiskFull
from cogbuild.objects import disk_errors
from cogbuild.process import Command, Reason
from cogbuild.process.hearing import Hearing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from cogbuild.database.pairs import Artifact
    from cogbuild.engine.events import Listener
    from cogbuild.planner import Judged
    from cogbuild.process import Ended, Pool, View
    from cogbuild.project import Project
    from cogbuild.workspace import Workspaces

__all__ = ["Runner"]

_ALWAYS_PASSED = ("PATH", "HOME", "USER", "LANG", "LC_*", "TMPDIR")
_LOG_KEPT = 64 << 10  # bytes of a log's end that a record carries
_EXIT_NOT_APPLICABLE = 100


class _Means(NamedTuple):
    """What serves all runs of one process, made for the first of them."""

    pool: Pool
    spaces: Workspaces
    shelf: Shelf


class Runner:
    """Runs scripts and tests in workspaces."""

    def __init__(self, project: Project, jobs: int, tell: Listener) -> None:
        self.project = project
        self._jobs = jobs
        self._tell = tell
        self._prepare = Preparer(project, tell)
        self._means: _Means | None = None
        self._turns = Flights(project.data / "state" / "turns.lock")
        #: Words before a script's own, for who watches it, and where these write.
        self.wrapper: tuple[str, ...] = ()
        self.wrapper_writes: tuple[Path, ...] = ()
        self._logs = os.path.dirname(project.log(""))
        self._shown_logs = os.path.relpath(self._logs)
        self._cancelled = False
        self._copies = Copies(project, self._turns, cancelled=lambda: self._cancelled)
        self._unrecorded: set[str] = set()  # attempts that no row tells of yet
        self._expose: dict[tuple[Path, Path | None], tuple[Path, ...]] = {}
        self._unmoved = Unmoved(project)
        import threading

        self._starting = threading.Lock()

    @property
    def place(self) -> Path | None:
        """The directory below ``work`` that its runs are in, None before the first of them."""
        means = self._means
        return means.spaces.directory if means is not None else None

    def cancel(self) -> None:
        """End what runs."""
        with self._starting:
            self._cancelled = True
            means = self._means
        if means is not None:
            means.pool.cancel()

    def close(self) -> None:
        """End the workers and remove the workspaces."""
        with self._starting:
            means, self._means = self._means, None
        if "_pool" in self.__dict__:
            self._pool.close()
        if means is not None:
            means.shelf.close()
            means.spaces.close()
        for name in self._unrecorded:  # the disk was full: what no row tells of is nobody's
            with contextlib.suppress(OSError):
                os.unlink(f"{self._logs}/{name}.log")
        self._turns.close()

    @cached_property
    def _pool(self) -> Pool:
        from cogbuild.process import Pool

        return Pool(self._jobs)

    def warm(self) -> None:
        """Start workers, which takes them a while, beside whatever else is to be done before the first adapter."""
        with self._starting:
            self._pool.warm()

    @property
    def overlay(self) -> bool:
        """Whether workers give private views of a model."""
        with self._starting:
            return self._pool.protection.overlay

    def means(self) -> _Means:
        """Return what serves all runs, made where it is not there yet."""
        with self._starting:
            if self._means is None:
                from cogbuild.workspace import Workspaces

                self.project.make()  # somebody may have removed logs/ to make room
                recover(self.project)
                pool = self._pool
                spaces = Workspaces(self.project.data / "work", pool.protection)
                self._means = _Means(pool, spaces, Shelf(spaces.directory))
                if self._cancelled:
                    pool.cancel()
            return self._means

    def resolve(self, judged: Judged, *, upgrade: bool = False) -> None:
        """Resolve the pair's Python environment and keep the lock."""
        self._prepare.resolve(judged, upgrade=upgrade)

    def seal(self, judged: Judged) -> None:
        """Make the sealed tree that the pair runs on, where it is not there yet."""
        self._prepare.seal(judged)

    # -- runs -----------------------------------------------------------------------------------------------------

    def run(self, judged: Judged) -> Attempted:
        """Run the adapter's script once, and its test on what it made."""
        running, places = self.begin(judged, "run")

        def work() -> None:
            self.prepare(running, places)
            variables = self._prepare.run_variables(judged, running.prepared)
            running.ended = self._process(running, judged.adapter.script, variables)
            self._take_up(running)

        return self._concluded(running, places, work)

    def test(self, judged: Judged, artifacts: tuple[Artifact, ...]) -> Attempted:
        """Run the adapter's test alone."""
        running, places = self.begin(judged, "test")
        running.artifacts = artifacts

        def work() -> None:
            self.prepare(running, places)
            self._judge(running)

        return self._concluded(running, places, work)

    def begin(self, judged: Judged, kind: str) -> tuple[Running, Places]:
        """Begin an attempt: whoever watches hears of it, and it has places to write to."""
        shelf = self.means().shelf
        running = Running(judged, kind, (self._logs, self._shown_logs))
        self._tell(Started(judged.name, running.name, judged.verdict.reasons, str(running.log.path)))
        places = shelf.take(running.note)
        self._unrecorded.add(running.name)
        return running, places

    def finish(self, running: Running, places: Places, ended: Ended) -> Attempted:
        """Return how an attempt ended whose script was run elsewhere."""
        running.ended = ended
        return self._concluded(running, places, lambda: self._take_up(running))

    def given_up(self, running: Running, places: Places) -> None:
        """Forget an attempt that is made in another way."""
        self._unrecorded.discard(running.name)
        self.means().shelf.give_back(places)

    def refused(self, running: Running, places: Places, error: CogbuildError) -> Attempted:
        """Return how an attempt ended that came to nothing before its script ran."""

        def work() -> None:
            raise error

        return self._concluded(running, places, work)

    def _concluded(self, running: Running, places: Places, work: Callable[[], None]) -> Attempted:
        error: CogbuildError | None = None
        try:
            with running.log as log:
                try:
                    work()
                except CogbuildError as trouble:
                    if (mask := self._prepare.mask(running.judged.adapter)) is not None:
                        trouble.facts = mask.facts(trouble.facts, apart=running.facts)
                    if trouble.fatal:
                        raise
                    error = trouble
                tail = log.tail(_LOG_KEPT)
        except BaseException:
            self.means().shelf.give_back(places)
            raise
        if not tail and error is not None:
            error.facts.pop("log", None)
        return summed_up(running, places, error, tail)

    def _take_up(self, running: Running) -> None:
        """Make something of how the script ended."""
        assert running.ended is not None
        running.prepared.places.untouched()  # asked once for all that follows
        running.artifacts = self._artifacts(running, running.ended)
        self._judge(running)

    def _judge(self, running: Running) -> None:
        """Test what was made, take what was measured of it, and see whether all that it was made from is still the same."""
        spec = running.judged.adapter.spec
        if running.artifacts and spec.test:
            running.ended = self._judged_by_test(running, running.artifacts)
        if running.ended is not None and running.ended.reason is not Reason.CANCELLED:
            places, mask = running.prepared.places, self._prepare.mask(running.judged.adapter)
            running.artifacts = with_fidelity(running.artifacts, places, running.facts, mask)
        self._unmoved.check(running.judged, running.prepared, running.started)

    def recorded(self, attempts: Iterable[Attempted]) -> None:
        """Hear that the attempts are recorded: only now may what tells of them go."""
        shelf = self._means.shelf if self._means is not None else None
        for item in attempts:
            self._unrecorded.discard(item.attempt.id)
            if item.places is not None and shelf is not None:
                shelf.give_back(item.places)
            elif item.places is None:
                path = self.project.log(item.attempt.id)
                with disk_errors(path):
                    path.write_bytes(item.log_tail)

    # -- before ---------------------------------------------------------------------------------------------------

    def prepare(self, running: Running, places: Places) -> None:
        """Have all that the run needs there."""
        judged, log = running.judged, running.log
        lacking.check(self.project, judged.adapter.spec, str(running.facts["model"]))
        if (mask := self._prepare.mask(judged.adapter)) is not None and mask.too_short:
            short = f"too short to be kept out of this log: {', '.join(mask.too_short)}"
            self._prepare.say(judged, log, short)
        environment = self._prepare.environment(judged, log)
        tree, model, masked = self._prepare.model(judged, log)
        needed = self._prepare.needed_variables(judged, self._copies, running.facts, log)
        running.prepared = Prepared(places, model, tree, masked, environment, needed)
        self._unmoved.begin(judged, running.prepared)

    # -- the process ----------------------------------------------------------------------------------------------

    def _process(
        self, running: Running, program: Path, variables: dict[str, str], *, copy: bool = False
    ) -> Ended:
        means, judged, prepared, log = self.means(), running.judged, running.prepared, running.log
        with means.spaces.open(
            prepared.model,
            masked=prepared.masked,
            large_writes=judged.adapter.spec.large_writes,
            memory_limit=self.project.settings.workspace_memory,
            sealed=judged.entry.sealed,
            copy=copy,
        ) as space:
            command = self._command(running, program, variables, space.root, space.view)
            with self._state_turn(judged):
                ended = means.pool.run(
                    command,
                    log=log,
                    on_line=lambda line: self._tell(Line(judged.name, line)),
                    mask=self._prepare.mask(judged.adapter),
                )
        if ended.view_failed and not copy:
            self._prepare.say(
                judged, log, f"no private view of the model here ({ended.detail}); a copy is used"
            )
            return self._process(running, program, variables, copy=True)
        return ended

    def script(self, running: Running, root: Path, view: View) -> Command:
        """Return the adapter's script as it is run in the workspace *root*."""
        variables = self._prepare.run_variables(running.judged, running.prepared)
        return self._command(running, running.judged.adapter.script, variables, root, view)

    def hearing(self, running: Running, command: Command) -> Hearing:
        """Return who hears what the command says."""
        judged = running.judged
        return Hearing(
            running.log,
            command.log_limit,
            lambda line: self._tell(Line(judged.name, line)),
            self._prepare.mask(judged.adapter),
        )

    def _command(
        self, running: Running, program: Path, variables: dict[str, str], root: Path, view: View | None
    ) -> Command:
        """Return *program* as it is run in the workspace *root*."""
        judged, prepared = running.judged, running.prepared
        env = self._prepare.base_variables(judged, prepared) | variables
        watched = bool(self.wrapper) and program == judged.adapter.script
        writable = [prepared.places.run, *(self.wrapper_writes if watched else ())]
        if "COG_STATE_DIR" in env:
            writable.append(Path(env["COG_STATE_DIR"]))
        return Command(
            (*self.wrapper, str(program)) if watched else (str(program),),
            env,
            root,
            view=view,
            timeout=judged.adapter.spec.timeout,
            hide=(self.project.data,),
            expose=self._exposed(judged.adapter.directory, prepared.environment),
            writable=tuple(writable),
        )

    def _exposed(self, adapter: Path, environment: Path | None) -> tuple[Path, ...]:
        """Return what a run has to see below the data directory, which is hidden from it."""
        known = self._expose.get((adapter, environment))
        if known is None:
            wanted = (adapter, *self.project.stores, *((environment,) if environment else ()))
            known = tuple(path for path in wanted if path.is_relative_to(self.project.data))
            self._expose[adapter, environment] = known
        return tuple(path for path in known if os.path.exists(path))

    @contextlib.contextmanager
    def _state_turn(self, judged: Judged) -> Iterator[None]:
        """One run at a time of an adapter that keeps state."""
        if not judged.adapter.spec.state:
            yield
            return
        from cogbuild.digest import hexdigest

        def waiting() -> None:
            self._tell(Note(judged.name, "waiting for its turn: the adapter keeps state"))

        name = hexdigest(judged.adapter.name.encode())
        with self._turns.held(name, waiting=waiting, cancelled=lambda: self._cancelled):
            yield

    def never_started(self, judged: Judged, error: CogbuildError) -> Attempted:
        """Return the attempt of a pair that could not even be started, with what was said of it as its log."""
        name = new_attempt()
        self.project.make()
        said = f"{error}\n".encode()
        attempt = Attempt(
            name,
            judged.entry.eid,
            0,
            judged.key,
            "run",
            time.time(),
            0.0,
            0.0,
            0,
            "failed",
            error.title,
            reasons_json(judged.verdict.reasons),
        )
        return Attempted(attempt, "failed", error=error, log_tail=said)

    # -- after ----------------------------------------------------------------------------------------------------

    def _artifacts(self, running: Running, ended: Ended) -> tuple[Artifact, ...]:
        spec, facts = running.judged.adapter.spec, running.facts
        if ended.reason is Reason.CANCELLED:
            return ()
        if ended.reason is Reason.EXIT and ended.code == _EXIT_NOT_APPLICABLE and spec.api is not None:
            return ()
        if (error := error_of(ended, facts, limit=spec.timeout)) is not None:
            raise error
        mask = self._prepare.mask(running.judged.adapter)
        keep = keeper(
            self.project,
            partial(self._prepare.say, running.judged, running.log),
            cancelled=lambda: self._cancelled,
            here=running.prepared.here,
        )
        try:
            return artifacts_of(ended, running.prepared.places, keep, facts, mask, self.project.uri)
        except DiskFull as full:  # what is smaller may still fit
            raise ArtifactNoRoom(**facts, store=full.facts["path"]) from full
        except StoreError as trouble:
            trouble.facts = facts | trouble.facts
            raise

    def _judged_by_test(self, running: Running, artifacts: Sequence[Artifact]) -> Ended:
        judged, prepared, facts = running.judged, running.prepared, running.facts
        spec = judged.adapter.spec
        assert spec.test is not None
        rows = self._copies.rows(
            artifacts, prepared.here, facts, partial(self._prepare.say, judged, running.log)
        )
        prepared.places.empty = False
        prepared.places.list_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        variables = self._prepare.run_variables(judged, prepared) | {"COG_ARTIFACT_URI": rows[0]["uri"]}
        if "path" in rows[0]:
            variables["COG_ARTIFACT_PATH"] = rows[0]["path"]
        ended = self._process(running, judged.adapter.directory / spec.test, variables)
        if ended.stdout:
            running.log.write(ended.stdout)
        if (
            ended.reason is not Reason.CANCELLED
            and (error := error_of(ended, facts, limit=spec.timeout)) is not None
        ):
            raise TestRefused(**error.facts) from error
        return ended
