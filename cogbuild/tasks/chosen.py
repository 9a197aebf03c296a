"""The pairs that a doit command is about, as tasks; our verdicts take the place of doit's state.

Tasks are made only for what the command needs: pairs that are not fresh for a run, the named ones for a selection, all
of them otherwise. What own tasks that are asked for depend on counts as asked for (``references``).
"""

from __future__ import annotations

import fnmatch
import functools
import sys
from typing import TYPE_CHECKING, Any

from doit import cmd_run
from doit.task import Task

from cogbuild import library
from cogbuild.active import active
from cogbuild.database import models
from cogbuild.elsewhere import check_place
from cogbuild.planner import Judge, Plan, Planner, Selection
from cogbuild.planner.judged import Judged, pair_name
from cogbuild.project import Project
from cogbuild.report.watching import watcher
from cogbuild.tasks import BASENAME
from cogbuild.tasks.described import described
from cogbuild.tasks.loader import Reporter, group
from cogbuild.tasks.pairs import Crew, task_name, tasks_of
from cogbuild.tasks.references import asks_for_results, may_mean_pairs, references
from cogbuild.tasks.running import Run
from cogbuild.tasks.state import PairState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cogbuild.tasks.references import References

__all__ = ["pairs"]


def pairs(params: Any, cmd: Any, asked: list[str], own: list[Task]) -> list[Task]:
    """Return the tasks of the pairs that *cmd* is about, and their group. *asked* are the names on the command line."""
    asked = _spelled_out(asked, own)
    mine = [name for name in asked if may_mean_pairs(name)]
    said = references(own, asked, alone=bool(params.get("single")))
    if asked and not (mine or said.reached or said.single):  # only tasks that know of no pairs
        return [group([])]
    for task in own:
        if asks_for_results(task):  # doit keeps none of pairs, and would find that none has changed
            task.uptodate.append((False, None, None))
    project = Project.find(data_dir=params["data_dir"] or None)
    planner = Planner(project, active(project, params["adapter_dir"]))
    if cmd.execute_tasks:
        return _to_run(params, cmd, planner, asked, mine, own, said)
    library.refresh_links(project)
    keeper = PairState(planner.judge, cmd.dep_manager)
    cmd.dep_manager = keeper
    follows = params.get("forget_sub") or params.get("cleandep") or params.get("cleanall")
    names = [*mine, *(said.reached if follows else [])]
    shows_group = cmd.name == "list" and not asked and not params.get("subtasks")
    nothing = shows_group or (asked and not names)
    chosen = [] if nothing else _named(project, planner.judge, names if BASENAME not in names else [])
    tasks = [described(keeper, judged) for judged in chosen]
    if not asked and cmd.sel_tasks is None:
        cmd.sel_tasks = [BASENAME, *(task.name for task in own if not task.subtask_of)]
    return [group(tasks), *tasks, *_mentioned(planner, said.single, tasks)]


def _spelled_out(asked: list[str], own: list[Task]) -> list[str]:
    """Return names with what wildcards that mean the group mean besides: own tasks."""
    found: dict[str, None] = {}
    for name in asked:
        if "*" in name and fnmatch.fnmatch(BASENAME, name):
            found[BASENAME] = None
            found |= dict.fromkeys(fnmatch.filter([task.name for task in own], name))
        else:
            found[name] = None
    return list(found)


def _to_run(  # noqa: PLR0917 - the parts of one command
    params: Any,
    cmd: Any,
    planner: Planner,
    asked: list[str],
    mine: list[str],
    own: list[Task],
    said: References,
) -> list[Task]:
    project = planner.project
    always = bool(params.get("always"))
    if asked and not (mine or said.reached):  # what is asked for depends on no pair
        return [group([]), *_mentioned(planner, said.single, [])]
    whole = not asked or BASENAME in mine or BASENAME in said.reached
    if whole:
        plan = planner.plan(Selection(force=always))
        todo = list(plan)
    else:
        plan, todo = _some(planner, mine, said.reached, always=always)
    if not (
        todo or mine or whole or plan.problems
    ):  # wildcards of own tasks that mean nothing that has to run
        return [group([]), *_mentioned(planner, said.single, [])]
    jobs = int(params.get("num_process") or 0)
    keeper = PairState(planner.judge, cmd.dep_manager)
    cmd.dep_manager = keeper
    # On a terminal the display is ours alone where doit has nothing to say: no task of the user's own, no other
    # reporter, nothing that is passed over.
    only_pairs = all(name in mine for name in asked or own)
    alone = params.get("reporter") is Reporter and only_pairs
    alone = alone and (always or not any(judged.verdict.settled for judged in todo))
    shown = watcher(sys.stdout, sys.stderr, alone=alone)
    run = Run(project, plan, jobs=max(1, jobs), watcher=shown)
    Reporter.run = run
    if only_pairs:
        _by_lane(cmd, run)
    run.begin()
    run.engine.seal(todo)
    tasks = tasks_of(run, todo)
    for task in tasks:
        keeper.tasks[task.name] = next(item for item in task._actions)  # noqa: SLF001 - `actions` makes copies
    if not asked or BASENAME in asked:
        # The group itself is not selected: it would fail with every pair that fails, and doit would exit with 2.
        others = [task.name for task in own if not task.subtask_of] if not asked else []
        cmd.sel_tasks = [
            *others,
            *(name for name in asked if name != BASENAME),
            *(task.name for task in tasks),
        ]
    return [group(tasks), *tasks, *_mentioned(planner, said.single, tasks)]


def _some(
    planner: Planner, mine: list[str], reached: list[str], *, always: bool
) -> tuple[Plan, list[Judged]]:
    """Return the pairs that names choose, with those they need, and their plan.

    Of the pairs that only the wildcards of own tasks mean, fresh ones are left out: doit need not know them, and there may
    be many.
    """
    judge = planner.judge
    wild = [] if always else [name for name in reached if "*" in name and name not in mine]
    found: dict[str, Judged] = {}
    if wild:
        plan = planner.plan()
        problems = plan.problems
        found = {judged.name: judged for judged in _meant(plan, wild)}
    else:
        check_place(planner.project)
        problems = library.refresh_links(planner.project)
    names = [*mine, *(name for name in reached if name not in wild)]
    if names:
        found |= {judged.name: judged for judged in _named(planner.project, judge, names, closed=True)}
    todo = list(found.values())
    if always:
        judge.forced |= {(judged.entry.eid, judged.adapter.name) for judged in todo}
        todo = [judge.look(judged.entry, judged.adapter.name) for judged in todo]
    return Plan(judge, [], {}, len(todo), record=True, problems=problems), todo


def _meant(plan: Plan, names: list[str]) -> Iterable[Judged]:
    """Yield the pairs of a plan that wildcards choose, and those of the plan that they need."""
    for chunk in plan.chunks():
        models: dict[int, dict[str, Judged]] = {}
        for judged in chunk:
            models.setdefault(judged.entry.eid, {})[judged.adapter.name] = judged
        for there in models.values():
            chosen = [name for name, judged in there.items() if _chosen(task_name(judged.name), names)]
            yield from (there[name] for name in plan.judge.closure(chosen) if name in there)


def _mentioned(planner: Planner, names: list[str], tasks: list[Task]) -> Iterable[Task]:
    """Yield tasks without actions for the pairs among *names* that are not among *tasks*.

    These are fresh, or nothing that is asked for depends on them. A name that no pair has is left for doit to refuse.
    """
    there = {task.name for task in tasks}
    missing = [name for name in names if name not in there]
    if missing:
        for entry, name in _pairs(planner.project, planner.judge, missing):
            yield Task(task_name(pair_name(entry, name)), None, subtask_of=BASENAME)


def _by_lane(cmd: Any, run: Run) -> None:
    """Have *cmd* run its tasks by our runner, where it would take doit's own or the one of doit's threads."""
    execute = cmd._execute  # noqa: SLF001 - doit has no other place to choose a runner

    def crew(*arguments: Any) -> Crew:
        return Crew(run, list(arguments[:5]))  # behind them the number of threads

    @functools.wraps(execute)  # doit reads its signature
    def executed(*args: Any, **given: Any) -> Any:
        theirs = cmd_run.Runner, cmd_run.MThreadRunner
        cmd_run.Runner = cmd_run.MThreadRunner = crew
        try:
            return execute(*args, **given)
        finally:
            cmd_run.Runner, cmd_run.MThreadRunner = theirs

    cmd._execute = executed  # noqa: SLF001


def _named(project: Project, judge: Judge, names: list[str], *, closed: bool = False) -> Iterable[Judged]:
    """Yield the pairs that task names and wildcards choose, all where there are none; *closed*: and those they need."""
    return (judge.look(entry, name) for entry, name in _pairs(project, judge, names, closed=closed))


def _pairs(
    project: Project, judge: Judge, names: list[str], *, closed: bool = False
) -> Iterable[tuple[models.EntryRow, str]]:
    seen: set[tuple[int, str]] = set()
    for entry in _entries(project, names):
        wanted = judge.wanted(entry)
        chosen = [name for name in wanted if not names or _chosen(task_name(pair_name(entry, name)), names)]
        for name in judge.closure(chosen) if closed else chosen:
            if name in wanted and (entry.eid, name) not in seen:
                seen.add((entry.eid, name))
                yield entry, name


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
