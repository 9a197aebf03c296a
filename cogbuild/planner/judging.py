"""The facts of one pair: its manifest, its outcome, what it needs; and the verdict that follows."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from cogbuild import damage
from cogbuild.adapters import IMAGE_ADAPTER
from cogbuild.database import feed, models, pairs, upkeep
from cogbuild.errors import CogbuildError
from cogbuild.fingerprint.manifest import (
    Change,
    Manifest,
    Part,
    changes,
    flatten,
    manifest,
    rows_part,
)
from cogbuild.planner.judged import Judged, Needed, Wanted, artifact_file, image_artifact
from cogbuild.planner.parts import Parts
from cogbuild.quiet import closure, wanted
from cogbuild.verdict import Facts, Kind, Need, NeedState, Reason, Verdict, judge, with_changes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cogbuild.adapters import Adapter
    from cogbuild.cache import Record
    from cogbuild.database.models import EntryRow
    from cogbuild.database.pairs import Artifact, Outcome
    from cogbuild.project import Project

__all__ = ["Judge"]


class _Said(NamedTuple):
    """What the database says of one pair."""

    stamp: tuple[object, ...]
    outcome: Outcome | None


class Judge:
    """Judges pairs of the adapters given. Reads the database, the cache and nothing of the models' files."""

    def __init__(self, project: Project, adapters: dict[str, Adapter]) -> None:
        self.project = project
        self.adapters = adapters
        #: Pairs that this run forces, until they have run.
        self.forced: set[tuple[int, str]] = set()
        #: Pairs that failed or were blocked in this run, with one line that says how.
        self.failed: dict[tuple[int, str], str] = {}
        self._aids: dict[str, int] = {}
        self.parts = Parts(project)

    # -- which pairs there are ------------------------------------------------------------------------------------

    def wanted(self, entry: EntryRow) -> list[str]:
        """Return the adapters that have a pair with the entry, needed ones first."""
        needs = {name: adapter.needs for name, adapter in self.adapters.items()}
        wishes = entry.settings.get("adapters")
        if wishes is not None:
            wishes = [*wishes, *(name for name, adapter in self.adapters.items() if adapter.always)]
        return wanted(needs, wishes, image=bool(entry.cpu_image))

    def closure(self, names: list[str]) -> list[str]:
        """Return *names* and all that they need, needed ones first."""
        return closure(self.adapters, lambda name: self.adapters[name].needs, names)

    def aid(self, name: str) -> int | None:
        """Return the adapter's number, None where it never had a pair."""
        if name not in self._aids:
            found = feed.adapter_id(self.project.con, name)
            if found is None:
                return None
            self._aids[name] = found
        return self._aids[name]

    # -- judging --------------------------------------------------------------------------------------------------

    def look(self, entry: EntryRow, name: str, seen: dict[str, Judged] | None = None) -> Judged:
        """Judge one pair as things are now.

        *seen* holds what this look has judged already: several ways may lead to one needed pair.
        """
        seen = {} if seen is None else seen
        if name not in seen:
            seen[name] = self._look(entry, name, seen)
        return seen[name]

    def _look(self, entry: EntryRow, name: str, seen: dict[str, Judged]) -> Judged:
        judged, facts = self._drafted(entry, name, self._said([entry.eid], name)[entry.eid], seen)
        if facts is None:
            return judged
        return self._finished(judged, facts, self.restorable(judged.key or ""))

    def look_all(self, asked: Iterable[tuple[EntryRow, str]]) -> list[Judged]:
        """Judge many pairs as things are now: as ``look`` does, with fewer questions."""
        asked = list(asked)
        by_adapter: dict[str, list[int]] = {}
        for entry, name in asked:
            by_adapter.setdefault(name, []).append(entry.eid)
        said = {name: self._said(eids, name) for name, eids in by_adapter.items()}
        drafts: list[tuple[Judged, Facts | None]] = []
        seen: dict[int, dict[str, Judged]] = {}
        for entry, name in asked:
            if self.adapters[name].needs:
                drafts.append((self.look(entry, name, seen.setdefault(entry.eid, {})), None))
            else:
                drafts.append(self._drafted(entry, name, said[name][entry.eid], {}))
        records = self.project.cache.find([judged.key or "" for judged, facts in drafts if facts is not None])
        return [
            judged
            if facts is None
            else self._finished(judged, facts, self._usable(records.get(judged.key or "")))
            for judged, facts in drafts
        ]

    def _said(self, eids: Sequence[int], name: str) -> dict[int, _Said]:
        """Return what the database says of pairs of one adapter, by eid."""
        con, aid = self.project.con, self.aid(name)
        stamps = pairs.stamps(con, eids, aid)
        known = [eid for eid, stamp in stamps.items() if stamp[1] is not None]
        found = pairs.outcomes(con, eids=known, aid=aid) if known and aid is not None else {}
        outcomes = {eid: outcome for (eid, _), outcome in found.items()}
        return {eid: _Said(stamps.get(eid, pairs.NO_STAMP), outcomes.get(eid)) for eid in eids}

    def _drafted(
        self, entry: EntryRow, name: str, said: _Said, seen: dict[str, Judged]
    ) -> tuple[Judged, Facts | None]:
        """Return the pair as it is judged without the cache, and the facts of that where the cache may know better."""
        adapter, outcome = self.adapters[name], said.outcome
        why = str(said.stamp[-1]) if said.stamp[-1] is not None else None
        states, needed = self._needs(entry, adapter, seen)
        facts = Facts(
            key=None,
            outcome_key=outcome.key if outcome else None,
            not_applicable=outcome.reason if outcome else None,
            lost=outcome.lost if outcome else None,
            test=adapter.test,
            outcome_test=outcome.test if outcome else None,
            test_failed=outcome.test_failed if outcome else None,
            forced=(entry.eid, name) in self.forced,
            forgotten=why == "forgotten",
            cleaned=why == "cleaned",
            last_failure=why.partition(": ")[2] if why and why.startswith("failed") else None,
            needs=states,
        )
        if any(state.state not in (NeedState.DONE, NeedState.NOT_APPLICABLE) for state in states):
            return Judged(entry, adapter, judge(facts), None, outcome, None, needed), None
        return self._with_manifest(entry, adapter, facts, said, needed)

    def still(self, judged: Judged) -> bool:
        """Whether the pair would be judged the same now, by a look at the database; what is restored is looked at itself.

        Only said of pairs that depend on nothing else: those without needs, whose environment is resolved.
        """
        stamp = pairs.stamp(self.project.con, judged.entry.eid, self.aid(judged.adapter.name))
        return self._still(judged, stamp)

    def still_all(self, several: Sequence[Judged]) -> list[Judged | None]:
        """Return pairs with their reasons, as ``explained`` does; None for each that has to be judged again."""
        by_adapter: dict[str, list[int]] = {}
        for judged in several:
            by_adapter.setdefault(judged.adapter.name, []).append(judged.entry.eid)
        con = self.project.con
        stamps: dict[tuple[int, str], tuple[object, ...]] = {}
        compared: set[tuple[int, str]] = set()
        for name, eids in by_adapter.items():
            aid = self.aid(name)
            stamps |= {(eid, name): stamp for eid, stamp in pairs.stamps(con, eids, aid).items()}
            if aid is not None:
                compared |= {(eid, name) for eid in models.with_previous(con, eids, aid)}
        same: list[Judged | None] = []
        for judged in several:
            pair = (judged.entry.eid, judged.adapter.name)
            if not self._still(judged, stamps.get(pair)):
                same.append(None)
            elif judged.outcome is not None or pair in compared:
                same.append(self.explained(judged))
            else:
                same.append(judged)
        return same

    def _still(self, judged: Judged, stamp: tuple[object, ...] | None) -> bool:
        pair = (judged.entry.eid, judged.adapter.name)
        if judged.stamp is None or judged.adapter.needs or judged.verdict.settled or pair in self.forced:
            return False
        if judged.python is not None and judged.python.lock is None:
            return False
        if stamp != judged.stamp:
            return False
        key = judged.key or ""
        if judged.record is not None:
            return self.restorable(key) is not None
        return not upkeep.carrying(self.project.con, key)  # else the cache may have its record by now

    def _with_manifest(
        self,
        entry: EntryRow,
        adapter: Adapter,
        facts: Facts,
        said: _Said,
        needed: tuple[Needed, ...],
    ) -> tuple[Judged, Facts | None]:
        spec = adapter.spec
        variables = self.parts.variables(entry, adapter, needed)
        params = {**spec.params, **entry.settings.get("params", {}).get(adapter.name, {})}
        examples = entry.settings.get("examples", []) if spec.examples else None
        try:
            python = self.parts.python(entry, adapter)
        except CogbuildError as error:
            if error.fatal:
                raise
            verdict = Verdict(Kind.STALE, (Reason("error", error.title),))
            judged = Judged(
                entry, adapter, verdict, None, said.outcome, None, needed, stamp=said.stamp, error=error
            )
            return judged, None
        parts: dict[str, Part | None] = {
            "adapter": adapter.part,
            "model": self.parts.of_model(entry, spec.inputs),
            "variables": rows_part(variables.items()) if variables else None,
            "params": rows_part(
                (f"param:{k}", json.dumps(v, sort_keys=True)) for k, v in sorted(params.items())
            )
            if params
            else None,
            "examples": rows_part(
                (f"example:{n}", json.dumps(item, sort_keys=True)) for n, item in enumerate(examples)
            )
            if examples is not None
            else None,
            "python": self.parts.of_lock(python),
        }
        rows = manifest(
            {label: part.digest if part else None for label, part in parts.items()},
            {item.adapter: item.identity for item in needed},
        )
        unresolved = python is not None and python.lock is None
        facts = replace(facts, key=rows.key, unresolved=unresolved)
        verdict = judge(facts)
        judged = Judged(
            entry,
            adapter,
            verdict,
            rows,
            said.outcome,
            None,
            needed,
            variables,
            params,
            examples,
            python,
            tuple(part for part in parts.values() if part is not None and (part.blob or part.kind == "rows")),
            said.stamp,
        )
        asks = verdict.kind is Kind.STALE and not (unresolved or facts.forced or facts.forgotten)
        return judged, facts if asks else None

    def _finished(self, judged: Judged, facts: Facts, record: Record | None) -> Judged:
        """Return the pair as it is judged with what the cache has of its key."""
        if record is None:
            return judged
        return replace(judged, record=record, verdict=judge(replace(facts, restorable=True)))

    def restorable(self, key: str) -> Record | None:
        """Return the intact record of *key* if nothing that it names is known to be gone."""
        return self._usable(self.project.cache.get(key))

    def _usable(self, record: Record | None) -> Record | None:
        if record is None or pairs.any_lost(self.project.con, record.artifacts):
            return None
        return None if any(self._gone(item) for item in record.artifacts) else record

    # -- needs ----------------------------------------------------------------------------------------------------

    def _needs(
        self, entry: EntryRow, adapter: Adapter, seen: dict[str, Judged]
    ) -> tuple[tuple[Need, ...], tuple[Needed, ...]]:
        states, needed = [], []
        for name in adapter.needs:
            state, given = self._need(entry, name, seen)
            states.append(state)
            if given is not None:
                needed.append(given)
        return tuple(states), tuple(needed)

    def _need(self, entry: EntryRow, name: str, seen: dict[str, Judged]) -> tuple[Need, Needed | None]:
        if name == IMAGE_ADAPTER and entry.cpu_image:
            artifact = image_artifact(entry.cpu_image)
            return Need(name, NeedState.DONE), Needed(name, artifact.identity, (artifact,))
        if name not in self.adapters:
            return Need(name, NeedState.ABSENT), None
        if (entry.eid, name) in self.failed:
            return Need(name, NeedState.FAILED, self.failed[entry.eid, name]), None
        judged = self.look(entry, name, seen)
        kind, outcome = judged.verdict.kind, judged.outcome
        if kind is Kind.BLOCKED:
            return Need(name, NeedState.NOT_MADE, judged.verdict.reasons[0].text), None
        if not judged.verdict.settled or outcome is None:
            return Need(name, NeedState.PLANNED), None
        state = NeedState.NOT_APPLICABLE if kind is Kind.NOT_APPLICABLE else NeedState.DONE
        return Need(name, state, outcome.reason or ""), Needed(name, outcome.identity, outcome.artifacts)

    def note_if_gone(self, entry: EntryRow, name: str) -> bool:
        """Whether what cogbuild published for the pair is not there any more, or not whole; then that is written down.

        Asked when another pair needs the artifact: only then is it looked for.
        """
        aid = self.aid(name)
        outcome = pairs.outcome(self.project.con, entry.eid, aid) if aid is not None else None
        if outcome is None or outcome.lost is not None:
            return outcome is not None
        return bool(
            [item for item in outcome.artifacts if damage.lost(self.project, item)]
        )  # each is looked at

    def _gone(self, item: Artifact) -> str | None:
        if not item.published:
            return None
        store = self.project.objects
        return store.artifact_state(item.digest or "", artifact_file(item), item.size or 0)

    # -- reasons --------------------------------------------------------------------------------------------------

    def explained(self, judged: Judged) -> Judged:
        """Return the pair with the rows that moved among its reasons, where its verdict is about that."""
        if judged.manifest is None or judged.verdict.kind not in (Kind.STALE, Kind.RESTORABLE):
            return judged
        against, before = self._before(judged)
        if before is None:
            return judged
        moved = self.compare(before, judged.manifest, judged.parts)
        if judged.python is not None and judged.python.lock is None:
            moved = _unlocked(moved, judged.python)
        return replace(judged, verdict=with_changes(judged.verdict, moved, against))

    def _before(self, judged: Judged) -> tuple[str, Manifest | None]:
        if judged.outcome is not None:
            return "its last outcome", Manifest.decode(judged.outcome.manifest)
        aid = self.aid(judged.adapter.name)
        if aid is None:
            return "", None
        eid = models.previous(self.project.con, judged.entry, aid)
        other = pairs.outcome(self.project.con, eid, aid) if eid is not None else None
        if eid is None or other is None:
            return "", None
        entry = models.find(self.project.con, eid)
        return f"version {entry.model[:12] if entry else '?'}", Manifest.decode(other.manifest)

    def compare(self, before: Manifest, after: Manifest, fresh: tuple[Part, ...] = ()) -> list[Change]:
        """Return the rows in which two manifests differ, parts opened."""
        at_hand = {part.digest: part for part in fresh if part.blob}
        same = {row for row in before.rows if row.part} & {row for row in after.rows if row.part}

        def part(digest: str) -> Part | None:
            if any(row.value == digest for row in same):
                return None  # not opened: nothing in it moved
            if digest in at_hand:
                return at_hand[digest]
            stored = models.part(self.project.con, digest)
            return Part(digest, *stored) if stored else None

        return changes(flatten(before, part), flatten(after, part))


def _unlocked(moved: list[Change], wanted: Wanted) -> list[Change]:
    """Return the rows that moved where packages are still to be resolved: these are not absent, nobody knows them yet."""
    rows = [item for item in moved if not item.label.startswith("python:")]
    now = wanted.python.version
    known = [item._replace(after=now) if item.label == "python" else item for item in rows]
    return [item for item in known if item.before != item.after]
