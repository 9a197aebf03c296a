"""Where the bytes of an artifact go: into the directory of artifacts, or into an object store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cogbuild.database.pairs import Artifact

if TYPE_CHECKING:
    from cogbuild.project import Project

__all__ = ["Keep", "keeper"]

#: Keeps a file or directory under a name, and returns the nameless artifact that it is from then on.
Keep = Callable[[Path, str], Artifact]


def keeper(
    project: Project, say: Callable[[str], None], *, cancelled: Callable[[], bool], here: dict[str, Path]
) -> Keep:
    """Return what keeps artifacts as the project's settings say; *say* hears how far a large upload is.

    *here* learns where what was sent away can still be read, by URI.
    """

    def publish(source: Path, called: str) -> Artifact:
        store = project.objects
        done = store.publish(source, called)
        uri = str(done.path.relative_to(store.artifacts))
        return Artifact("", uri, digest=done.digest, size=done.size, published=True)

    def upload(source: Path, called: str) -> Artifact:
        from cogbuild.remote import upload as send

        assert project.remote is not None
        sent = send(project.remote, source, called, say=say, cancelled=cancelled)
        here[sent.uri] = source
        return Artifact("", sent.uri, digest=sent.digest, size=sent.size)

    return publish if project.remote is None else upload
