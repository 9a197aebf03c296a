"""The door that ``doit`` opens: a task loader, its verdicts in place of doit's state, and a reporter.

A subclass of doit's own loader, so that a user's tasks in ``dodo.py`` keep working beside the pairs. Tasks are made only
for what the command needs: pairs that are not fresh for a run, the named ones for a selection, all of them otherwise.
"""

from __future__ import annotations

import fnmatch
import os
import sys
from typing import TYPE_CHECKING, Any

from doit.action import BaseAction
from doit.cmd_base import DodoTaskLoader
from doit.dependency import DbmDB, Dependency, DependencyStatus
from doit.exceptions import InvalidCommand, InvalidDodoFile, UnmetDependency
from doit.reporter import ConsoleReporter

from cogbuild import adapters, library
from cogbuild.database import models, pairs
from cogbuild.errors import CogbuildError
from cogbuild.planner import Judge, Plan, Planner, Selection
from cogbuild.planner.judging import Judged, pair_name
from cogbuild.project import Project
from cogbuild.report.watching import watcher
from cogbuild.report.words import reason_text
from cogbuild.tasks.pairs import BASENAME, PairAction, Verdicts, blocked, pair_task, task_name, tasks_of
from cogbuild.tasks.running import Run
from cogbuild.verdict import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from doit.task import Task

__all__ = ["LazyState", "Loader"]

_DATA_DIR = {
    "section": "task loader",
    "name": "data_dir",
    "short": "",
    "long": "data-dir",
    "type": str,
    "default": "",
    "env_var": "COGBUILD_DATA_DIR",
    "help": "cogbuild's data directory [default: the nearest .cogbuild upwards]",
}
_ADAPTER_DIR = {
    "section": "task loader",
    "name": "adapter_dir",
    "short": "",
    "long": "adapter-dir",
    "type": list,
    "default": [],
    "help": "a directory with a cog-adapter.yaml that joins the active adapters (may be repeated)",
}


class Loader(DodoTaskLoader):  # type: ignore[misc] # doit has no types
    """Loads the tasks of ``dodo.py`` and those of the pairs."""

    cmd_options = (*DodoTaskLoader.cmd_options, _DATA_DIR, _ADAPTER_DIR)

    def setup(self, opt_values: Any) -> None:
        """Read ``dodo.py`` and keep the command's options."""
        super().setup(opt_values)
        self.params = opt_values

    def load_doit_config(self) -> dict[str, Any]:
        """Return our defaults for doit, which ``DOIT_CONFIG`` in ``dodo.py`` and options go before."""
        ours = {
            "backend": "cogbuild",
            "par_type": "thread",
            "continue": True,
            "reporter": Reporter,
            "verbosity": 2,
        }
        return {**ours, **super().load_doit_config()}

    def load_tasks(self, cmd: Any, pos_args: list[str]) -> list[Task]:
        """Return the user's tasks and those of the pairs that the command is about."""
        own = super().load_tasks(cmd, pos_args)
        try:
            return [*own, *self._pairs(cmd, list(pos_args), own)]
        except CogbuildError as error:
            raise InvalidDodoFile(str(error)) from error

    def _pairs(self, cmd: Any, asked: list[str], own: list[Task]) -> list[Task]:
        project = Project.find(data_dir=self.params["data_dir"] or None)
        planner = Planner(project, adapters.active(project, self.params["adapter_dir"]))
        mine = [name for name in asked if name == BASENAME or name.startswith(BASENAME + ":")]
        if cmd.execute_tasks:
            return self._to_run(cmd, project, planner, asked, mine, own)
        library.refresh_links(project)
        keeper = PairState(planner.judge, cmd.dep_manager)
        cmd.dep_manager = keeper
        chosen = (
            [] if asked and not mine else _named(project, planner.judge, mine if BASENAME not in mine else [])
        )
        described = [_described(keeper, judged) for judged in chosen]
        return self._with_group(cmd, described, own, asked)

    def _to_run(  # noqa: PLR0917 - the parts of one command
        self, cmd: Any, project: Project, planner: Planner, asked: list[str], mine: list[str], own: list[Task]
    ) -> list[Task]:
        always = bool(self.params.get("always"))
        if asked and not mine:  # only tasks of the user's own are asked for
            return []
        if not asked or BASENAME in mine:
            plan = planner.plan(Selection(force=always))
            todo = list(plan)
        else:
            problems = library.refresh_links(project)
            todo = list(_named(project, planner.judge, mine, closed=True))
            plan = Plan(planner.judge, [], {}, len(todo), record=True, problems=problems)
            if always:
                planner.judge.forced |= {(judged.entry.eid, judged.adapter.name) for judged in todo}
        jobs = int(self.params.get("num_process") or 0)
        keeper = PairState(planner.judge, cmd.dep_manager)
        cmd.dep_manager = keeper
        # On a terminal the display is ours alone where doit has nothing to say: no task of the user's own, no other
        # reporter, nothing that is passed over.
        alone = self.params.get("reporter") is Reporter and all(name in mine for name in asked or own)
        alone = alone and not any(judged.verdict.settled for judged in todo)
        shown = watcher(sys.stdout, sys.stderr, alone=alone)
        run = Run(project, plan, jobs=max(1, jobs), watcher=shown)
        Reporter.run = run
        run.begin()
        run.expect(len(todo))
        tasks = tasks_of(run, todo)
        for task in tasks:
            keeper.tasks[task.name] = next(item for item in task._actions)  # noqa: SLF001 - `actions` makes copies
        group = self._with_group(cmd, tasks, own, asked)
        if not asked or BASENAME in asked:
            # The group itself is not run: it would fail with every pair that fails, and doit would exit with 2.
            others = [task.name for task in own if not task.subtask_of] if not asked else []
            cmd.sel_tasks = [
                *others,
                *(name for name in asked if name != BASENAME),
                *(task.name for task in tasks),
            ]
        return group

    def _with_group(self, cmd: Any, tasks: list[Task], own: list[Task], asked: list[str]) -> list[Task]:
        from doit.task import Task

        group = Task(
            BASENAME,
            None,
            task_dep=[task.name for task in tasks],
            has_subtask=True,
            doc="every model built by every adapter",
        )
        if not asked and cmd.sel_tasks is None and not cmd.execute_tasks:
            cmd.sel_tasks = [BASENAME, *(task.name for task in own if not task.subtask_of)]
        return [group, *tasks]


def _named(project: Project, judge: Judge, names: list[str], *, closed: bool = False) -> Iterable[Judged]:
    """Yield the pairs that task names and wildcards choose, all where there are none; *closed*: and those they need."""
    seen: set[tuple[int, str]] = set()
    for entry in _entries(project, names):
        wanted = judge.wanted(entry)
        chosen = [name for name in wanted if not names or _chosen(task_name(pair_name(entry, name)), names)]
        for name in judge.closure(chosen) if closed else chosen:
            if name in wanted and (entry.eid, name) not in seen:
                seen.add((entry.eid, name))
                yield judge.look(entry, name)


def _chosen(task: str, names: list[str]) -> bool:
    return any(fnmatch.fnmatch(task, name) if "*" in name else task == name for name in names)


def _entries(project: Project, names: list[str]) -> list[models.EntryRow]:
    """Return the entries that names can mean; a wildcard can mean any."""
    if not project.exists:
        return []
    if not names or any("*" in name for name in names):
        return models.entries(project.con)
    found = []
    for name in names:
        repo, _, rest = name.removeprefix(BASENAME + ":").partition("@")
        prefix = rest.partition(":")[0]
        if prefix:
            found += models.entries(project.con, prefix=prefix, repos=[repo])
    return found


def _described(keeper: PairState, judged: Judged) -> Task:
    """Return the task of a pair for looking at it: its files and environment are named, and none of them is read."""
    project = keeper.judge.project
    names = [
        pair_name(judged.entry, name)
        for name in judged.adapter.needs
        if name in keeper.judge.wanted(judged.entry)
    ]
    task = pair_task(
        None,  # type: ignore[arg-type] # never run
        judged,
        needs=[],
        file_dep=_Files(project, judged),
        uptodate=[False],
        clean=[CleanAction(keeper, judged)],
        doc=f"{judged.verdict.kind}",
        meta=_Meta(project, judged, names),
    )
    keeper.described[task.name] = judged
    return task


class _Files(list[str]):
    """The model's files and the adapter's, listed when somebody looks: a listing of names alone opens no tree."""

    def __init__(self, project: Project, judged: Judged) -> None:
        super().__init__(_files(project, judged))


def _files(project: Project, judged: Judged) -> list[str]:
    from cogbuild.fingerprint.trees import selected

    entry, adapter = judged.entry, judged.adapter
    tree = selected(library.tree_of(project, entry.tree), adapter.spec.inputs)
    live = models.link_of(project.con, entry.eid) if not entry.sealed else None
    root = live or str(project.objects.models / tree.model_id)
    files = [os.path.join(root, item.path) for item in tree.entries]
    return files + [
        str(adapter.directory / item.path) for item in adapter.tree.entries if not item.path.endswith(".md")
    ]


class _Meta(dict[str, Any]):
    """What ``doit info`` prints of a pair besides its files."""

    def __init__(self, project: Project, judged: Judged, needs: list[str]) -> None:
        super().__init__(
            verdict=str(judged.verdict.kind),
            key=judged.key or "not known yet",
            environment=_environment(judged),
            needs=needs,
            artifacts=[project.uri(item) for item in judged.outcome.artifacts] if judged.outcome else [],
        )


def _environment(judged: Judged) -> dict[str, Any]:
    from cogbuild.fingerprint.manifest import part_rows

    part = judged.adapter.part
    found: dict[str, Any] = {
        label: value
        for label, value in part_rows(part.kind, part.blob)
        if label.startswith(("platform", "interpreter", "env:"))
    }
    found |= judged.variables
    found |= {f"param:{name}": value for name, value in judged.params.items()}
    if judged.python is not None:
        lock = judged.python.lock
        found["python"] = judged.python.python.version
        found["packages"] = (
            [f"{label} {value}" for label, value in lock.rows()[1:]] if lock else "not resolved"
        )
    return found


class CleanAction(BaseAction):  # type: ignore[misc] # doit has no types
    """Drops a pair's outcome and what it published."""

    def __init__(self, keeper: PairState, judged: Judged) -> None:
        self.keeper = keeper
        self.judged = judged

    def execute(self, out: Any = None, err: object = None) -> None:  # noqa: ARG002 - doit's signature
        """Clean the pair."""
        from cogbuild.housekeeping import clean

        outcome = self.judged.outcome
        if outcome is not None:
            for line in clean(self.keeper.judge.project, outcome):
                out.write(f"  {line}\n")

    def __str__(self) -> str:
        return "drop the outcome and the published artifact"


class PairState(Verdicts):
    """doit's dependency manager: our verdicts for pairs, doit's own state for a user's tasks."""

    def __init__(self, judge: Judge, theirs: Dependency) -> None:
        super().__init__(judge)
        self.theirs = theirs
        self.tasks: dict[str, PairAction] = {}
        self.described: dict[str, Judged] = {}
        self.checker = theirs.checker
        self.name = theirs.name
        self.backend = theirs.backend
        self._get, self._set, self._in = theirs._get, theirs._set, theirs._in  # noqa: SLF001 - doit's own fields

    def _ours(self, name: str) -> bool:
        return name == BASENAME or name.startswith(BASENAME + ":")

    def get_status(self, task: Task, tasks_dict: Any, get_log: bool = False) -> DependencyStatus:
        """Return our verdict in doit's words."""
        if not self._ours(task.name):
            return self.theirs.get_status(task, tasks_dict, get_log)
        status = DependencyStatus(get_log)
        task.dep_changed = []
        judged = self.described.get(task.name)
        action = self.tasks.get(task.name)
        if action is not None:
            entry = models.find(self.judge.project.con, action.eid)
            judged = self.judge.look(entry, action.adapter) if entry else None
        if judged is None:  # the group
            status.status = "up-to-date" if action is None and not task.task_dep else "run"
        elif not judged.verdict.settled:
            judged = self.judge.explained(judged)
            status.status = "run"
            status.reasons["uptodate_false"] = [(_Said(judged), [], {})]
            moved = [reason.label for reason in judged.verdict.reasons if reason.label is not None]
            status.reasons["changed_file_dep"] = [
                label for label in moved if label.startswith(("model:", "adapter:"))
            ]
        return status

    def status_is_ignore(self, task: Task) -> Any:
        """Whether the user said ``doit ignore``."""
        if not self._ours(task.name):
            return self.theirs.status_is_ignore(task)
        return models.memo(self.judge.project.con, f"ignored:{task.name}")

    def ignore(self, task: Task) -> None:
        """Have a pair passed over until it is forgotten."""
        if not self._ours(task.name):
            self.theirs.ignore(task)
        elif task.name != BASENAME:
            self._write(lambda con: models.put_memo(con, f"ignored:{task.name}", b"1"))

    def remove(self, name: str) -> None:
        """``doit forget``: make a pair stale and pass its record over once."""
        if not self._ours(name):
            self.theirs.remove(name)
            return
        judged = self.described.get(name)
        if judged is not None:
            self._write(lambda con: self._forget(con, name, judged))

    def _forget(self, con: Any, name: str, judged: Judged) -> None:
        aid = pairs.add_adapter(con, judged.adapter.name)
        pairs.add_pending(con, aid, [judged.entry.eid], "forgotten")
        models.drop_memo(con, f"ignored:{name}")

    def remove_all(self) -> None:
        """``doit forget --all``."""
        self.theirs.remove_all()
        for name in self.described:
            self.remove(name)

    def _write(self, work: Callable[[Any], None]) -> None:
        try:
            self.judge.project.database.write(work)
        except CogbuildError as error:
            raise InvalidCommand(str(error)) from error

    def save_success(self, task: Task, result_hash: object = None) -> None:
        """Keep doit's state of a user's task; a pair's stands in the Cog database already."""
        if not self._ours(task.name):
            self.theirs.save_success(task, result_hash)

    def remove_success(self, task: Task) -> None:
        """Forget doit's state of a user's task that failed."""
        if not self._ours(task.name):
            self.theirs.remove_success(task)

    def get_values(self, task_name: str) -> dict[str, Any]:
        """Return what a user's task saved."""
        return {} if self._ours(task_name) else self.theirs.get_values(task_name)

    def get_value(self, task_id: str, key_name: str) -> Any:
        """Return one value that a user's task saved."""
        return self.theirs.get_value(task_id, key_name)

    def get_result(self, task_name: str) -> Any:
        """Return what a user's task returned."""
        return None if self._ours(task_name) else self.theirs.get_result(task_name)

    def close(self) -> None:
        """Write doit's state of the user's tasks."""
        self.theirs.close()


class _Said:
    """The reasons of a verdict, as ``doit info`` prints them."""

    def __init__(self, judged: Judged) -> None:
        self.judged = judged

    def __str__(self) -> str:
        verdict = self.judged.verdict
        return (
            f"{verdict.kind}: {reason_text(verdict.reasons, most=20)}"
            if verdict.kind is not Kind.FRESH
            else "fresh"
        )


class LazyState:
    """doit's state file for a user's own tasks, opened when one of them asks: pairs leave no such file."""

    desc = "doit's own state (dbm), made only where tasks of your own need it"

    def __init__(self, name: str, codec: object, *, module_name: str | None = None) -> None:
        self.name = name
        self._codec = codec
        self._module = module_name
        self._opened: Any = None

    @property
    def _state(self) -> Any:
        if self._opened is None:
            self._opened = DbmDB(self.name, self._codec, module_name=self._module)
        return self._opened

    def get(self, task_id: str, dependency: str) -> Any:
        """Return what is kept; as doit's own."""
        return self._state.get(task_id, dependency)

    def set(self, task_id: str, dependency: str, value: Any) -> None:
        """Keep a value; as doit's own."""
        self._state.set(task_id, dependency, value)

    def in_(self, task_id: str) -> bool:
        """Whether anything is kept of a task; as doit's own."""
        return bool(self._state.in_(task_id))

    def remove(self, task_id: str) -> None:
        """Forget a task; as doit's own."""
        self._state.remove(task_id)

    def remove_all(self) -> None:
        """Forget every task, where there is a state to forget."""
        if self._opened is not None or os.path.exists(self.name):
            self._state.remove_all()

    def dump(self) -> None:
        """Write the state where there is any."""
        if self._opened is not None:
            self._opened.dump()


class Reporter(ConsoleReporter):  # type: ignore[misc] # doit has no types
    """doit's console output for the user's own tasks; pairs are told of by the run itself, with a summary at the end."""

    desc = "cogbuild's lines for pairs, doit's own for other tasks"
    run: Run | None = None

    def execute_task(self, task: Task) -> None:
        """Tell of a user's task."""
        if not _is_pair(task):
            super().execute_task(task)

    def skip_uptodate(self, task: Task) -> None:
        """Tell of a task that has nothing to do."""
        super().skip_uptodate(task)
        if _is_pair(task) and self.run is not None:
            self.run.passed_over(fresh=True)

    def skip_ignore(self, task: Task) -> None:
        """Tell of a task that the user has ignored."""
        super().skip_ignore(task)
        if _is_pair(task) and self.run is not None:
            self.run.passed_over(fresh=False)

    def add_failure(self, task: Task, fail: Any) -> None:
        """Tell of a failure; a pair that was never run is blocked, and we know by what."""
        if not _is_pair(task):
            super().add_failure(task, fail)
        elif isinstance(fail, UnmetDependency) and self.run is not None:
            blocked(self.run, task)

    def complete_run(self) -> None:
        """Say what came of the run; an interruption and an unusable store decide the exit code."""
        super().complete_run()
        run = type(self).run
        if run is None:
            return
        type(self).run = None
        run.end()
        for line in run.summary().lines():
            self.write(line + "\n")
        if run.fatal is not None:
            sys.stderr.write(f"{run.fatal}\n")
        code = run.exit_code
        run.project.close()
        if run.fatal is not None or run.signal is not None:
            sys.exit(code)


def _is_pair(task: Task) -> bool:
    return bool(task.subtask_of == BASENAME)
