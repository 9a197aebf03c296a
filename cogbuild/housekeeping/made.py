"""What adapters made: outcomes with artifacts, by model and adapter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cogbuild import library
from cogbuild.database import browsing, feed, models, pairs
from cogbuild.database.browsing import ALL, Repos
from cogbuild.errors.adapters import UnknownAdapter
from cogbuild.errors.housekeeping import (
    ArtifactGone,
    NoArtifactNamed,
    NotApplicableHere,
    NotMade,
    SeveralArtifacts,
    SeveralRepos,
)
from cogbuild.planner.judged import pair_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cogbuild.database.browsing import Place
    from cogbuild.database.models import EntryRow
    from cogbuild.database.pairs import Artifact, Outcome
    from cogbuild.project import Project

__all__ = ["Made", "chosen", "every", "one", "pinned_pairs", "the_artifact"]

_CHUNK = 500  # models whose outcomes are held at once


@dataclass(frozen=True)
class Made:
    """A pair with an outcome."""

    entry: EntryRow
    adapter: str
    outcome: Outcome
    pinned: bool

    @property
    def name(self) -> str:
        """``user/name@<id12>:<adapter>``."""
        return pair_name(self.entry, self.adapter)

    @property
    def model(self) -> str:
        """``user/name@<id12>``, as errors name it."""
        return f"{self.entry.repo}@{self.entry.model[:12]}"


def every(
    project: Project,
    *,
    prefixes: Sequence[str] = (),
    repos: Repos = ALL,
    adapters: Sequence[str] = (),
    after: Place | None = None,
    upto: Place | None = None,
) -> Iterator[Made]:
    """Yield the pairs that made something, the newest models first; empty selections mean all.

    Without *prefixes*, only of the models right *after* a place and *upto* another.

    Raises ``UnknownModel``, ``AmbiguousModel`` and ``UnknownAdapter``.
    """
    if not project.exists:
        return
    names = _adapters(project, adapters)
    if not prefixes:
        while places := browsing.newest(project.con, repos, limit=_CHUNK, after=after):
            eids = [place.eid for place in places if upto is None or place >= upto]
            yield from _of(project, models.entries(project.con, eids=eids), names)
            if len(eids) < len(places):
                return
            after = places[-1]
        return
    entries = {
        entry.eid: entry
        for prefix in prefixes
        for entry in library.find(project, prefix, repos.names, repos.scope)
    }
    yield from _of(project, list(entries.values()), names)


def _adapters(project: Project, chosen: Sequence[str]) -> dict[int, str]:
    known = feed.adapter_names(project.con)
    for name in chosen:
        if name not in known.values():
            import difflib

            closest = difflib.get_close_matches(name, known.values(), n=3) or None
            raise UnknownAdapter(name=name, closest=closest, made_something=sorted(known.values()))
    return {aid: name for aid, name in known.items() if not chosen or name in chosen}


def _of(project: Project, entries: list[EntryRow], names: dict[int, str]) -> Iterator[Made]:
    outcomes = pairs.outcomes(project.con, eids=[entry.eid for entry in entries])
    pinned = pairs.pins(project.con)
    for entry in entries:
        for aid, name in sorted(names.items(), key=lambda item: item[1]):
            outcome = outcomes.get((entry.eid, aid))
            if outcome is not None and outcome.artifacts:
                named = pairs.lost_names(outcome.artifacts)
                yield Made(entry, name, outcome, pinned=any(item in pinned for item in named))


def chosen(
    project: Project, prefix: str | None, adapter: str | None, repos: Sequence[str] = (), scope: str = "*"
) -> list[Made]:
    """Return what was made of one model, by one adapter, or all of it, as far as *scope* goes.

    Raises ``NotMade`` and ``NotApplicableHere`` where one pair was named and has made nothing.
    """
    if prefix is None or adapter is None:
        return list(every(project, prefixes=[prefix] if prefix else (), repos=Repos(tuple(repos), scope)))
    entries = library.find(project, prefix, repos, scope)
    aid = feed.adapter_id(project.con, adapter)
    if aid is None:
        _adapters(project, [adapter])
    found = list(_of(project, entries, {aid or 0: adapter}))
    if not found:
        raise _nothing(project, entries[0], adapter, aid or 0)
    return found


def _nothing(project: Project, entry: EntryRow, adapter: str, aid: int) -> NotMade | NotApplicableHere:
    model = f"{entry.repo}@{entry.model[:12]}"
    outcome = pairs.outcome(project.con, entry.eid, aid)
    if outcome is not None and outcome.reason is not None:
        return NotApplicableHere(adapter=adapter, model=model, reason=outcome.reason)
    return NotMade(adapter=adapter, model=model, id=entry.model[:12])


def one(project: Project, prefix: str, adapter: str, repos: Sequence[str] = (), scope: str = "*") -> Made:
    """Return the one pair that is meant, as far as *scope* goes; several repos will do where they hold the same.

    Raises ``SeveralRepos`` and what ``chosen`` raises.
    """
    found = chosen(project, prefix, adapter, repos, scope)
    if len({item.outcome.identity for item in found}) > 1:
        raise SeveralRepos(
            model=found[0].entry.model[:12], adapter=adapter, repos=[item.entry.repo for item in found]
        )
    return found[0]


def pinned_pairs(
    project: Project, prefix: str, adapter: str, repos: Sequence[str] = ()
) -> list[tuple[str, int, int]]:
    """Return (name, eid, aid) of the pairs for which something may be pinned, whatever they have made since."""
    entries = library.find(project, prefix, repos)
    (aid,) = _adapters(project, [adapter])
    return [(pair_name(entry, adapter), entry.eid, aid) for entry in entries]


def the_artifact(made: Made, name: str | None) -> Artifact:
    """Return the artifact of that name, or the only one.

    Raises ``SeveralArtifacts``, ``NoArtifactNamed`` and ``ArtifactGone``.
    """
    facts = {"adapter": made.adapter, "model": made.model}
    artifacts = made.outcome.artifacts
    names = [item.name for item in artifacts]
    if name is None and len(artifacts) > 1:
        raise SeveralArtifacts(**facts, names=names)
    if name is not None and name not in names:
        raise NoArtifactNamed(name=name, **facts, names=[item for item in names if item] or None)
    if made.outcome.lost is not None:
        raise ArtifactGone(**facts, reason=made.outcome.lost)
    return artifacts[names.index(name) if name is not None else 0]
