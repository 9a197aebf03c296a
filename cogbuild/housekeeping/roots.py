"""What has to stay: everything that an outcome, a pin, a kept record, a model or a lock refers to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from cogbuild.cache import Record
from cogbuild.database import locks, models, pairs, upkeep
from cogbuild.fingerprint.manifest import Manifest, rows_part
from cogbuild.fingerprint.trees import Tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cogbuild.database.locks import LockRow
    from cogbuild.project import Project

__all__ = ["Doomed", "Roots", "old_records", "roots"]


class Doomed(NamedTuple):
    """A record that is not kept."""

    key: str
    size: int  # bytes


@dataclass
class Roots:
    """Names of what stays."""

    artifacts: set[str] = field(default_factory=set)  # digests of published ones
    stored: set[str] = field(default_factory=set)  # digests of what cogbuild sent to object stores
    uris: set[str] = field(default_factory=set)  # of the others
    objects: set[str] = field(default_factory=set)  # "<digest>", "<digest>.x"
    sealed: set[str] = field(default_factory=set)  # model IDs
    parts: set[str] = field(default_factory=set)
    selections: set[str] = field(default_factory=set)  # memos of trees under a filter
    environments: set[str] = field(default_factory=set)  # digests of locks
    records: list[Doomed] = field(default_factory=list)  # those that go


def roots(project: Project, *, before: float) -> Roots:
    """Return what has to stay when records and locks that nothing uses are kept back to the time *before*."""
    found = Roots()
    keys: set[str] = set()
    pythons: set[str] = set()
    for outcome in upkeep.every_outcome(project.con):
        keys.add(outcome.key)
        _artifacts(found, outcome.artifacts)
        pythons |= _manifest(found, outcome.manifest)
    pinned = pairs.pins(project.con)
    found.artifacts |= pinned
    found.uris |= pinned
    for key, size, record in _records(project):
        if record is None or (key not in keys and record.made < before):
            found.records.append(Doomed(key, size))
            continue
        _artifacts(found, record.artifacts)
        pythons |= _manifest(found, record.manifest)
    _trees(project, found)
    for lock in locks.all_locks(project.con):
        _lock(found, lock, pythons, before)
    return found


def old_records(project: Project, *, before: float) -> list[Doomed]:
    """Return the records that no outcome carries and that are older than *before*, and the damaged ones."""
    keys = {outcome.key for outcome in upkeep.every_outcome(project.con)}
    return [
        Doomed(key, size)
        for key, size, record in _records(project)
        if record is None or (key not in keys and record.made < before)
    ]


def _records(project: Project) -> Iterator[tuple[str, int, Record | None]]:
    for key in project.cache.keys():  # noqa: SIM118 - no mapping
        data = project.cache.raw(key)
        yield key, len(data or b""), Record.decode(data, key) if data is not None else None


def _artifacts(found: Roots, artifacts: tuple[pairs.Artifact, ...]) -> None:
    for item in artifacts:
        if item.published and item.digest:
            found.artifacts.add(item.digest)
        else:
            found.uris.add(item.uri)
            if item.size is not None and item.digest:
                found.stored.add(item.digest)


def _manifest(found: Roots, blob: bytes) -> set[str]:
    """Add the parts of a manifest; return the part of its packages, where it has one."""
    rows = Manifest.decode(blob).rows
    found.parts |= {row.value for row in rows if row.part}
    return {row.value for row in rows if row.label == "python"}


def _trees(project: Project, found: Roots) -> None:
    kept = upkeep.kept_trees(project.con)
    found.parts |= set(kept)
    sealed = {tree for tree, is_sealed in kept.items() if is_sealed}
    for digest in sealed:
        part = models.part(project.con, digest)
        for entry in Tree.decode(part[1]).entries if part is not None else ():
            if entry.kind in "fx":
                found.objects.add(entry.value + (".x" if entry.kind == "x" else ""))
    found.sealed |= {digest[:40] for digest in sealed}
    for name, value in upkeep.memos(project.con, "selected:"):
        tree = name.split(":")[1]
        if tree in kept:
            found.selections.add(name)
            found.parts.add(value.hex())
            if tree in sealed:
                found.sealed.add(value.hex()[:40])


def _lock(found: Roots, row: LockRow, pythons: set[str], before: float) -> None:
    from cogbuild.environment import Lock

    lock = Lock(row.text, row.python)
    if row.made >= before or rows_part(lock.rows()).digest in pythons:
        found.environments.add(lock.digest)
