"""The locks of Python environments: resolved ahead of builds, resolved anew, written out."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cogbuild.database import feed, locks, models
from cogbuild.errors import CogbuildError
from cogbuild.objects import disk_errors
from cogbuild.planner import Judge
from cogbuild.planner.judged import pair_name

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cogbuild.adapters import Adapter
    from cogbuild.environment import Lock
    from cogbuild.planner.judged import Wanted
    from cogbuild.project import Project

__all__ = ["Group", "Locked", "Moved", "export", "groups", "lock"]

_CHUNK = 500  # models looked at at once


@dataclass
class Group:
    """Pairs that ask for the same environment."""

    wanted: Wanted | None  # None: what they ask for can't be read
    asked_by: str  # one of them, for errors
    error: CogbuildError | None = None
    adapters: list[str] = field(default_factory=list)
    pairs: int = 0


@dataclass(frozen=True)
class Moved:
    """A package whose version, or whose files, an upgrade changed; None: not among the packages."""

    package: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Locked:
    """What locking came to for the pairs of one group."""

    group: Group
    state: str  # "new", "changed", "unchanged" or "failed"
    lock: Lock | None
    moved: tuple[Moved, ...] = ()
    error: CogbuildError | None = None


def groups(project: Project, adapters: dict[str, Adapter], names: tuple[str, ...] = ()) -> list[Group]:
    """Return the environments that the adapters *names*, or all, ask for, over all models."""
    judge = Judge(project, adapters)
    chosen = [name for name, item in adapters.items() if item.spec.python and (not names or name in names)]
    found: dict[str, Group] = {}
    start = 0
    while entries := models.entries(project.con, limit=_CHUNK, offset=start):
        start += _CHUNK
        for entry in entries:
            wanted = judge.wanted(entry)
            for name in (item for item in chosen if item in wanted):
                _join(found, judge, entry, adapters[name])
    return list(found.values())


def _join(found: dict[str, Group], judge: Judge, entry: models.EntryRow, adapter: Adapter) -> None:
    asked_by = f"adapter {adapter.name} for {entry.repo}@{entry.model[:12]}"
    try:
        wanted = judge.parts.python(entry, adapter)
        assert wanted is not None
        group = found.setdefault(wanted.request.digest, Group(wanted, asked_by))
    except CogbuildError as error:
        group = found.setdefault(pair_name(entry, adapter.name), Group(None, asked_by, error))
    group.pairs += 1
    if adapter.name not in group.adapters:
        group.adapters.append(adapter.name)


def lock(
    project: Project, group: Group, *, upgrade: bool, on_line: Callable[[bytes], None] | None = None
) -> Locked:
    """Resolve what a group asks for, where it is not resolved or *upgrade* wants it anew; durable when this returns.

    The pairs whose lock is new or changed are judged again by the next plan.
    """
    from cogbuild.environment import resolve

    wanted = group.wanted
    if wanted is None:
        return Locked(group, "failed", None, error=group.error)
    old = wanted.lock
    if old is not None and not upgrade:
        return Locked(group, "unchanged", old)
    try:
        new = resolve(
            wanted.request, wanted.python, asked_by=group.asked_by, upgrade=upgrade, on_line=on_line
        )
    except CogbuildError as error:
        if error.exit_code == 3:
            raise
        return Locked(group, "failed", old, error=error)
    _keep(project, group, wanted, new)
    if old is None:
        return Locked(group, "new", new)
    moved = tuple(_moved(old, new))
    return Locked(group, "changed" if new != old else "unchanged", new, moved)


def _keep(project: Project, group: Group, wanted: Wanted, new: Lock) -> None:
    asked = json.dumps({"requirements": wanted.request.requirements, "asked_by": group.asked_by})
    row = locks.LockRow(wanted.request.digest, new.python, new.text, asked, time.time())

    def work(con: sqlite3.Connection) -> None:
        locks.put_lock(con, row, replace_old=True)
        feed.reset_scopes(con)  # other pairs may ask for the same, and were judged without it

    if wanted.lock != new:
        project.database.write(work)


def _moved(old: Lock, new: Lock) -> Iterator[Moved]:
    before, after = _versions(old), _versions(new)
    for package in sorted({*before, *after}):
        was, now = before.get(package), after.get(package)
        if was != now:
            same = was is not None and now is not None and was[0] == now[0]
            yield Moved(
                package, was[0] if was else None, f"{now[0]}, other files" if same and now else now and now[0]
            )


def _versions(lock: Lock) -> dict[str, tuple[str, str]]:
    """Return (version, its files) by package."""
    rows = (
        (label.removeprefix("python:"), value) for label, value in lock.rows() if label.startswith("python:")
    )
    found = ((name, value.partition(" (files ")) for name, value in rows)
    return {name: (version, files) for name, (version, _, files) in found}


def packages(lock: Lock) -> int:
    """Return how many packages a lock pins."""
    return len(_versions(lock))


def export(done: list[Locked], directory: Path) -> list[Path]:
    """Write each lock as a requirements file that pip and uv take; return the files."""
    written = []
    with disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        for item in done:
            if item.lock is None:
                continue
            name = f"{'+'.join(item.group.adapters)}-{item.lock.digest[:12]}.txt"
            head = f"# python {item.lock.python}, for {', '.join(item.group.adapters)}\n"
            (directory / name).write_text(head + item.lock.text, "utf-8")
            written.append(directory / name)
    return written
