"""What doit asks of its state: of pairs our verdict answers, of a user's own tasks doit's own file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from doit.dependency import Dependency, DependencyStatus
from doit.exceptions import InvalidCommand

from cogbuild.database import feed, models
from cogbuild.errors import CogbuildError
from cogbuild.report.words import reason_text
from cogbuild.tasks import BASENAME
from cogbuild.tasks.pairs import PairAction, Verdicts
from cogbuild.verdict import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from doit.task import Task

    from cogbuild.planner import Judge, Judged

__all__ = ["PairState"]


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
        if action is not None and action.judged is not None and not action.judged.adapter.needs:
            judged = action.judged  # the engine looks again when its turn comes
        elif action is not None:
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
        aid = feed.add_adapter(con, judged.adapter.name)
        feed.add_pending(con, aid, [judged.entry.eid], "forgotten")
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
