"""What a user's own tasks say of pairs: doit has to find a task for each of these, and has to run them before.

Read off the tasks as they are loaded. What ``calc_dep`` comes to, and tasks that are made during the run, nobody knows yet.
"""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING, NamedTuple

from doit.task import result_dep

from cogbuild.tasks import BASENAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from doit.task import Task

__all__ = ["References", "asks_for_results", "is_pairs", "may_mean_pairs", "references"]

_PREFIX = BASENAME + ":"


class References(NamedTuple):
    """Names that own tasks depend on."""

    #: The group, pairs and wildcards that what is asked for depends on, directly or through other own tasks.
    reached: list[str]
    #: Every single pair that any own task names: doit refuses a file with a name that is no task, whatever is asked for.
    single: list[str]


def is_pairs(name: str) -> bool:
    """Whether a name is the group's or a pair's."""
    return name == BASENAME or name.startswith(_PREFIX)


def asks_for_results(task: Task) -> bool:
    """Whether a task is up to date only as long as the results of pairs stay the same."""
    return any(isinstance(item, result_dep) and is_pairs(item.dep_name) for item, *_ in task.uptodate)


def references(own: Sequence[Task], asked: Sequence[str], *, alone: bool = False) -> References:
    """Return what *own* tasks say of pairs; *asked* are names, wildcards and targets as on the command line, none: all.

    *alone*: doit leaves out what the asked ones depend on (``--single``), but for what they need for being set up.
    """
    said = {name for task in own for name in _named(task) if may_mean_pairs(name)}
    if not said:
        return References([], [])
    known = {task.name: task for task in own}
    targets = {target: task.name for task in own for target in task.targets}
    roots = list(_roots(asked, known, targets))
    bare = _bare(roots, known) if alone else set()
    reached: dict[str, None] = {}
    seen, queue = set(roots), roots
    while queue:
        task = known[queue.pop()]
        after = _named(task, bare=task.name in bare)
        files = [] if task.name in bare else [targets[name] for name in task.file_dep if name in targets]
        for name in (*after, *files):
            if name in said:
                reached[BASENAME if "*" in name and fnmatch.fnmatch(BASENAME, name) else name] = None
            for other in _own(name, known):
                if other not in seen:
                    seen.add(other)
                    queue.append(other)
    return References(list(reached), sorted(name for name in said if "*" not in name and name != BASENAME))


def _named(task: Task, *, bare: bool = False) -> Iterator[str]:
    if not bare:
        yield from task.task_dep
        yield from task.wild_dep
    yield from task.setup_tasks
    yield from task.calc_dep


def may_mean_pairs(name: str) -> bool:
    """Whether a name or a wildcard is that of pairs, or may be."""
    if "*" not in name:
        return is_pairs(name)
    literal = re.split(r"[*?[]", name, maxsplit=1)[0]
    return literal.startswith(_PREFIX) or _PREFIX.startswith(literal)


def _own(name: str, known: dict[str, Task]) -> Iterable[str]:
    return fnmatch.filter(known, name) if "*" in name else [name] if name in known else []


def _roots(asked: Sequence[str], known: dict[str, Task], targets: dict[str, str]) -> Iterator[str]:
    for name in asked or known:
        yield from _own(name, known)
        if name in targets:
            yield targets[name]
        elif name not in known:  # a target of tasks that are made during the run
            yield from (task.name for task in known.values() if _makes(task, name))
        # A subtask that its creator makes during the run.
        yield from (base for base in [name.partition(":")[0]] if name not in known and base in known)


def _makes(task: Task, target: str) -> bool:
    regex = task.loader.target_regex if task.loader else None
    return regex is not None and re.match(regex, target) is not None


def _bare(roots: list[str], known: dict[str, Task]) -> set[str]:
    """Return the tasks that ``--single`` leaves without dependencies: those asked for, of a group its subtasks."""
    groups = [known[name] for name in roots if known[name].has_subtask]
    below = {name for task in groups for name in task.task_dep}
    return {name for name in roots if not known[name].has_subtask} | below
