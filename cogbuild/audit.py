"""Does everything that is kept agree with everything else? Reads all of it; changes nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cogbuild import library
from cogbuild.cache import Record
from cogbuild.database import feed, history, models, pairs, upkeep
from cogbuild.fingerprint.manifest import Manifest, part_digest
from cogbuild.fingerprint.trees import content_digest
from cogbuild.objects import Finding
from cogbuild.planner.judged import artifact_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cogbuild.project import Project

__all__ = ["audit"]

_TEMPORARY = re.compile(r"^\.tmp-|\.tmp$")


def audit(project: Project) -> list[Finding]:
    """Return every disagreement between database, objects, artifacts, cache and logs; none of them is repaired.

    Meant for a time when nothing runs: what a running build has under way shows as left over.
    """
    return [
        *_models(project),
        *_outcomes(project),
        *_copies(project),
        *_records(project),
        *_attempts(project),
        *_leftovers(project),
    ]


def _models(project: Project) -> Iterator[Finding]:
    counted, there = feed.count_live(project.con), upkeep.live_entries(project.con)
    if counted != there:
        yield Finding(project.data / "cog.db", f"{counted} models are counted, {there} are there")
    for entry in models.entries(project.con):
        kept = models.part(project.con, entry.tree)
        if kept is None or part_digest(*kept) != entry.tree:
            yield Finding(project.data / "cog.db", f"the tree of {entry.model} is missing or damaged")
            continue
        if entry.sealed:
            tree = library.tree_of(project, entry.tree)
            yield from project.objects.check_objects(tree, deep=True)
            yield from project.objects.check_sealed(tree, deep=True)


def _outcomes(project: Project) -> Iterator[Finding]:
    names = feed.adapter_names(project.con)
    for (eid, aid), outcome in pairs.outcomes(project.con).items():
        pair = f"{eid}:{names.get(aid, '?')}"
        manifest = Manifest.decode(outcome.manifest)
        if manifest.key != outcome.key:
            yield Finding(project.data / "cog.db", f"the manifest of {pair} does not give its key")
        for name in pairs.lost_names(outcome.artifacts):
            if outcome not in pairs.naming(project.con, name):
                yield Finding(project.data / "cog.db", f"the artifact {name} does not lead to {pair}")
        for row in manifest.rows:
            part = models.part(project.con, row.value) if row.part else None
            if row.part and (part is None or part_digest(*part) != row.value):
                yield Finding(
                    project.data / "cog.db", f"the part {row.label} of {pair} is missing or damaged"
                )
        for item in outcome.artifacts:
            if item.published and outcome.lost is None:
                at = project.objects.artifact(item.digest or "", artifact_file(item))
                wrong = project.objects.artifact_state(item.digest or "", at.name, item.size or 0, deep=True)
                if wrong:
                    yield Finding(at, wrong)


def _copies(project: Project) -> Iterator[Finding]:
    for outer in _listed(project.copies.artifacts):
        for place in _listed(outer):
            for item in _listed(place):
                if content_digest(item) != outer.name + place.name:
                    yield Finding(item, "its content changed")


def _records(project: Project) -> Iterator[Finding]:
    for key in project.cache.keys():  # noqa: SIM118 - not a mapping
        data = project.cache.raw(key)
        record = Record.decode(data, key) if data is not None else None
        if record is None or Manifest.decode(record.manifest).key != key:
            yield Finding(project.cache.directory, f"record {key[:12]} is damaged")


def _attempts(project: Project) -> Iterator[Finding]:
    known = history.attempt_ids(project.con)
    for log in _listed(project.data / "logs"):
        if log.suffix == ".log" and log.stem not in known:
            yield Finding(log, "no attempt has this log")


def _leftovers(project: Project) -> Iterator[Finding]:
    for store in (
        project.objects.root,
        project.objects.models,
        project.objects.artifacts,
        project.copies.artifacts,
    ):
        for place in (
            store,
            *_listed(store),
            *(
                inner
                for outer in _listed(store)
                for inner in _listed(outer)
                if store != project.objects.models
            ),
        ):
            if _TEMPORARY.search(place.name):
                yield Finding(place, "left over from something that did not end")
    for place in _listed(project.data / "work"):
        if place.is_dir():
            yield Finding(place, "a workspace that nobody uses")


def _listed(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []
