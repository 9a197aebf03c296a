"""A pair as a task to look at, to forget and to clean: its files and environment are named, and none of them is read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from doit.action import BaseAction

from cogbuild import library
from cogbuild.database import models
from cogbuild.planner.judged import pair_name
from cogbuild.tasks.pairs import pair_task

if TYPE_CHECKING:
    from doit.task import Task

    from cogbuild.planner import Judged
    from cogbuild.project import Project
    from cogbuild.tasks.state import PairState

__all__ = ["described"]


def described(keeper: PairState, judged: Judged) -> Task:
    """Return the task of a pair for commands that run nothing."""
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
