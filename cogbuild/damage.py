"""Kept bytes that are not those of their digest any more: found before they are handed on, set aside, made again.

A sealed tree is made again from the objects, an object from any other file that holds its content: the sealed tree's own
where that is another inode, the same content with another mode, a published artifact. An artifact is lost, so that its pair
is built again. Nothing else can be done about a model's file: then the model is named, and has to be added again.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from cogbuild import library
from cogbuild.database import upkeep
from cogbuild.digest import file_digest
from cogbuild.errors.state import ObjectDamaged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cogbuild.database.models import EntryRow
    from cogbuild.database.pairs import Artifact
    from cogbuild.fingerprint.trees import Entry, Tree
    from cogbuild.objects import Finding, Objects
    from cogbuild.project import Project

__all__ = ["lose", "lost", "sealed", "set_aside", "verify"]

# What one thread makes again, others that want the same model wait for.
_mending = threading.Lock()


# -- models -------------------------------------------------------------------------------------------------------


def sealed(project: Project, tree: Tree, model: str, say: Callable[[str], None]) -> Path:
    """Return the directory that holds *tree*, whose bytes are those of its digests; *say* hears what was not so.

    *model* is how errors call it. Raises ``ObjectMissing`` and ``ObjectDamaged``.
    """
    store = project.objects
    directory = store.sealed(tree)
    if store.check_sealed(tree, known=True):
        with _mending:
            _mend(store, tree, model, say)
    return directory


def _mend(store: Objects, tree: Tree, model: str, say: Callable[[str], None]) -> None:
    directory = store.sealed(tree)
    while found := store.check_sealed(tree, known=True):  # the objects, too, may turn out to be damaged
        for finding in found:
            path = os.path.relpath(finding.path, directory)
            entry = tree.get(path)
            if entry is not None and entry.kind in "fx":
                say(_made_again(store, entry, finding, model))
        store.unseal(tree.model_id)
        store.sealed(tree)


def _made_again(store: Objects, entry: Entry, finding: Finding, model: str) -> str:
    """Set a damaged file aside and see to it that its object is whole; return what was done."""
    at = store.of(entry)
    said = f"{entry.path} of {model} is damaged ({finding.what})"
    if store.check_object(entry):
        aside = store.set_aside(finding.path, at.parent.name + at.name)
        return f"{said}; {_where(aside)}, and it is made again from the objects"
    aside = take_away(store, at)
    for source in _others(store, entry):
        store.put(source, entry)
        return f"{said}; {_where(aside)}, and it is made again from {source}"
    store.unseal(finding.path.parents[len(entry.path.split("/")) - 1].name)
    raise ObjectDamaged(model=model, file=entry.path, reason=finding.what, now_at=aside)


def take_away(store: Objects, at: Path) -> Path | None:
    """Set a damaged object aside, and remove the sealed trees that it is part of; return where it is."""
    store.unseal_all_with(at)
    return store.set_aside(at, at.parent.name + at.name)


def _where(aside: Path | None) -> str:
    return f"it is kept as {aside}" if aside is not None else "nothing is left of it"


def _others(store: Objects, entry: Entry) -> Iterator[Path]:
    """Yield the files that hold the content of *entry* all the same; looks at everything, so nothing for every day."""
    twin = store.path(entry.value, executable=entry.kind != "x")
    published = store.artifacts / entry.value[:2] / entry.value[2:]
    places = [twin, *(published.iterdir() if published.is_dir() else ())]
    for top, _, names in os.walk(store.models):
        places += [store.models.joinpath(top, name) for name in names]
    for place in places:
        try:
            same = os.path.isfile(place) and not place.is_symlink() and place.stat().st_size == entry.size
            if same and file_digest(place)[0] == entry.value:
                yield place
        except OSError:  # beside a running build trees come and go
            continue


def verify(project: Project, entry: EntryRow, *, deep: bool = True) -> list[Finding]:
    """Hash everything that is kept of a sealed model; return what is wrong. A damaged sealed tree is taken away."""
    if not entry.sealed:
        return []
    tree = library.tree_of(project, entry.tree)
    objects = project.objects
    wrong = objects.check_sealed(tree, deep=deep)
    if wrong:
        objects.unseal(tree.model_id)
    stored = objects.check_objects(tree, deep=deep)
    for finding in stored:
        take_away(objects, finding.path)
    return stored or wrong


# -- artifacts ----------------------------------------------------------------------------------------------------


def lost(project: Project, artifact: Artifact) -> bool:
    """Whether an artifact that cogbuild keeps, and is about to hand on, is not what was published.

    Then what is left of it is set aside, and the pairs that name it have lost it: that is their reason to be built again.
    """
    if not artifact.published:
        return False
    name = artifact.uri.rpartition("/")[2]
    wrong = project.objects.artifact_state(artifact.digest or "", name, artifact.size or 0, known=True)
    if wrong is None:
        return False
    aside = set_aside(project, artifact)
    lose(project, artifact, f"{name}: {wrong}" + (f", kept as {aside.name} in aside/" if aside else ""))
    return True


def set_aside(project: Project, artifact: Artifact) -> Path | None:
    """Move what is left of a published artifact out of the store; return where it is now, None where nothing is left."""
    digest = artifact.digest or ""
    place = project.objects.artifact(digest, artifact.uri.rpartition("/")[2]).parent
    try:
        os.rmdir(place)  # nothing is left in it
    except FileNotFoundError:
        return None
    except OSError:
        return project.objects.set_aside(place, f"{digest[:12]}-{os.urandom(3).hex()}")
    return None


def lose(project: Project, artifact: Artifact, why: str) -> None:
    """Say that an artifact is gone."""
    project.database.write(lambda con: upkeep.lose(con, artifact, why))
