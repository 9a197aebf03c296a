"""A model as Cog's server of 2021 showed it, and its files as a zip."""

from __future__ import annotations

import os
import stat
import zipfile
from typing import TYPE_CHECKING, Any

from cogbuild import damage
from cogbuild.database import feed, models, pairs
from cogbuild.errors import is_text
from cogbuild.library import spec_of, tree_of
from cogbuild.report.words import iso
from cogbuild.server.testing import TEST_ADAPTER, run_arguments
from cogbuild.spec import MODEL_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from cogbuild.database.models import EntryRow
    from cogbuild.fingerprint.trees import Entry
    from cogbuild.project import Project

__all__ = ["model_2021", "zip_of", "zipped"]

_PIECE = 1 << 20
_UTF8 = 0x800  # the mark of a name in UTF-8


def model_2021(project: Project, entry: EntryRow) -> dict[str, Any]:
    """Return the model with its artifacts, as clients of 2021 read it."""
    names = feed.adapter_names(project.con)
    artifacts: list[dict[str, str]] = []
    for (_, aid), outcome in pairs.outcomes(project.con, eids=[entry.eid]).items():
        if names[aid] == TEST_ADAPTER or outcome.lost is not None:
            continue
        for item in outcome.artifacts:
            target = f"{names[aid]}/{item.name}" if item.name else names[aid]
            artifacts.append({"target": target, "uri": project.uri(item)})
    return {
        "id": entry.model,
        "artifacts": sorted(artifacts, key=lambda item: item["target"]),
        "config": _config(project, entry),
        "run_arguments": run_arguments(project, entry),
        "created": iso(entry.added),
    }


def _config(project: Project, entry: EntryRow) -> dict[str, Any]:
    """Return ``cog.yaml`` as JSON; ``model`` names the class, as it did in 2021."""
    from cogbuild.spec._yaml import read_yaml

    spec = spec_of(entry)
    said = {"model": f"{spec.file}:{spec.cls}"}
    source = _file(project, entry, MODEL_FILE)
    if source is None:
        return said
    try:
        data = source.read_bytes()
    except OSError:  # a linked directory that is gone
        return said
    return {**said, **read_yaml(data, source).value}


def _file(project: Project, entry: EntryRow, name: str) -> Path | None:
    found = tree_of(project, entry.tree).get(name)
    return _content(project, entry, found) if found is not None else None


def _content(project: Project, entry: EntryRow, item: Entry) -> Path:
    if not entry.sealed and (live := models.link_of(project.con, entry.eid)) is not None:
        return project.root / live / item.path
    return project.objects.path(item.value, executable=item.kind == "x")


class _Pipe:
    """What ``zipfile`` writes to; what it wrote is fetched piece by piece."""

    def __init__(self) -> None:
        self._held = bytearray()

    def write(self, data: bytes) -> int:
        self._held += data
        return len(data)

    def flush(self) -> None: ...

    def taken(self) -> bytes:
        data, self._held = bytes(self._held), bytearray()
        return data


def zipped(project: Project, entry: EntryRow) -> Iterator[bytes]:
    """Return the model's files as a zip, piece by piece: the same bytes every time, in constant memory.

    A sealed model's files are known to be whole before the first piece. Raises ``ObjectMissing`` and ``ObjectDamaged``.
    """
    tree = tree_of(project, entry.tree)
    if entry.sealed:
        damage.sealed(project, tree, f"{entry.repo}@{entry.model[:12]}", lambda _said: None)
        project.keep_hashed()
    return zip_of((_content(project, entry, item), item) for item in tree.entries)


def zip_of(members: Iterable[tuple[Path, Entry]]) -> Iterator[bytes]:
    """Yield entries of a tree, each with where its content is, as a zip."""
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload] # writes and flushes
        for source, item in members:
            yield from _member(archive, pipe, source, item)
    yield pipe.taken()


class _Info(zipfile.ZipInfo):
    """A member whose name may be no UTF-8: its bytes are written as they are, without the mark of UTF-8, as `zip` does."""

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802 - zipfile's
        name = os.fsencode(self.filename)
        utf8 = is_text(self.filename) and not name.isascii()
        return name, self.flag_bits | (_UTF8 if utf8 else 0)


def _member(archive: zipfile.ZipFile, pipe: _Pipe, source: Path, item: Entry) -> Iterator[bytes]:
    info = _Info(item.path + "/" if item.kind == "d" else item.path, (1980, 1, 1, 0, 0, 0))
    info.create_system = 3
    modes = {"d": stat.S_IFDIR | 0o755, "l": stat.S_IFLNK | 0o777, "x": stat.S_IFREG | 0o755}
    info.external_attr = modes.get(item.kind, stat.S_IFREG | 0o644) << 16
    if item.kind in "dl":
        archive.writestr(info, os.fsencode(item.value) if item.kind == "l" else b"")
        yield pipe.taken()
        return
    info.file_size = item.size
    with archive.open(info, "w") as target, source.open("rb") as file:
        while piece := file.read(_PIECE):
            target.write(piece)
            yield pipe.taken()
