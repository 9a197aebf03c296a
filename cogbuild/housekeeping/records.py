"""Looking into the cache: records and outcomes by key, their rows, what differs, what is damaged."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cogbuild.cache import Record
from cogbuild.database import feed, models, pairs, upkeep
from cogbuild.errors.housekeeping import AmbiguousKey, UnknownKey
from cogbuild.fingerprint.manifest import Change, Manifest, Part, changes, flatten
from cogbuild.planner.judged import artifact_file, pair_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cogbuild.database.pairs import Outcome
    from cogbuild.project import Project

__all__ = [
    "Counted",
    "Found",
    "Trouble",
    "carried_by",
    "counted",
    "difference",
    "every",
    "find",
    "rows",
    "verify",
]


@dataclass(frozen=True)
class Found:
    """A piece of work by its key: the cache's record of it, an outcome that carries it, or both."""

    key: str
    record: Record | None
    outcome: Outcome | None

    @property
    def manifest(self) -> Manifest:
        """What counted for it."""
        kept = self.record or self.outcome
        assert kept is not None
        return Manifest.decode(kept.manifest)


def every(project: Project, adapter: str | None = None) -> list[Record]:
    """Return the intact records, the newest first."""
    found = (project.cache.get(key) for key in list(project.cache.keys()))
    chosen = [item for item in found if item is not None and adapter in (None, item.adapter)]
    return sorted(chosen, key=lambda item: item.made, reverse=True)


def find(project: Project, prefix: str) -> Found:
    """Return the work whose key starts with *prefix*. Raises ``UnknownKey`` and ``AmbiguousKey``."""
    name = prefix.lower()
    if not re.fullmatch(r"[0-9a-f]{4,64}", name):
        raise UnknownKey(key=prefix, expected="4 to 64 hex digits")
    outcomes = upkeep.outcome_keys(project.con, name) if project.exists else {}
    recorded = {key for key in project.cache.keys() if key.startswith(name)}  # noqa: SIM118 - no mapping
    keys = recorded | set(outcomes)
    if not keys:
        raise UnknownKey(key=prefix)
    if len(keys) > 1:
        raise AmbiguousKey(key=prefix, could_be=[key[:16] for key in sorted(keys)[:8]])
    (key,) = keys
    record, outcome = project.cache.get(key), outcomes.get(key)
    if record is None and outcome is None:  # it was damaged, and is gone by now
        raise UnknownKey(key=prefix)
    return Found(key, record, outcome)


def carried_by(project: Project, key: str) -> list[str]:
    """Return the names of the pairs whose outcomes carry *key*."""
    if not project.exists:
        return []
    names = feed.adapter_names(project.con)
    found = []
    for eid, aid in upkeep.carrying(project.con, key):
        entry = models.find(project.con, eid)
        if entry is not None:
            found.append(pair_name(entry, names.get(aid, "?")))
    return sorted(found)


def rows(project: Project, manifest: Manifest) -> dict[str, str]:
    """Return every row of a manifest, parts opened; files are named by their paths."""
    return flatten(manifest, lambda digest: _part(project, digest))


def difference(project: Project, before: Manifest, after: Manifest) -> list[Change]:
    """Return the rows in which two manifests differ."""
    same = set(before.rows) & set(after.rows)  # a part that both have is not opened
    old, new = (Manifest(tuple(row for row in item.rows if row not in same)) for item in (before, after))
    return changes(rows(project, old), rows(project, new))


def _part(project: Project, digest: str) -> Part | None:
    stored = models.part(project.con, digest)
    return Part(digest, *stored) if stored is not None else None


# -- verify -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trouble:
    """A record that was removed, and why."""

    key: str
    what: str


def verify(project: Project) -> Iterator[Trouble | None]:
    """Check every record: None for an intact one; what is damaged, or names what is not there, is removed."""
    for key in list(project.cache.keys()):
        what = _wrong(project, key)
        if what is None:
            yield None
        else:
            project.cache.remove(key)
            yield Trouble(key, what)


def _wrong(project: Project, key: str) -> str | None:
    data = project.cache.raw(key)
    record = Record.decode(data, key) if data is not None else None
    if record is None:
        return "it is damaged"
    if Manifest.decode(record.manifest).key != key:
        return "its manifest does not give its key"
    for item in record.artifacts:
        if not item.published:
            continue
        state = project.objects.artifact_state(item.digest or "", artifact_file(item), item.size or 0)
        if state is not None:
            return f"its artifact {artifact_file(item)}: {state}"
    if pairs.any_lost(project.con, record.artifacts):
        return "its artifact is known to be gone"
    return None


# -- stats --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counted:
    """What an adapter's pairs came to since the data directory was made."""

    adapter: str
    runs: int
    misses: int
    restored: int
    saved: float  # seconds


def counted(project: Project) -> list[Counted]:
    """Return the counters by adapter."""
    return [Counted(*row) for row in pairs.counters(project.con)] if project.exists else []
