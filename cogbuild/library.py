"""Models: added from a directory or a zip, linked, named by a prefix of their ID, let go."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogbuild.database import hints, models
from cogbuild.digest import hexdigest
from cogbuild.errors import CogbuildError, is_text
from cogbuild.errors.models import (
    AmbiguousModel,
    LinkedDirectoryGone,
    NoModelFile,
    NotAModelPath,
    PathIsNoText,
    UnknownModel,
)
from cogbuild.fingerprint import glance
from cogbuild.fingerprint.manifest import tree_part
from cogbuild.fingerprint.trees import Memo, Tree, read_tree
from cogbuild.objects import TEMPORARY, disk_errors
from cogbuild.place import live_directories, repo_for
from cogbuild.spec import MODEL_FILE, WISHES_FILE, ModelSpec, Wishes, from_json, to_json
from cogbuild.using import using

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cogbuild.database.models import EntryRow, Link
    from cogbuild.project import Project

__all__ = [
    "Added",
    "Problem",
    "add",
    "declared_by_settings",
    "find",
    "link",
    "refresh_links",
    "remove",
    "repo_for",
    "spec_of",
    "tree_of",
]

#: The fewest digits of an ID that name a model.
SHORTEST_PREFIX = 7


@dataclass(frozen=True)
class Added:
    """What adding a model came to."""

    model: str  # 40 hex digits
    repo: str
    eid: int
    new: bool
    files: int
    size: int  # bytes
    linked: bool
    #: Of its wishes: "adapters", "params", "examples" that it was added with otherwise.
    unheard: tuple[str, ...] = ()


@dataclass(frozen=True)
class Problem:
    """A live directory that can't be used now; the rest goes on."""

    path: str
    error: CogbuildError
    eid: int | None = None  # the version that the directory was at the last look


def add(
    project: Project,
    path: Path,
    *,
    repo: str | None = None,
    cpu_image: str | None = None,
    zip_limit: int | None = None,
    job: str | None = None,
    shown: str | None = None,
) -> Added:
    """Store the model at *path* (a directory or a zip) and return it; durable when this returns.

    *zip_limit* goes before the setting: bytes that a zip may unpack to. What a *job* of the server brings is a candidate.
    Errors name it *shown*.

    Raises errors of models, uploads, declarations and state. Nothing is kept of what is refused.
    """
    path = path.absolute()
    project.make()
    if path.is_dir():
        named = Path(shown) if shown is not None else None
        return _store(project, path, repo or repo_for(path), cpu_image, shown=named, job=job)
    if not path.is_file():
        raise NotAModelPath(path=path)
    import tempfile

    from cogbuild.archive import extract

    with (
        disk_errors(project.data),
        # Not below work/: whatever there has no lock of a workspace is swept by the next run.
        using(project.data, project.tidy),
        tempfile.TemporaryDirectory(dir=_ready(project.objects.root), prefix=TEMPORARY) as temporary,
    ):
        inside = Path(temporary) / "model"
        inside.mkdir()
        limit = zip_limit or project.settings.zip_limit
        if shown is None:
            extract(path, inside, limit=limit)
        else:
            with path.open("rb") as file:
                extract(file, inside, limit=limit)
        if not (inside / MODEL_FILE).is_file():
            raise NoModelFile(path=shown or path, found=_only_directory(inside))
        named = Path(shown) if shown is not None else path
        return _store(project, inside, repo or repo_for(path), cpu_image, shown=named, job=job)


def _ready(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _only_directory(inside: Path) -> str | None:
    names = os.listdir(inside)
    if len(names) == 1 and (inside / names[0] / MODEL_FILE).is_file():
        return f"{names[0]}/{MODEL_FILE}: zip what is in {names[0]}, not {names[0]} itself"
    return None


def _store(
    project: Project,
    directory: Path,
    repo: str,
    cpu_image: str | None,
    *,
    shown: Path | None = None,
    job: str | None = None,
) -> Added:
    tree = read_tree(directory).tree
    spec, wishes = declared(directory, tree, shown=shown)
    # Until the database speaks of them, only this keeps `gc` from taking the objects.
    with using(project.data, project.tidy):
        project.objects.add_tree(directory, tree)
        return _record(project, tree, spec, wishes, repo=repo, cpu_image=cpu_image, link=None, job=job)


def declared(directory: Path, tree: Tree, *, shown: Path | None = None) -> tuple[ModelSpec, Wishes]:
    """Return what the model in *directory* declares, checked against its files; errors name it *shown*."""
    named = shown or directory
    from cogbuild.spec.model import check_reference, parse_model, parse_wishes

    if (entry := tree.get(MODEL_FILE)) is None or entry.kind not in "fx":
        raise NoModelFile(path=named)

    def read(path: str) -> bytes | None:
        inside = tree.get(os.path.normpath(path))
        return (directory / inside.path).read_bytes() if inside is not None and inside.kind in "fx" else None

    spec = parse_model((directory / MODEL_FILE).read_bytes(), named / MODEL_FILE, read)
    check_reference(spec, read(spec.file), named / MODEL_FILE)
    wishes = Wishes()
    if (at := directory / WISHES_FILE).is_file():
        wishes = parse_wishes(at.read_bytes(), named / WISHES_FILE)
    return spec, wishes


def _settings(spec: ModelSpec, wishes: Wishes) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "adapters": list(wishes.adapters) if wishes.adapters is not None else None,
        "params": {name: dict(values) for name, values in wishes.params.items()},
        "examples": [asdict(example) for example in wishes.examples or spec.examples],
    }
    # What the files wanted when these settings were made: `models set` holds until the files want something else.
    return settings | {"seed": hexdigest(json.dumps(settings, sort_keys=True).encode())[:16]}


def _record(
    project: Project,
    tree: Tree,
    spec: ModelSpec,
    wishes: Wishes,
    *,
    repo: str,
    cpu_image: str | None,
    link: Link | None,
    job: str | None = None,
) -> Added:
    part = tree_part(tree)
    looks = project.hashed.take()
    settings = _settings(spec, wishes)

    def work(con: Any) -> Added:
        hints.put_hints(con, looks)
        models.put_parts(con, [part])
        mid = models.add_model(
            con,
            model=tree.model_id,
            tree=tree.digest,
            spec=to_json(spec),
            files=len(tree.entries),
            size=tree.size,
        )
        eid, new = models.add_entry(
            con,
            repo=repo,
            mid=mid,
            sealed=link is None,
            cpu_image=cpu_image,
            settings=settings,
            job=job,
        )
        unheard: tuple[str, ...] = ()
        if link is not None:
            _follow_wishes(con, eid, settings)
            models.add_link(con, replace(link, eid=eid))
        else:
            unheard = _unheard(con, eid, settings)
        return Added(tree.model_id, repo, eid, new, len(tree.entries), tree.size, link is not None, unheard)

    return project.database.write(work)


def _follow_wishes(con: Any, eid: int, settings: dict[str, Any]) -> None:
    """Take over an edited ``cog-adapters.yaml``: a live directory's wishes are live too."""
    entry = models.find(con, eid)
    if entry is not None and entry.settings.get("seed") != settings["seed"]:
        models.change_entry(con, eid, settings=settings, cpu_image=entry.cpu_image)


def _unheard(con: Any, eid: int, settings: dict[str, Any]) -> tuple[str, ...]:
    """Return what a stored model's file wants by now that the model was not added with, and does not have otherwise."""
    entry = models.find(con, eid)
    now = entry.settings if entry is not None else settings
    if now.get("seed", settings["seed"]) == settings["seed"]:
        return ()
    asked = json.loads(json.dumps(settings))
    return tuple(name for name in ("adapters", "params", "examples") if now.get(name) != asked[name])


def link(project: Project, path: Path, *, repo: str | None = None, cpu_image: str | None = None) -> Added:
    """Keep a live directory: it is looked at on every run, and each content that it has had is a version."""
    path = Path(os.path.realpath(path))
    if not path.is_dir():
        raise NotAModelPath(path=path)
    if not is_text(str(path)):
        raise PathIsNoText(path=path)
    project.make()
    return _look(
        project, models.Link(str(path), repo or repo_for(path), None, declared=False, memo=None), cpu_image
    )


def _look(project: Project, known: Link, cpu_image: str | None = None) -> Added:
    directory = Path(known.path)
    memo = read_tree(directory, Memo.decode(known.memo))
    spec, wishes = declared(directory, memo.tree)
    seen = replace(known, memo=memo.encode())
    return _record(project, memo.tree, spec, wishes, repo=known.repo, cpu_image=cpu_image, link=seen)


def _wishes_row(memo: Memo) -> bytes:
    """Return what ``cog-adapters.yaml`` looked like: it is no part of the tree, and yet an edit counts."""
    return dict(memo.places).get(WISHES_FILE, b"")


def refresh_links(project: Project) -> list[Problem]:
    """Look at every live directory, one stat a file; those that moved become new versions. Returns what can't be used."""
    problems = []
    for known in _links(project):
        if not is_text(known.path):
            problems.append(Problem(known.path, PathIsNoText(path=known.path), known.eid))
            continue
        directory = Path(known.path)
        try:
            old = Memo.decode(known.memo)
            memo = read_tree(directory, old)
            heard = (
                old is not None
                and known.eid is not None
                and _wishes_row(memo) == _wishes_row(old) != glance.UNTRUSTED
            )
            if heard and memo is old:
                continue
            if heard and old is not None and memo.tree.digest == old.tree.digest:
                seen = replace(known, memo=memo.encode())
                project.database.write(lambda con, seen=seen: models.add_link(con, seen))  # type: ignore[misc]
                continue
            _look(project, known)
        except OSError as trouble:
            gone = LinkedDirectoryGone(
                path=known.path, model=_name_of(project, known), reason=_unusual(trouble)
            )
            problems.append(Problem(known.path, gone, known.eid))
        except CogbuildError as error:
            problems.append(Problem(known.path, error, known.eid))
    return problems


def _unusual(trouble: OSError) -> str | None:
    return None if isinstance(trouble, FileNotFoundError | NotADirectoryError) else trouble.strerror


def _name_of(project: Project, known: Link) -> str:
    entry = models.find(project.con, known.eid) if known.eid is not None else None
    return entry.model[:12] if entry else "ID"


def _links(project: Project) -> list[Link]:
    """Return the live directories: those that `models add --link` named and those that the settings name now."""
    stored = {item.path: item for item in models.links(project.con)} if project.exists else {}
    wanted = _declared_links(project)
    gone = [path for path, item in stored.items() if item.declared and path not in wanted]
    if gone:
        project.database.write(lambda con: models.drop_links(con, gone))
    if wanted and not project.exists:
        project.make()
    kept = [item for path, item in stored.items() if path not in gone and path not in wanted]
    for path, repo in wanted.items():
        item = stored.get(path)
        kept.append(
            item
            if item is not None and item.repo == repo
            else models.Link(path, repo, None, declared=True, memo=None)
        )
    return kept


def _declared_links(project: Project) -> dict[str, str]:
    """Return repo by path of the live directories that the settings name."""
    sources = ((source.path, source.repo, source.requires) for source in project.settings.models)
    return live_directories(str(project.root), sources)


def find(
    project: Project, prefix: str, repos: Sequence[str] = (), scope: str = "*", *, live: bool = True
) -> list[EntryRow]:
    """Return the entries that *prefix* names: one model, in each of its repos or in *repos*, as far as *scope* goes.

    Raises ``UnknownModel`` and ``AmbiguousModel``.
    """
    name = prefix.lower()
    if not re.fullmatch(r"[0-9a-f]{1,40}", name) or len(name) < SHORTEST_PREFIX or not project.exists:
        raise UnknownModel(
            model=prefix,
            expected=f"{SHORTEST_PREFIX} to 40 hex digits of its ID",
            repo=", ".join(repos) or None,
        )
    found = models.entries(project.con, prefix=name, repos=repos, scope=scope, live=live)
    if not found:
        raise UnknownModel(model=prefix, repo=", ".join(repos) or None)
    ids = sorted({entry.model for entry in found})
    if len(ids) > 1:
        raise AmbiguousModel(model=prefix, could_be=ids[:8], and_more=len(ids) - 8 if len(ids) > 8 else None)
    return found


def spec_of(entry: EntryRow) -> ModelSpec:
    """Return what the model's ``cog.yaml`` says."""
    return _parsed(entry.spec)


@lru_cache(maxsize=64)  # versions of a model say the same
def _parsed(spec: str) -> ModelSpec:
    return from_json(ModelSpec, spec)


def tree_of(project: Project, digest: str) -> Tree:
    """Return a tree that the database keeps."""
    part = models.part(project.con, digest)
    assert part is not None, f"tree {digest} is not in the database"
    return Tree.decode(part[1])


def live_directory(project: Project, entry: EntryRow) -> Path:
    """Return the live directory that holds the files of a linked entry.

    Raises ``LinkedDirectoryGone``.
    """
    live = models.link_of(project.con, entry.eid)
    if live is None or not os.path.isdir(live):
        raise LinkedDirectoryGone(path=live or "?", model=entry.model[:12])
    return Path(live)


def declared_by_settings(project: Project) -> dict[int, str]:
    """Return the live directories that the settings name, by the version that each is at."""
    return {
        item.eid: item.path for item in models.links(project.con) if item.declared and item.eid is not None
    }


def remove(project: Project, entry: EntryRow) -> None:
    """Let go of (repo, model): its outcomes are released, its attempts stay; files go with the next ``gc``."""
    project.database.write(lambda con: models.retire(con, entry.eid))
