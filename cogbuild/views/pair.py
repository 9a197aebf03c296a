"""One pair: its verdict, the rows that moved, what was made and tried, also when files and adapter are long gone."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cogbuild import library
from cogbuild.database import feed, history, models, pairs
from cogbuild.errors.commands import NoSuchPair
from cogbuild.fingerprint.manifest import Manifest, Part, flatten
from cogbuild.planner.judged import pair_name
from cogbuild.planner.judging import Judge
from cogbuild.views.attempts import Tried, adapter_number, attempts_of
from cogbuild.views.models import unlisted

if TYPE_CHECKING:
    from pathlib import Path

    from cogbuild.adapters import Adapter
    from cogbuild.database.history import Attempt
    from cogbuild.database.models import EntryRow
    from cogbuild.database.pairs import Artifact, Outcome
    from cogbuild.project import Project
    from cogbuild.verdict import Reason, Verdict

__all__ = ["Moved", "Origin", "PairView", "pair_view"]

_FILE = re.compile(r"(executable )?file ([0-9a-f]{64})")


@dataclass(frozen=True)
class Moved:
    """A manifest row that differs, with the files that hold the two contents where they can be opened."""

    label: str
    before: str | None
    after: str | None
    path: str | None = None
    path_before: str | None = None


@dataclass(frozen=True)
class Origin:
    """The attempt that made an outcome, and whose it was."""

    attempt: str
    ran: Attempt | None  # None: it ran elsewhere, or was forgotten
    pair: str | None  # that it ran for, where it was another one


@dataclass(frozen=True)
class PairView:
    """Everything that `explain` can say of a pair."""

    name: str
    entry: EntryRow
    adapter: str
    verdict: Verdict | None  # None: not judged, for the reason in ``unjudged``
    unjudged: str | None
    key: str | None
    against: str | None  # what the rows are compared with
    moved: tuple[Moved, ...]
    rows: int  # of the manifest, now or as it is kept
    outcome: Outcome | None
    artifacts: tuple[tuple[Artifact, str], ...]
    origin: Origin | None
    last: Tried | None  # the last attempt
    manifest: dict[str, str]  # the outcome's rows


def pair_view(project: Project, adapters: dict[str, Adapter], entry: EntryRow, adapter: str) -> PairView:
    """Return the view of one pair. Raises ``UnknownAdapter`` and ``NoSuchPair``."""
    aid = adapter_number(project, adapter, list(adapters))
    judge = Judge(project, adapters)
    outcome = pairs.outcome(project.con, entry.eid, aid) if aid is not None else None
    tried = attempts_of(project, entry, adapter)
    unjudged = _unjudged(judge, entry, adapter)
    if unjudged is not None and outcome is None and not tried:
        raise NoSuchPair(model=f"{entry.repo}@{entry.model[:12]}", adapter=adapter, reason=unjudged)
    judged = judge.explained(judge.look(entry, adapter)) if unjudged is None else None
    reasons = [reason for reason in judged.verdict.reasons if reason.label is not None] if judged else []
    stored = _flat(project, Manifest.decode(outcome.manifest)) if outcome else {}
    now = _flat(project, judged.manifest, judged.parts) if judged and judged.manifest else stored
    return PairView(
        pair_name(entry, adapter),
        entry,
        adapter,
        judged.verdict if judged else None,
        unjudged,
        judged.key if judged else None,
        reasons[0].text if reasons else None,
        tuple(_moved(judge, entry, adapter, reason) for reason in reasons),
        len(now),
        outcome,
        tuple((item, project.uri(item)) for item in outcome.artifacts) if outcome else (),
        _origin(project, outcome) if outcome else None,
        tried[-1] if tried else None,
        stored,
    )


def _unjudged(judge: Judge, entry: EntryRow, adapter: str) -> str | None:
    """Return why the pair can't be judged."""
    if adapter not in judge.adapters:
        return "its adapter is no longer active"
    if (absent := unlisted(judge.project, entry)) is not None:
        return absent
    if adapter not in judge.wanted(entry):
        given = "its image was given with the model" if entry.cpu_image else None
        return given if given and adapter == "docker-cpu" else "its model does not want this adapter"
    return None


def _flat(project: Project, of: Manifest, fresh: tuple[Part, ...] = ()) -> dict[str, str]:
    at_hand = {part.digest: part for part in fresh if part.blob}

    def part(digest: str) -> Part | None:
        if digest in at_hand:
            return at_hand[digest]
        stored = models.part(project.con, digest)
        return Part(digest, *stored) if stored else None

    return flatten(of, part)


def _origin(project: Project, outcome: Outcome) -> Origin | None:
    if not outcome.attempt:
        return None
    ran = history.attempt(project.con, outcome.attempt)
    if ran is None or (ran.eid, ran.aid) == (outcome.eid, outcome.aid):
        return Origin(outcome.attempt, ran, None)
    entry = models.find(project.con, ran.eid)
    name = feed.adapter_names(project.con).get(ran.aid)
    return Origin(outcome.attempt, ran, pair_name(entry, name) if entry and name else None)


# -- where the files are ----------------------------------------------------------------------------------------------


def _moved(judge: Judge, entry: EntryRow, adapter: str, row: Reason) -> Moved:
    project = judge.project
    kind, _, path = (row.label or "").partition(":")
    now = None
    if kind == "model" and row.after is not None:
        now = _model_file(project, entry, path) or _stored(project, row.after)
    elif kind == "adapter" and row.after is not None:
        now = _there(judge.adapters[adapter].directory / path)
    then = _stored(project, row.before) if kind == "model" and row.before is not None else None
    return Moved(row.label or "", row.before, row.after, now, then)


def _model_file(project: Project, entry: EntryRow, path: str) -> str | None:
    if not entry.sealed:
        live = models.link_of(project.con, entry.eid)
        return _there(os.path.join(live, path)) if live else None
    tree = library.tree_of(project, entry.tree)
    return _there(project.objects.models / tree.model_id / path)


def _stored(project: Project, value: str) -> str | None:
    """Return where the store keeps the content that a row names."""
    found = _FILE.fullmatch(value)
    return _there(project.objects.path(found[2], executable=bool(found[1]))) if found else None


def _there(path: str | Path) -> str | None:
    return str(path) if os.path.lexists(path) else None
