"""Where adapters read artifacts: as a path on this machine, also where the artifact lies in an object store.

What cogbuild sent to an object store is fetched when an adapter is to read it, once, into ``copies/`` of the data
directory, by digest as in a directory of artifacts. A copy is used while it is there; ``gc`` takes it in the end.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from cogbuild.database import upkeep
from cogbuild.errors.remote import ArtifactNotInStore, StoreError
from cogbuild.objects import disk_errors, half

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cogbuild.database.pairs import Artifact
    from cogbuild.engine.flight import Flights
    from cogbuild.project import Project

__all__ = ["Copies"]


class Copies:
    """The copies that one process makes and uses; *turns* keep two from fetching the same at once."""

    def __init__(self, project: Project, turns: Flights, *, cancelled: Callable[[], bool]) -> None:
        self._project = project
        self._turns = turns
        self._cancelled = cancelled

    def path(
        self, artifact: Artifact, facts: Mapping[str, object], say: Callable[[str], None]
    ) -> Path | None:
        """Return where *artifact* can be read; None where that is nowhere on this machine.

        *facts* name the run in errors, *say* hears of a fetch. Raises the errors of ``errors.remote``.
        """
        uri = self._project.uri(artifact)
        parts = urlsplit(uri)
        if parts.scheme == "file":
            return Path(unquote(parts.path))
        if artifact.size is None or artifact.digest is None:
            return None  # whoever sent it there knows what it is, and we do not
        try:
            return self._copy(artifact, say)
        except StoreError as trouble:
            trouble.facts = {**facts, **trouble.facts}
            raise

    def rows(
        self,
        artifacts: Iterable[Artifact],
        here: Mapping[str, Path],
        facts: Mapping[str, object],
        say: Callable[[str], None],
    ) -> list[dict[str, str]]:
        """Return what a test is told of each artifact; those *here*, by URI, are read where they were made."""
        rows = []
        for item in artifacts:
            path = here.get(item.uri) or self.path(item, facts, say)
            row = {"name": item.name, "uri": self._project.uri(item), "media_type": item.media_type}
            row["path"] = str(path) if path is not None else None
            rows.append({key: value for key, value in row.items() if value})
        return rows

    def _copy(self, artifact: Artifact, say: Callable[[str], None]) -> Path:
        store = self._project.copies
        digest, name, size = artifact.digest or "", artifact.uri.rpartition("/")[2], artifact.size or 0
        final = store.artifact(digest, name)

        def there() -> bool:
            return store.artifact_state(digest, name, size, known=True) is None

        def waiting() -> None:
            say(f"waiting for {name}: somebody else fetches it")

        if not there():
            with self._turns.held(digest, waiting=waiting, cancelled=self._cancelled):
                if not there():
                    self._fetched(artifact, digest, name, say)
        with contextlib.suppress(OSError):  # `gc` counts its age from here
            os.utime(final.parent)
        return final

    def _fetched(self, artifact: Artifact, digest: str, name: str, say: Callable[[str], None]) -> None:
        from cogbuild.fingerprint.trees import content_digest
        from cogbuild.process.tree import remove_tree
        from cogbuild.remote import fetch, located

        store = self._project.copies
        place = located(artifact.uri)
        with disk_errors(store.artifacts):
            store.artifacts.mkdir(parents=True, exist_ok=True)
            new = half(store.artifacts)
            try:
                say(f"fetching {name} from {artifact.uri.removesuffix(f'/{name}')}")
                if place is None or not fetch(*place, new, say=say, cancelled=self._cancelled):
                    raise self._gone(artifact, "it is not there")
                if content_digest(new) != digest:
                    raise self._gone(artifact, "its content changed")
                store.adopt(new, digest, name)
            finally:
                remove_tree(new)

    def _gone(self, artifact: Artifact, why: str) -> StoreError:
        """Write down that the artifact is gone, so that the next run makes it anew."""
        self._project.database.write(lambda con: upkeep.lose(con, artifact, why))
        return ArtifactNotInStore(uri=artifact.uri, reason=why)
