"""A pair's cell: its state in a word and a sign, how long ago, how long it took, how far off it is; and where it leads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from cogbuild.report.words import age, span
from cogbuild.views.browsing import RUNNING

if TYPE_CHECKING:
    from cogbuild.database.models import EntryRow
    from cogbuild.database.pairs import Artifact
    from cogbuild.views.matrix import Pair

__all__ = ["MEANINGS", "Cell", "cell_of", "content_link", "model_link", "pair_link"]

#: What each state means to a person.
MEANINGS = (
    (RUNNING, "its adapter runs now"),
    ("fresh", "made, and nothing that counts has changed since"),
    ("not applicable", "the adapter said that it is not for this model"),
    ("failed", "the last attempt did; the next run tries again"),
    ("stale", "something that counts has changed"),
    ("never built", "nothing was made yet"),
    ("restorable", "the same work was done before and can be taken up"),
    ("untested", "made, but its test has changed"),
    ("pending", "waits for what it needs"),
    ("blocked", "what it needs failed, or nothing makes it"),
)
#: What is in a cell where there is no age.
_SHORT = {"never built": "new", "pending": "waits", "not applicable": "n/a"}


@dataclass(frozen=True)
class Cell:
    """One cell."""

    name: str  # of the adapter
    state: str
    age: str
    short: str
    more: str
    detail: str
    link: str

    @property
    def label(self) -> str:
        """What a screen reader says."""
        said = [f"{self.name}: {self.state}", f"{self.age} ago" if self.age else "", self.more]
        return ", ".join(part for part in said if part)


def model_link(entry: EntryRow) -> str:
    """Return the address of a model's page."""
    return f"/models/{entry.repo}/{entry.model[:12]}"


def pair_link(entry: EntryRow, adapter: str) -> str:
    """Return the address of a pair's page."""
    return f"/pairs/{entry.repo}/{entry.model[:12]}/{quote(adapter, safe='')}"


def content_link(entry: EntryRow, adapter: str, artifact: Artifact) -> str:
    """Return the address of an artifact's bytes."""
    asked = {"repo": entry.repo} | ({"name": artifact.name} if artifact.name else {})
    return f"/v2/artifacts/{entry.model}/{quote(adapter, safe='')}/content?{urlencode(asked)}"


def cell_of(entry: EntryRow, pair: Pair, *, running: bool) -> Cell:
    """Return the cell of a pair."""
    if running:  # what is known of the pair is of what it was before
        return Cell(pair.adapter, RUNNING, "", "runs", "", "", pair_link(entry, pair.adapter))
    state = str(pair.state)
    more = [span(pair.seconds)] if pair.seconds is not None else []
    if pair.fidelity is not None:
        more.append(f"Δ {pair.fidelity.absolute:.1g}")
    ago = age(pair.since) if pair.since is not None else ""
    return Cell(
        pair.adapter,
        state,
        ago,
        _SHORT.get(state, state),
        " · ".join(more),
        pair.detail,
        pair_link(entry, pair.adapter),
    )
