"""The door that ``doit`` opens: a task loader and a reporter.

A subclass of doit's own loader, so that a user's tasks in ``dodo.py`` keep working beside the pairs. Where there is
nothing to do at all, that is all that is imported of cogbuild; ``chosen`` makes the tasks otherwise.
"""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any

from doit.cmd_base import DodoTaskLoader
from doit.exceptions import InvalidDodoFile, UnmetDependency
from doit.reporter import ConsoleReporter

from cogbuild.errors import CogbuildError
from cogbuild.tasks import BASENAME

if TYPE_CHECKING:
    from doit.task import Task

    from cogbuild.tasks.running import Run

__all__ = ["Loader", "Reporter", "group"]

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
        asked = list(pos_args)
        if cmd.execute_tasks:  # or the `default_tasks` of DOIT_CONFIG
            asked = list(cmd.sel_tasks or [])
        if cmd.execute_tasks and cmd.sel_tasks == []:  # `default_tasks` that are none
            return [*own, group([])]
        if not own and cmd.execute_tasks and asked in ([], [BASENAME]) and self._nothing_to_do():
            cmd.sel_tasks = []
            return [group([])]
        from cogbuild.tasks.chosen import pairs

        try:
            return [*own, *pairs(self.params, cmd, asked, own)]
        except CogbuildError as error:
            raise InvalidDodoFile(str(error)) from error

    def _nothing_to_do(self) -> bool:
        from cogbuild.place import data_directory
        from cogbuild.quiet import fresh_pairs

        if self.params.get("always") or self.params["adapter_dir"]:
            return False
        data = data_directory(self.params["data_dir"] or None)
        Reporter.fresh = fresh_pairs(data) if data is not None else None
        return Reporter.fresh is not None


def group(tasks: list[Task]) -> Task:
    """Return the task that all pairs are subtasks of."""
    from doit.task import Task

    return Task(
        BASENAME,
        None,
        task_dep=[task.name for task in tasks],
        has_subtask=True,
        doc="every model built by every adapter",
    )


class Reporter(ConsoleReporter):  # type: ignore[misc] # doit has no types
    """doit's console output for the user's own tasks; pairs are told of by the run itself, with a summary at the end."""

    desc = "cogbuild's lines for pairs, doit's own for other tasks"
    run: Run | None = None
    #: How many pairs there are, where none of them had anything to do.
    fresh: int | None = None

    def initialize(self, tasks: dict[str, Task], selected_tasks: list[str]) -> None:
        """Hear what doit is going to come to; pairs that only ``setup`` names it may pass by."""
        super().initialize(tasks, selected_tasks)
        if self.run is not None:
            sure = _depended_on(tasks, selected_tasks)
            pairs = [task for task in tasks.values() if _is_pair(task)]
            self.run.unasked = {task.name: _has_to_run(task) for task in pairs if task.name not in sure}
            self.run.expect(len(pairs) - len(self.run.unasked))

    def get_status(self, task: Task) -> None:
        """Hear that doit has come to a task."""
        if self.run is not None and task.name in self.run.unasked:
            del self.run.unasked[task.name]
            self.run.expect(1)

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
            if task.name != BASENAME:  # the group fails with any pair, and each of these is told of
                super().add_failure(task, fail)
        elif isinstance(fail, UnmetDependency) and self.run is not None:
            from cogbuild.tasks.pairs import blocked

            blocked(self.run, task)

    def complete_run(self) -> None:
        """Say what came of the run; an interruption and an unusable store decide the exit code."""
        super().complete_run()
        fresh, type(self).fresh = type(self).fresh, None
        if fresh is not None:
            from cogbuild.quiet import summary

            self.write(summary(fresh) + "\n")
            gc.freeze()  # the process is about to end: what is imported need not be walked over once more
        run = type(self).run
        if run is None:
            return
        type(self).run = None
        run.end()
        for line in run.summary().lines() if run.asked else ():
            self.write(line + "\n")
        if run.fatal is not None:
            sys.stderr.write(f"{run.fatal}\n")
        code = run.exit_code
        run.project.close()
        if (
            run.fatal is not None or run.signal is not None or run.plan.problems
        ):  # doit knows of none of these
            sys.exit(code)


def _depended_on(tasks: dict[str, Task], selected: list[str]) -> set[str]:
    """Return *selected* and all tasks that these depend on, whether or not they have to run."""
    found, queue = set(selected), list(selected)
    while queue:
        task = tasks[queue.pop()]
        for name in (*task.task_dep, *task.calc_dep):
            if name not in found:
                found.add(name)
                queue.append(name)
    return found


def _has_to_run(task: Task) -> bool:
    return any(not action.judged.verdict.settled for action in task._actions)  # noqa: SLF001 - `actions` makes copies


def _is_pair(task: Task) -> bool:
    return bool(task.subtask_of == BASENAME)
