"""``gc``: takes what nothing needs, or lists it.

Files go before rows, so that a full disk has room when the database is written to. Everything that goes costs only time
to have again, or is named by nothing at all; so whatever instant this is killed at, nothing is torn.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cogbuild import interpreter
from cogbuild.database import history, jobs, upkeep
from cogbuild.engine.places import notes_in
from cogbuild.errors.state import DiskTrouble, ReadOnlyData
from cogbuild.housekeeping.roots import Doomed, Roots, old_records, roots
from cogbuild.spec import ADAPTER_FILE
from cogbuild.using import alone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cogbuild.project import Project

__all__ = ["KINDS", "OLD", "Collection", "Item", "collect"]

#: The kinds of things that are collected, in the order in which they go.
KINDS = (
    "leftovers",
    "sealed trees",
    "artifacts",
    "copies",
    "objects",
    "environments",
    "logs",
    "jobs",
    "records",
    "rows",
)
# What ends with rows of the database, for whose removal a full disk has no room.
_ROWS = ("jobs", "rows")
#: Seconds after which records that no outcome carries count as old.
OLD = 30 * 86400.0
# ... for which a job that has ended stays, whatever is asked for.
_FOLLOWED = 3600.0


@dataclass(frozen=True)
class Item:
    """One thing that goes, or that several rows are."""

    kind: str
    name: str
    size: int  # bytes
    remove: Callable[[], object]
    count: int = 1


@dataclass
class Collection:
    """What was collected, or would be."""

    dry: bool
    whole: bool  # False: something used the stores, so only what it can't use was looked at
    store_left: str | None = None  # an artifact store elsewhere, which was left alone
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    sizes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    items: list[Item] = field(default_factory=list)  # of a dry run

    @property
    def size(self) -> int:
        """Bytes of everything."""
        return sum(self.sizes.values())


@dataclass(frozen=True)
class _Rules:
    before: float  # records and such that are older go
    logs_before: float | None
    environments: bool
    store: bool  # artifacts are collected


def collect(
    project: Project,
    *,
    dry: bool = False,
    older_than: float = OLD,
    logs_older_than: float | None = None,
    environments: bool = True,
    store_elsewhere: bool = False,
    wait: bool = False,
) -> Collection:
    """Take what no outcome, pin, kept record, model or lock needs; *dry* only lists it.

    An artifact store that the settings put elsewhere may serve other data directories too, of which nothing is known
    here: it is left alone unless *store_elsewhere* says that it is ours alone. While builds run or models are added, only what these can't use is taken, unless *wait* waits for their end.
    """
    now = time.time()
    logs_before = now - logs_older_than if logs_older_than is not None else None
    elsewhere = project.objects.artifacts != project.data / "artifacts"
    rules = _Rules(now - older_than, logs_before, environments, store_elsewhere or not elsewhere)
    with alone(project.data, wait=wait) as mine:
        done = Collection(dry, mine, None if rules.store else str(project.objects.artifacts))
        steps = _everything(project, rules, dry=dry) if mine else _what_nobody_uses(project, rules)
        for item in steps:
            if dry:
                done.items.append(item)
            elif not _removed(item):
                continue
            done.counts[item.kind] += item.count
            done.sizes[item.kind] += item.size
        if done.counts["records"] and mine and not dry:
            project.cache.compact()
    return done


def _removed(item: Item) -> bool:
    """Remove *item*; rows for whose removal a full disk has no room are left to the next collection."""
    try:
        item.remove()
    except (DiskTrouble, ReadOnlyData):
        if item.kind not in _ROWS:
            raise
        return False
    return True


def _everything(project: Project, rules: _Rules, *, dry: bool) -> Iterator[Item]:
    yield from _leftovers(project, rules)
    try:
        found = roots(project, before=rules.before)
    except DiskTrouble:
        if dry:
            raise
        # Not even the database's own index fits: what is remade from the objects makes room without asking it.
        yield from _sealed(project, set())
        project.database.close()
        found = roots(project, before=rules.before)
    yield from _sealed(project, found.sealed)
    if rules.store:
        yield from _artifacts(project, found.artifacts)
    yield from _copies(project, found.stored, rules.before)
    yield from _objects(project, found.objects)
    if rules.environments:
        yield from _environments(project, found.environments)
    yield from _logs(project, rules)
    yield from _jobs(project, rules.before)
    yield from _records(project, found.records)
    yield from _rows(project, found)


def _what_nobody_uses(project: Project, rules: _Rules) -> Iterator[Item]:
    yield from _workspaces(project)
    if rules.logs_before is not None:
        yield from _old_logs(project, rules.logs_before)
    yield from _jobs(project, rules.before)
    yield from _records(project, old_records(project, before=rules.before))


# -- leftovers ----------------------------------------------------------------------------------------------------

_TEMPORARY = re.compile(r"^\.tmp-")
_IN_THE_MAKING = re.compile(r"^\.(making|removing)-")


def _leftovers(project: Project, rules: _Rules) -> Iterator[Item]:
    """Yield what processes that died left; nobody else is at work, so no temporary name is anybody's."""
    yield from _workspaces(project)
    for place in _places(project, rules):
        for path in _listed(place):
            if _TEMPORARY.match(path.name):
                yield _file_item("leftovers", path)
    for path in _listed(project.data / "envs"):
        if _IN_THE_MAKING.match(path.name):
            yield _file_item("leftovers", path)
    for path in (*_listed(project.data / "aside"), *project.cache.root.glob("aside-*")):
        with contextlib.suppress(OSError):
            if path.lstat().st_mtime < rules.before:
                yield _file_item("leftovers", path)


def _places(project: Project, rules: _Rules) -> Iterator[Path]:
    """Yield the directories in which bytes get their names."""
    store = project.objects
    yield from (project.data, store.models, store.root, *_listed(store.root))
    if rules.store:
        yield store.artifacts
        yield from _listed(store.artifacts)
    yield project.copies.artifacts


def _workspaces(project: Project) -> Iterator[Item]:
    """Yield the workspaces of processes that are gone: the kernel has released the locks on their directories."""
    from cogbuild.workspace import is_free

    work = project.data / "work"
    free = [path for path in _listed(work) if path.is_dir() and not path.is_symlink() and is_free(path)]
    yield from [Item("leftovers", str(path), _size(path), partial(_recover, project)) for path in free]


def _recover(project: Project) -> None:
    """Remove them all; what they were made for is recorded as interrupted, where the disk has room for that."""
    from cogbuild.engine.leftovers import recover
    from cogbuild.workspace import sweep

    try:
        recover(project)
    except DiskTrouble:
        sweep(project.data / "work")


# -- bytes --------------------------------------------------------------------------------------------------------


def _sealed(project: Project, keep: set[str]) -> Iterator[Item]:
    store = project.objects
    for path in _listed(store.models):
        if path.name not in keep and not path.name.startswith("."):
            # Its files are links into the objects: their bytes are counted there.
            yield Item("sealed trees", path.name, 0, partial(store.unseal, path.name))


def _artifacts(project: Project, keep: set[str]) -> Iterator[Item]:
    store = project.objects
    for outer in _listed(store.artifacts):
        for path in _listed(outer):
            digest = outer.name + path.name
            if not path.name.startswith(".") and digest not in keep:
                yield Item("artifacts", digest, _size(path), partial(store.withdraw, digest))


def _copies(project: Project, keep: set[str], before: float) -> Iterator[Item]:
    """Yield copies of what lies in object stores: of what nothing names, and those not used since *before*."""
    store = project.copies
    for outer in _listed(store.artifacts):
        for path in _listed(outer):
            digest = outer.name + path.name
            if not path.name.startswith(".") and (digest not in keep or path.stat().st_mtime < before):
                yield Item("copies", digest, _size(path), partial(store.withdraw, digest))


def _objects(project: Project, keep: set[str]) -> Iterator[Item]:
    for outer in _listed(project.objects.root):
        for path in _listed(outer):
            if not path.name.startswith(".") and outer.name + path.name not in keep:
                yield _file_item("objects", path, name=outer.name + path.name)


def _environments(project: Project, keep: set[str]) -> Iterator[Item]:
    from cogbuild.environment import list_environments, remove

    for item in list_environments(project.data / "envs"):
        if not any(digest.startswith(item.digest_prefix) for digest in keep):
            yield Item("environments", item.digest_prefix, item.size, partial(remove, item.path))


# -- logs, records, rows ------------------------------------------------------------------------------------------


def _logs(project: Project, rules: _Rules) -> Iterator[Item]:
    """Yield logs that no attempt has, and old ones where that was asked for."""
    under_way = {note.id for _, note in notes_in(project.data / "work")}
    known = history.attempt_ids(project.con) | under_way
    for path in _listed(project.data / "logs"):
        if path.suffix == ".log" and path.stem not in known:
            yield _file_item("logs", path)
    if rules.logs_before is not None:
        yield from (item for item in _old_logs(project, rules.logs_before) if Path(item.name).stem in known)


def _old_logs(project: Project, before: float) -> Iterator[Item]:
    for path in _listed(project.data / "logs"):
        with contextlib.suppress(FileNotFoundError):
            if path.suffix == ".log" and path.stat().st_mtime < before:
                yield _file_item("logs", path)


def _jobs(project: Project, before: float) -> Iterator[Item]:
    """Yield the server's jobs that ended before *before*, with what they said; also what no job has said.

    Never those of the last hour: a server may be about to say the last word, and somebody may follow.
    """
    before = min(before, time.time() - _FOLLOWED)
    con = project.con
    old = set(jobs.old(con, before))
    files = [
        path
        for path in _listed(project.data / "logs" / "jobs")
        if path.stem in old or (_is_old(path, before) and jobs.find(con, path.stem) is None)
    ]
    count = len(old.union(path.stem for path in files))

    def take() -> None:
        for path in files:
            _remove(path)
        if old:
            project.database.write(lambda con: jobs.drop(con, old))

    if count:
        yield Item("jobs", "of the server", sum(map(_size, files)), take, count)


def _is_old(path: Path, before: float) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_mtime < before
    return False


def _records(project: Project, records: Iterable[Doomed]) -> Iterator[Item]:
    for record in records:
        yield Item("records", record.key, record.size, partial(project.cache.remove, record.key))


def _rows(project: Project, found: Roots) -> Iterator[Item]:
    rows = upkeep.unused(
        project.con,
        parts=found.parts,
        memos=_forgotten(project, found),
        artifacts=found.artifacts,
        uris=found.uris,
        stale=(stale := project.hashed.stale()),
    )
    if rows.count:
        yield Item(
            "rows",
            "of the database",
            rows.size,
            lambda: project.database.write(lambda con: upkeep.drop(con, rows, stale)),
            rows.count,
        )


def _forgotten(project: Project, found: Roots) -> set[str]:
    """Return the memos of files that are gone and of trees that no model has."""
    con = project.con
    gone = {name for name, _ in upkeep.memos(con, "selected:")} - found.selections
    for name, _ in upkeep.memos(con, "adapter:"):
        if not os.path.isfile(os.path.join(name.removeprefix("adapter:"), ADAPTER_FILE)):
            gone.add(name)
    for name, _ in upkeep.memos(con, "interpreter:"):
        if not os.path.exists(interpreter.of_memo(name)):
            gone.add(name)
    return gone


# -- files --------------------------------------------------------------------------------------------------------


def _file_item(kind: str, path: Path, *, name: str | None = None) -> Item:
    return Item(kind, name or str(path), _size(path), partial(_remove, path))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _listed(directory: Path) -> list[Path]:
    try:
        return sorted(Path(item.path) for item in os.scandir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a directory; what goes meanwhile counts nothing."""
    with contextlib.suppress(OSError):
        if path.is_symlink() or not path.is_dir():
            return path.lstat().st_size
        return sum(_size(inner) for inner in _listed(path))
    return 0
