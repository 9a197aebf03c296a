"""What this machine and this project give, and what is missing."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cogbuild.active import survey
from cogbuild.database import feed, locks
from cogbuild.database.schema import FORMAT as DATABASE_FORMAT
from cogbuild.errors import CogbuildError
from cogbuild.errors.state import ReadOnlyData
from cogbuild.lacking import lacks

if TYPE_CHECKING:
    from cogbuild.lacking import Lack
    from cogbuild.process import Protection
    from cogbuild.project import Project

__all__ = ["AdapterState", "Machine", "machine"]


@dataclass(frozen=True)
class AdapterState:
    """An adapter that the settings name."""

    named: str
    name: str | None
    error: CogbuildError | None
    lacks: tuple[Lack, ...] = ()  # of what it wants here

    @property
    def ready(self) -> bool:
        """Whether it can work here."""
        return self.error is None and all(item.without is not None for item in self.lacks)


@dataclass
class Machine:
    """Facts, and the troubles among them."""

    python: str
    uv: str | None = None
    protection: Protection | None = None
    root: str | None = None  # None: no project here
    data: str | None = None
    settings: str | None = None  # the file
    writable: bool | None = None  # None: not made yet
    free: int | None = None  # bytes on the data directory's disk
    models: int | None = None
    database: int | None = None  # number of its format
    cache: int | None = None
    records: int | None = None
    environments: int | None = None  # locked
    adapters: list[AdapterState] = field(default_factory=list)
    #: What makes cogbuild unusable.
    troubles: list[CogbuildError] = field(default_factory=list)
    #: What can be lived with.
    notes: list[str] = field(default_factory=list)


def machine(project: Project | None) -> Machine:
    """Look at everything; what goes wrong is among the troubles."""
    found = Machine(f"{platform.python_implementation()} {platform.python_version()} at {sys.executable}")
    _look_at_tools(found)
    if project is not None:
        _look_at_directory(found, project)
        _look_at_state(found, project)
        if found.database is not None or not project.exists:
            _look_at_adapters(found, project)
    return found


def _look_at_tools(found: Machine) -> None:
    from cogbuild.environment import tool
    from cogbuild.process import protection

    try:
        found.uv = tool.run("--version").stdout.decode(errors="replace").strip()
    except CogbuildError as error:
        # Only adapters that declare python: need it.
        found.notes.append(error.title)
    try:
        found.protection = protection()
    except CogbuildError as error:
        found.troubles.append(error)


def _look_at_directory(found: Machine, project: Project) -> None:
    from cogbuild.project import settings_file

    found.root, found.data = str(project.root), str(project.data)
    settings = settings_file(project.root)
    found.settings = str(settings) if settings else None
    place = project.data if project.exists else project.root
    found.writable = os.access(place, os.W_OK | os.X_OK)
    try:
        found.free = shutil.disk_usage(place).free
    except OSError as trouble:
        found.notes.append(f"the disk's free room can't be told: {trouble.strerror}")


def _look_at_state(found: Machine, project: Project) -> None:
    from cogbuild import cache

    if not project.exists:
        return
    if not found.writable:
        found.troubles.append(ReadOnlyData(path=project.data, reason="this user may not write there"))
    try:
        found.models = feed.count_live(project.con)
        found.database = DATABASE_FORMAT
        found.environments = len(locks.all_locks(project.con))
    except CogbuildError as error:
        found.troubles.append(error)
        return
    try:
        found.records = sum(1 for _ in project.cache.keys())  # noqa: SIM118 - not a dict
        found.cache = cache.FORMAT
    except CogbuildError as error:
        found.troubles.append(error)
    found.notes += project.cache.troubles


def _look_at_adapters(found: Machine, project: Project) -> None:
    try:
        surveyed = survey(project)
    except CogbuildError as error:
        found.troubles.append(error)
        return
    for item in surveyed:
        missing = tuple(lacks(project, item.adapter.spec)) if item.adapter else ()
        found.adapters.append(AdapterState(item.source, item.name, item.error, missing))
