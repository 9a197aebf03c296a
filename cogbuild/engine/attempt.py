"""One attempt: environment, workspace, process, what it printed, its test; nothing is recorded here."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cogbuild.database.pairs import Artifact, Attempt
from cogbuild.engine.artifacts import artifacts_of
from cogbuild.engine.copies import Copies
from cogbuild.engine.ending import error_of
from cogbuild.engine.events import Line, Note, Started
from cogbuild.engine.fidelity import with_fidelity
from cogbuild.engine.flight import Flights
from cogbuild.engine.keeping import keeper
from cogbuild.engine.leftovers import recover
from cogbuild.engine.logfile import LogFile
from cogbuild.engine.places import Note as Whose
from cogbuild.engine.places import Places, Shelf
from cogbuild.engine.preparing import Prepared, Preparer
from cogbuild.engine.recording import reasons_json
from cogbuild.errors import CogbuildError
from cogbuild.errors.adapters import AdapterFilesMoved, ArtifactNoRoom, ModelFilesMoved, TestRefused
from cogbuild.errors.remote import StoreError
from cogbuild.errors.state import DiskFull
from cogbuild.fingerprint import glance
from cogbuild.fingerprint.trees import Memo, differences, read_tree, selected
from cogbuild.objects import disk_errors
from cogbuild.process import Command, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cogbuild.engine.events import Listener
    from cogbuild.planner import Judged
    from cogbuild.process import Ended, Pool
    from cogbuild.project import Project
    from cogbuild.workspace import Workspaces

__all__ = ["Attempted", "Runner"]

_ALWAYS_PASSED = ("PATH", "HOME", "USER", "LANG", "LC_*", "TMPDIR")
_LOG_KEPT = 64 << 10  # bytes of a log's end that a record carries
_EXIT_TEMPORARY = 75  # EX_TEMPFAIL of sysexits.h
_EXIT_NOT_APPLICABLE = 100


@dataclass(frozen=True)
class Attempted:
    """How one attempt ended."""

    attempt: Attempt
    status: str  # as in Attempt
    artifacts: tuple[Artifact, ...] = ()
    reason: str | None = None  # not None: not applicable
    error: CogbuildError | None = None
    temporary: bool = False  # exit 75
    log_tail: bytes = b""
    #: Its note tells whose run it was, in case that we are killed before that is recorded.
    places: Places | None = None


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
        # What adapters' directories looked like when they were last found as they had been loaded.
        self._adapters: dict[Path, tuple[Memo, bytes]] = {}
        import threading

        self._starting = threading.Lock()

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
        if means is not None:
            means.pool.close()
            means.shelf.close()
            means.spaces.close()
        for name in self._unrecorded:  # the disk was full: what no row tells of is nobody's
            with contextlib.suppress(OSError):
                os.unlink(f"{self._logs}/{name}.log")
        self._turns.close()

    def _started(self) -> _Means:
        with self._starting:
            if self._means is None:
                from cogbuild.process import Pool
                from cogbuild.workspace import Workspaces

                self.project.make()  # somebody may have removed logs/ to make room
                recover(self.project)
                pool = Pool(self._jobs)
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
        return self._attempt(judged, "run", None)

    def test(self, judged: Judged, artifacts: tuple[Artifact, ...]) -> Attempted:
        """Run the adapter's test alone."""
        return self._attempt(judged, "test", artifacts)

    def _attempt(self, judged: Judged, kind: str, made: tuple[Artifact, ...] | None) -> Attempted:
        shelf = self._started().shelf
        started, clock = time.time(), time.monotonic()
        name = new_attempt()
        path = f"{self._logs}/{name}.log"
        self._tell(Started(judged.name, name, judged.verdict.reasons, path))
        facts: dict[str, object] = {
            "adapter": judged.adapter.name,
            "model": f"{judged.entry.repo}@{judged.entry.model[:12]}",
            "log": f"{self._shown_logs}/{name}.log",
        }
        ended: Ended | None = None
        artifacts: tuple[Artifact, ...] = ()
        error: CogbuildError | None = None
        reasons = reasons_json(judged.verdict.reasons)
        whose = Whose(name, judged.entry.eid, judged.adapter.name, judged.key, kind, started, reasons)
        places = shelf.take(whose)
        self._unrecorded.add(name)
        try:
            with LogFile(path) as log:
                try:
                    prepared = self._prepared(judged, places, log, facts)
                    if made is None:
                        variables = self._prepare.run_variables(judged, prepared)
                        ended = self._process(judged, prepared, log, judged.adapter.script, variables)
                        artifacts = self._artifacts(judged, prepared, ended, log, facts)
                    else:
                        artifacts = made
                    if artifacts and judged.adapter.spec.test:
                        ended = self._judged_by_test(judged, prepared, log, artifacts, facts)
                    if ended is not None and ended.reason is not Reason.CANCELLED:
                        artifacts = with_fidelity(
                            artifacts, places, facts, self._prepare.mask(judged.adapter)
                        )
                    self._check_unmoved(judged, prepared)
                except CogbuildError as trouble:
                    if (mask := self._prepare.mask(judged.adapter)) is not None:
                        trouble.facts = mask.facts(trouble.facts, apart=facts)
                    if trouble.fatal:
                        raise
                    error = trouble
                tail = log.tail(_LOG_KEPT)
        except BaseException:
            shelf.give_back(places)
            raise
        if not tail and error is not None:
            error.facts.pop("log", None)
        seconds = time.monotonic() - clock
        summed_up = self._summed_up(
            judged, kind, name, started, seconds, ended, artifacts, error, tail, reasons
        )
        return replace(summed_up, places=places)

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

    def _summed_up(  # noqa: PLR0917 - the parts of one value
        self,
        judged: Judged,
        kind: str,
        name: str,
        started: float,
        seconds: float,
        ended: Ended | None,
        artifacts: tuple[Artifact, ...],
        error: CogbuildError | None,
        tail: bytes,
        reasons: str,
    ) -> Attempted:
        reason = None
        if error is None and ended is not None and not artifacts:
            reason = ended.last_line.decode("utf-8", "replace").strip() or "the adapter gave no reason"
        interrupted = ended is not None and ended.reason is Reason.CANCELLED
        status = (
            "interrupted" if interrupted else "failed" if error else "not applicable" if reason else "built"
        )
        attempt = Attempt(
            name,
            judged.entry.eid,
            0,
            judged.key,
            kind,
            started,
            seconds,
            ended.cpu_seconds if ended else 0.0,
            ended.max_rss if ended else 0,
            status,
            error.title if error else reason or "",
            reasons,
        )
        temporary = ended is not None and ended.reason is Reason.EXIT and ended.code == _EXIT_TEMPORARY
        return Attempted(attempt, status, artifacts, reason, error, temporary, tail)

    # -- before ---------------------------------------------------------------------------------------------------

    def _prepared(self, judged: Judged, places: Places, log: LogFile, facts: dict[str, object]) -> Prepared:
        if (mask := self._prepare.mask(judged.adapter)) is not None and mask.too_short:
            short = f"too short to be kept out of this log: {', '.join(mask.too_short)}"
            self._prepare.say(judged, log, short)
        environment = self._prepare.environment(judged, log)
        tree, model, masked = self._prepare.model(judged)
        needed = self._prepare.needed_variables(judged, self._copies, facts, log)
        return Prepared(places, model, tree, masked, environment, needed)

    # -- the process ----------------------------------------------------------------------------------------------

    def _process(
        self,
        judged: Judged,
        prepared: Prepared,
        log: LogFile,
        program: Path,
        variables: dict[str, str],
        *,
        copy: bool = False,
    ) -> Ended:
        means = self._started()
        spec = judged.adapter.spec
        env = self._prepare.base_variables(judged, prepared) | variables
        watched = bool(self.wrapper) and program == judged.adapter.script
        writable = [prepared.places.run, *(self.wrapper_writes if watched else ())]
        if "COG_STATE_DIR" in env:
            writable.append(Path(env["COG_STATE_DIR"]))
        with means.spaces.open(
            prepared.model,
            masked=prepared.masked,
            large_writes=spec.large_writes,
            memory_limit=self.project.settings.workspace_memory,
            sealed=judged.entry.sealed,
            copy=copy,
        ) as space:
            command = Command(
                (*self.wrapper, str(program)) if watched else (str(program),),
                env,
                space.root,
                view=space.view,
                timeout=spec.timeout,
                hide=(self.project.data,),
                expose=self._exposed(judged.adapter.directory, prepared.environment),
                writable=tuple(writable),
            )
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
            return self._process(judged, prepared, log, program, variables, copy=True)
        return ended

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

    def _artifacts(
        self, judged: Judged, prepared: Prepared, ended: Ended, log: LogFile, facts: dict[str, object]
    ) -> tuple[Artifact, ...]:
        spec = judged.adapter.spec
        if ended.reason is Reason.CANCELLED:
            return ()
        if ended.reason is Reason.EXIT and ended.code == _EXIT_NOT_APPLICABLE and spec.api is not None:
            return ()
        if (error := error_of(ended, facts, limit=spec.timeout)) is not None:
            raise error
        mask = self._prepare.mask(judged.adapter)
        keep = keeper(
            self.project,
            partial(self._prepare.say, judged, log),
            cancelled=lambda: self._cancelled,
            here=prepared.here,
        )
        try:
            return artifacts_of(ended, prepared.places, keep, facts, mask)
        except DiskFull as full:  # what is smaller may still fit
            raise ArtifactNoRoom(**facts, store=full.facts["path"]) from full
        except StoreError as trouble:
            trouble.facts = facts | trouble.facts
            raise

    def _judged_by_test(
        self,
        judged: Judged,
        prepared: Prepared,
        log: LogFile,
        artifacts: Sequence[Artifact],
        facts: dict[str, object],
    ) -> Ended:
        spec = judged.adapter.spec
        assert spec.test is not None
        say = partial(self._prepare.say, judged, log)
        rows = self._copies.rows(artifacts, prepared.here, facts, say)
        prepared.places.list_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        variables = self._prepare.run_variables(judged, prepared) | {"COG_ARTIFACT_URI": rows[0]["uri"]}
        if "path" in rows[0]:
            variables["COG_ARTIFACT_PATH"] = rows[0]["path"]
        ended = self._process(judged, prepared, log, judged.adapter.directory / spec.test, variables)
        if ended.stdout:
            log.write(ended.stdout)
        if (
            ended.reason is not Reason.CANCELLED
            and (error := error_of(ended, facts, limit=spec.timeout)) is not None
        ):
            raise TestRefused(**error.facts) from error
        return ended

    def _check_unmoved(self, judged: Judged, prepared: Prepared) -> None:
        """Refuse a result when what it was made from moved under the run."""
        facts = {"model": f"{judged.entry.repo}@{judged.entry.model[:12]}", "adapter": judged.adapter.name}
        adapter = judged.adapter
        known, looks = self._adapters.get(adapter.directory, (None, b""))
        if not (known is not None and glance.same(os.fspath(adapter.directory), looks)):
            now = read_tree(adapter.directory, known, rules="adapter")
            moved = differences(adapter.tree, now.tree)
            if files := [path for path in moved if not path.endswith(".md")]:
                raise AdapterFilesMoved(**facts, files=files[:8])
            self._adapters[adapter.directory] = (now, now.encode())
        if judged.entry.sealed:
            if found := self.project.objects.check_sealed(prepared.tree):
                raise ModelFilesMoved(**facts, files=[str(item.path) for item in found[:8]])
            return
        link = self.project.con.execute(
            "SELECT memo FROM links WHERE eid = ?", (judged.entry.eid,)
        ).fetchone()
        memo = Memo.decode(link[0][24:]) if link and link[0] else None
        live = selected(read_tree(prepared.model, memo).tree, judged.adapter.spec.inputs)
        if files := list(differences(prepared.tree, live)):
            raise ModelFilesMoved(**facts, files=files[:8])


def new_attempt() -> str:
    """Return the name of a new attempt; names sort by time."""
    return f"{time.time_ns() // 1000:014x}{os.urandom(2).hex()}"
