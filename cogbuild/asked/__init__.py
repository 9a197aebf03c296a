"""What a question about the project comes to, as JSON and as text, for whichever door asked: the command line or the server.

A question has a *scope*: who may see only some repos gets the answer that a project of these repos alone would give.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cogbuild.database.browsing import Repos
from cogbuild.errors.models import UnknownRepo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cogbuild.database.browsing import Place
    from cogbuild.project import Project
    from cogbuild.report.tables import Page

__all__ = ["Answer", "known_repos"]


@dataclass(frozen=True)
class Answer:
    """One answer; JSON and text are made when they are asked for."""

    json: Callable[[], dict[str, Any]]
    lines: Callable[[Page], Iterable[str]]
    after: Place | None = None  # where the next page starts; None: this was all


def known_repos(project: Project, repos: Sequence[str], scope: str = "*") -> None:
    """Raise ``UnknownRepo`` for a repo that never held a model: a slip of the pen is not "nothing to do".

    To be asked after live directories were looked at, since these bring repos along.
    """
    for repo in repos:
        if not project.exists or "/" not in repo or not Repos((repo,), scope).known(project.con):
            raise UnknownRepo(repo=repo)
