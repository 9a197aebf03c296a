"""A pair as a doit task, and a batch of them run by doit's own scheduler."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from doit.action import BaseAction
from doit.control import TaskControl
from doit.dependency import Dependency, DependencyStatus
from doit.exceptions import TaskError, TaskFailed
from doit.reporter import ZeroReporter
from doit.runner import Runner
from doit.task import Stream, Task

from cogbuild.engine import Status
from cogbuild.planner.judged import pair_name
from cogbuild.tasks import BASENAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cogbuild.engine import Result
    from cogbuild.engine.lane import Lane
    from cogbuild.planner import Judge, Judged
    from cogbuild.tasks.running import Run

__all__ = ["Crew", "PairAction", "Verdicts", "blocked", "pair_task", "run_batch", "task_name", "tasks_of"]

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
        return failure_of(self.run.pair(self.eid, self.adapter, self.taken()))

    def taken(self) -> Judged | None:
        """Return what the plan found, once: a task is kept until the end of its batch."""
        planned, self.judged = self.judged, None
        return planned

    def __str__(self) -> str:
        return f"adapter {self.adapter}"


def failure_of(result: Result | None) -> TaskFailed | TaskError | None:
    """Return how a pair ended in doit's words; None: well."""
    if result is None:
        return TaskError("the run was given up", report=False)
    if result.status in _UNSUCCESSFUL:
        return TaskFailed(str(result.status), report=False)
    return None


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
    run.engine.seal(chunk)
    control = TaskControl(tasks_of(run, chunk))
    control.process(None)
    runner = Crew(run, [Verdicts(run.plan.judge), _Silent(run), not fail_fast, False, Stream(0)], early=True)
    runner.run_all(control.task_dispatcher())


class Crew(Runner):  # type: ignore[misc] # doit has no types
    """doit's runner over a lane: tasks are taken from doit's dispatcher as there is room, and told to it as they end.

    doit's own threads send every task and every result through queues, which costs more than all else of a short task.
    """

    def __init__(self, run: Run, arguments: list[Any], *, early: bool = False) -> None:
        super().__init__(*arguments)
        self._early = (
            early and self.continue_
        )  # another batch follows: its tasks go to the workers while the last of these run
        self._run = run
        self._done: deque[Any] = deque()  # nodes that the dispatcher has to hear of

    def run_tasks(self, task_dispatcher: Any) -> None:
        """Run what the dispatcher gives, each after what it depends on; raise what goes wrong with doit itself."""
        lane = self._run.lane(careful=not self.continue_)
        while True:
            waits = False
            while not lane.full and not self._stopped():
                node = self._next(task_dispatcher)
                if node is None:
                    if self._early:
                        return  # what is under way nobody of this batch waits for
                    waits = True
                    break
                if node == "hold on":  # all that is left depends on what is under way
                    waits = True
                    break
                self._begin(lane, node)
            if self._stopped():
                lane.drop()
            came = self._run.came()
            if not came and (self._stopped() or (waits and not self._done)):
                return
            for hear, result in came:
                hear(result)

    def _hear(self, node: Any, came: Result | Exception | None) -> None:
        self.process_task_result(node, failure_of(self._run.settled(came)))
        self._done.append(node)

    def _begin(self, lane: Lane, node: Any) -> None:
        action = next(iter(node.task._actions), None)  # noqa: SLF001 - `actions` makes copies
        if not isinstance(action, PairAction):  # a group
            self.process_task_result(node, self.execute_task(node.task))
            self._done.append(node)
            return
        node.task.executed = True
        self.reporter.execute_task(node.task)
        hear = partial(self._hear, node)
        try:
            lane.add(hear, action.eid, action.adapter, action.taken())
        except Exception as trouble:  # noqa: BLE001 - told as what came of the pair
            hear(trouble)

    def _stopped(self) -> bool:
        return self._stop_running or self._run.fatal is not None

    def _next(self, dispatcher: Any) -> Any:
        """Return the next task that can run; "hold on": not before another has ended; None: there is no more."""
        while True:
            try:
                node = dispatcher.generator.send(self._done.popleft() if self._done else None)
            except StopIteration:
                return None
            if node == "hold on":
                if not self._done:
                    return node
            elif self.select_task(node, dispatcher.tasks):
                return node
            else:
                self._done.append(node)
