"""A pair as a doit task, and a batch of them run by doit's own scheduler."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from doit.action import BaseAction
from doit.control import TaskControl
from doit.dependency import Dependency, DependencyStatus
from doit.exceptions import TaskError, TaskFailed
from doit.reporter import ZeroReporter
from doit.runner import Runner
from doit.task import Stream, Task

from cogbuild.engine import Status
from cogbuild.planner.judging import pair_name
from cogbuild.tasks import BASENAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cogbuild.planner import Judge, Judged
    from cogbuild.tasks.running import Crew, Run

__all__ = ["PairAction", "Verdicts", "blocked", "pair_task", "run_batch", "task_name", "tasks_of"]

_UNSUCCESSFUL = (Status.FAILED, Status.BLOCKED, Status.CANCELLED)


class PairAction(BaseAction):  # type: ignore[misc] # doit has no types
    """Brings one pair up to date. Not a ``PythonAction``: that one swaps the whole process's stdout while it runs."""

    def __init__(self, run: Run, judged: Judged) -> None:
        self.run = run
        self.eid = judged.entry.eid
        self.adapter = judged.adapter.name
        self.judged: Judged | None = judged
        self.out = self.err = self.result = None
        self.values: dict[str, Any] = {}

    def execute(self, out: object = None, err: object = None) -> TaskFailed | TaskError | None:  # noqa: ARG002 - doit's signature
        """Run the pair; what went wrong has been told to whoever watches, so doit reports nothing of it."""
        planned, self.judged = self.judged, None
        result = self.run.pair(self.eid, self.adapter, planned)
        if result is None:
            return TaskError("the run was given up", report=False)
        if result.status in _UNSUCCESSFUL:
            return TaskFailed(str(result.status), report=False)
        return None

    def __str__(self) -> str:
        return f"adapter {self.adapter}"


def task_name(pair: str) -> str:
    """Return the task of a pair, ``adapt:user/name@<id12>:<adapter>``."""
    return f"{BASENAME}:{pair}"


def pair_task(run: Run, judged: Judged, *, needs: Sequence[str], **more: Any) -> Task:
    """Return the task of a pair; *needs* are the pairs of its model that run before it."""
    return Task(
        task_name(judged.name),
        [PairAction(run, judged)],
        task_dep=[task_name(name) for name in needs],
        subtask_of=BASENAME,
        **more,
    )


def tasks_of(run: Run, chunk: Iterable[Judged]) -> list[Task]:
    """Return the tasks of judged pairs, each after those of the same chunk that it needs."""
    chunk = list(chunk)
    names = {judged.name for judged in chunk}
    tasks = []
    for judged in chunk:
        needs = [pair_name(judged.entry, needed) for needed in judged.adapter.needs]
        tasks.append(pair_task(run, judged, needs=[name for name in needs if name in names]))
    return tasks


class Verdicts(Dependency):  # type: ignore[misc] # doit has no types
    """Answers doit's questions about pairs from our verdict; keeps nothing.

    Whether a pair has to run, is forgotten or ignored stands in the Cog database; doit's own state file decides nothing.
    """

    def __init__(self, judge: Judge) -> None:
        self.judge = judge

    def get_status(self, task: Task, tasks_dict: object, get_log: bool = False) -> DependencyStatus:  # noqa: ARG002
        status = DependencyStatus(get_log)
        task.dep_changed = []
        status.status = (
            "run"  # only pairs that are not settled are in a batch; the engine asks again under its lock
        )
        return status

    def status_is_ignore(self, task: Task) -> bool:  # noqa: ARG002
        return False

    def save_success(self, task: Task, result_hash: object = None) -> None: ...

    def remove_success(self, task: Task) -> None: ...

    def get_values(self, task_name: str) -> dict[str, Any]:  # noqa: ARG002
        return {}

    def close(self) -> None: ...


class _Silent(ZeroReporter):  # type: ignore[misc] # doit has no types
    """The engine tells what happens; doit only has to say which pairs it never came to."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def add_failure(self, task: Task, _fail: object) -> None:
        if not task.executed:
            blocked(self.run, task)


def blocked(run: Run, task: Task) -> None:
    """Tell of a pair that was not run because one that it needs was not made."""
    for action in task._actions:  # noqa: SLF001 - `actions` would make instances anew
        if isinstance(action, PairAction):
            run.pair(action.eid, action.adapter)


def run_batch(run: Run, chunk: Sequence[Judged], *, fail_fast: bool) -> None:
    """Run judged pairs; needed ones come first, and nothing is undone by another's failure."""
    jobs = run.engine.jobs
    run.engine.seal(chunk)
    control = TaskControl(tasks_of(run, chunk))
    control.process(None)
    arguments: list[Any] = [Verdicts(run.plan.judge), _Silent(run), not fail_fast, False, Stream(0)]
    runner = _Crew(run.crew, *arguments) if jobs > 1 else Runner(*arguments)
    runner.run_all(control.task_dispatcher())


class _Crew(Runner):  # type: ignore[misc] # doit has no types
    """doit's runner with threads that fetch their next task themselves, and stay for the next batch.

    doit's own sends every task and every result through a queue to and from a thread that does nothing else, which costs
    as much as all that it does for a short task.
    """

    def __init__(self, crew: Crew, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._crew = crew
        self._turn = threading.Condition()
        self._waiting = 0

    def run_tasks(self, task_dispatcher: Any) -> None:
        """Run what the dispatcher gives, each after what it depends on; raise what goes wrong with doit itself."""
        shifts = [
            self._crew.threads.submit(self._work, task_dispatcher)
            for _ in range(min(self._crew.size, len(task_dispatcher.tasks)))
        ]
        try:
            for shift in shifts:
                shift.result()
        finally:
            self._stop_running = True

    def _work(self, dispatcher: Any) -> None:
        node = None
        try:
            while (node := self._next(dispatcher, node)) is not None:
                failure = self.execute_task(node.task)
                with self._turn:
                    self.process_task_result(node, failure)
        except BaseException:
            with self._turn:
                self._stop_running = True
                self._turn.notify_all()
            raise

    def _next(self, dispatcher: Any, done: Any) -> Any:
        """Tell of the task that is *done* and return one that can run, once there is one; None: there is no more."""
        with self._turn:
            while not self._stop_running:
                try:
                    node = dispatcher.generator.send(done)
                except StopIteration:
                    break
                if done is not None and self._waiting:
                    self._turn.notify_all()
                done = None
                if node == "hold on":  # all that is left depends on what other threads do now
                    self._waiting += 1
                    self._turn.wait()
                    self._waiting -= 1
                elif self.select_task(node, dispatcher.tasks):
                    return node
                else:
                    done = node
            self._turn.notify_all()
            return None
