"""The door that ``doit`` opens: a task loader, its verdicts in place of doit's state, and a reporter.

A subclass of doit's own loader, so that a user's tasks in ``dodo.py`` keep working beside the pairs. Tasks are made only
for what the command needs: pairs that are not fresh for a run, the named ones for a selection, all of them otherwise.
"""

from __future__ import annotations

import fnmatch
import sys
from typing import TYPE_CHECKING, Any

from doit.cmd_base import DodoTaskLoader
from doit.exceptions import InvalidDodoFile, UnmetDependency
from doit.reporter import ConsoleReporter

from cogbuild import adapters, library
from cogbuild.database import models
from cogbuild.errors import CogbuildError
from cogbuild.planner import Judge, Plan, Planner, Selection
from cogbuild.planner.judging import Judged, pair_name
from cogbuild.project import Project
from cogbuild.report.watching import watcher
from cogbuild.tasks.described import described
from cogbuild.tasks.pairs import BASENAME, blocked, task_name, tasks_of
from cogbuild.tasks.running import Run
from cogbuild.tasks.state import PairState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from doit.task import Task

__all__ = ["Loader"]

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
        return self._with_group(cmd, [described(keeper, judged) for judged in chosen], own, asked)

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
        alone = alone and (always or not any(judged.verdict.settled for judged in todo))
        shown = watcher(sys.stdout, sys.stderr, alone=alone)
        run = Run(project, plan, jobs=max(1, jobs), watcher=shown)
        Reporter.run = run
        run.begin()
        run.expect(len(todo))
        run.engine.seal(todo)
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
        if (
            run.fatal is not None or run.signal is not None or run.plan.problems
        ):  # doit knows of none of these
            sys.exit(code)


def _is_pair(task: Task) -> bool:
    return bool(task.subtask_of == BASENAME)
