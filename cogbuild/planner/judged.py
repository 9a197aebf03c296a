"""A pair with all that its verdict rests on."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cogbuild.adapters import IMAGE_ADAPTER
from cogbuild.database.pairs import Artifact

if TYPE_CHECKING:
    from cogbuild.adapters import Adapter
    from cogbuild.cache import Record
    from cogbuild.database.models import EntryRow
    from cogbuild.database.pairs import Outcome
    from cogbuild.environment import Lock, Python, Request
    from cogbuild.errors import CogbuildError
    from cogbuild.fingerprint.manifest import Manifest, Part
    from cogbuild.verdict import Verdict

__all__ = ["Judged", "Needed", "Wanted", "artifact_file", "image_artifact", "pair_name"]

_DIGEST_IN_REFERENCE = re.compile(r"@(sha256:[0-9a-f]{64})$")


@dataclass(frozen=True)
class Needed:
    """What a pair gets from an adapter that it needs."""

    adapter: str
    identity: str
    artifacts: tuple[Artifact, ...]


@dataclass(frozen=True)
class Wanted:
    """A declared Python environment, and its lock where it is resolved."""

    request: Request
    python: Python
    lock: Lock | None


@dataclass(frozen=True)
class Judged:
    """One pair with everything that its verdict rests on."""

    entry: EntryRow
    adapter: Adapter
    verdict: Verdict
    manifest: Manifest | None  # None: a need is not settled, so nothing can be known yet
    outcome: Outcome | None
    record: Record | None
    needs: tuple[Needed, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)  # the COG_ variables that are passed
    params: dict[str, Any] = field(default_factory=dict)
    examples: list[dict[str, Any]] | None = None
    python: Wanted | None = None
    parts: tuple[Part, ...] = ()  # that the manifest refers to and that may be new
    stamp: tuple[object, ...] | None = None  # what the database said of the pair itself when it was judged
    error: CogbuildError | None = None  # why the pair can't even be judged

    @property
    def name(self) -> str:
        """``user/name@<id12>:<adapter>``."""
        return pair_name(self.entry, self.adapter.name)

    @property
    def needed(self) -> list[tuple[str, str]]:
        """What the pair needs, as (adapter, identity); a given image is not another pair's."""
        return [(item.adapter, item.identity) for item in self.needs if not self._given(item.adapter)]

    def _given(self, name: str) -> bool:
        return name == IMAGE_ADAPTER and bool(self.entry.cpu_image)

    @property
    def key(self) -> str | None:
        """The action key."""
        return self.manifest.key if self.manifest is not None else None


def pair_name(entry: EntryRow, adapter: str) -> str:
    """Return how a pair is called: ``user/name@<id12>:<adapter>``."""
    return f"{entry.repo}@{entry.model[:12]}:{adapter}"


def image_artifact(reference: str) -> Artifact:
    """Return a given image as an artifact; its digest counts where the reference holds it."""
    found = _DIGEST_IN_REFERENCE.search(reference)
    return Artifact("", reference, digest=found.group(1) if found else None)


def artifact_file(item: Artifact) -> str:
    """Return the file name under which a published artifact is kept."""
    return item.uri.rpartition("/")[2]
