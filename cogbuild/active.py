"""The adapters of a project, together: which are active, in which order, and what each needs of the others."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cogbuild import quiet
from cogbuild.adapters import IMAGE_ADAPTER, Adapter, directory_of, kit_directory, load, memo_name
from cogbuild.database import models
from cogbuild.digest import tagged
from cogbuild.elsewhere import is_known
from cogbuild.errors import CogbuildError
from cogbuild.errors.adapters import NeedsCircle, NeedsNobody, TwoAdaptersOneName
from cogbuild.fingerprint.trees import Memo, read_tree
from cogbuild.interpreter import shebang, version_memo
from cogbuild.spec import ADAPTER_FILE, AdapterSpec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cogbuild.project import Project

__all__ = ["Surveyed", "active", "beside", "order", "survey", "usable"]


def active(project: Project, directories: Iterable[str | Path] = ()) -> dict[str, Adapter]:
    """Return the adapters that settings and *directories* name, in an order in which needed ones come first.

    Raises errors of declarations, ``TwoAdaptersOneName`` and ``NeedsCircle``.
    """
    found: dict[str, Adapter] = {}
    directories = list(directories)
    paths = [directory_of(project, text) for text in project.settings.adapters]
    paths += [
        directory_of(project, text, Path.cwd()) if isinstance(text, str) else text.absolute()
        for text in directories
    ]
    for path in dict.fromkeys(Path(os.path.abspath(path)) for path in paths):
        adapter = load(project, path)
        if adapter.name in found:
            raise TwoAdaptersOneName(name=adapter.name, first=found[adapter.name].directory, second=path)
        found[adapter.name] = adapter
    for adapter in found.values():
        for needed in adapter.spec.needs:
            if needed not in found:
                raise NeedsNobody(
                    adapter=adapter.name, needed=needed, declared_in=adapter.directory / ADAPTER_FILE
                )
    image = IMAGE_ADAPTER in found
    pythons = _pythons(project, found.values())
    ready = _ready(project, found, pythons, image=image)
    if ready and not directories:
        _remember(project, ready, pythons)
    return ready


def usable(
    project: Project, directories: Iterable[str] = ()
) -> tuple[dict[str, Adapter], list[CogbuildError]]:
    """Return those of the ``active`` adapters that can be used, and why the others can't."""
    directories = list(directories)
    try:
        return active(project, directories), []
    except CogbuildError as trouble:
        surveyed = survey(project, directories)
        errors = [item.error for item in surveyed if item.error is not None] or [trouble]
    # Asked of all: an adapter that can't be used just now is not one that no other needs any more.
    image = any(item.name == IMAGE_ADAPTER for item in surveyed)
    found = {item.adapter.name: item.adapter for item in surveyed if item.adapter and item.error is None}
    while lacking := [
        name
        for name, adapter in found.items()
        if any(needed not in found for needed in _needs(adapter.spec, image=image))
    ]:
        for name in lacking:
            del found[name]
    try:
        return _ready(project, found, _pythons(project, found.values()), image=image), errors
    except NeedsCircle as circle:
        return {}, list({error.title: error for error in (*errors, circle)}.values())


def _remember(project: Project, adapters: dict[str, Adapter], pythons: str | None) -> None:
    """Leave a note of all that was read, so that the next run with nothing to do can tell so by stats alone."""
    if not project.exists or not is_known(project):
        return
    programs = _programs(project, adapters.values())
    directories = _directories(project, adapters.values())
    if programs is None or directories is None:
        return
    standing = quiet.compose(
        project.environ,
        root=str(project.root),
        programs=programs,
        variables=[name for adapter in adapters.values() for name in adapter.spec.env_hash],
        directories=directories,
        sources=[(source.path, source.repo, source.requires) for source in project.settings.models],
        adapters={adapter.name: (adapter.context, adapter.needs) for adapter in adapters.values()},
        pythons=pythons,
    )
    if standing is not None and models.memo(project.con, quiet.MEMO) != standing:
        project.remember(quiet.MEMO, standing)


def _programs(project: Project, adapters: Iterable[Adapter]) -> dict[str, str] | None:
    """Return where the interpreter of each script is; None where one is asked for its version on every run."""
    found: dict[str, str] = {}
    for adapter in adapters:
        program = shebang(adapter.spec, adapter.script)
        if program is not None and program not in found:
            at = quiet.found(program, project.environ.get("PATH"))
            name = None if at is None else version_memo(at)
            if at is None or name is None or models.memo(project.con, name) is None:
                return None
            found[program] = os.path.realpath(at)
    return found


def _directories(project: Project, adapters: Iterable[Adapter]) -> dict[str, bytes] | None:
    """Return the stat memo of all that was read of the adapters; None where somebody has just read it otherwise."""
    found: dict[str, bytes] = {}
    for adapter in adapters:
        blob = models.memo(project.con, memo_name(adapter.directory))
        memo = Memo.decode(blob)
        if blob is None or memo is None or memo.tree != adapter.tree:
            return None
        found[str(adapter.directory)] = blob
        if adapter.spec.python and adapter.spec.python.kit:
            found[str(kit_directory())] = read_tree(kit_directory(), rules="adapter").encode()
    return found


@dataclass(frozen=True)
class Surveyed:
    """An adapter that the settings name, or one that can't be used with the reason."""

    source: str  # as the settings name it
    name: str | None  # None: nothing says it
    adapter: Adapter | None
    error: CogbuildError | None


def survey(project: Project, directories: Iterable[str] = ()) -> list[Surveyed]:
    """Return what settings and *directories* name, each with its own error instead of one for all."""
    found: list[Surveyed] = []
    bases = [(text, project.root) for text in project.settings.adapters]
    bases += [(text, Path.cwd()) for text in directories]
    for text, base in bases:
        adapter: Adapter | None = None
        error: CogbuildError | None = None
        try:
            adapter = load(project, Path(os.path.abspath(directory_of(project, text, base))))
        except CogbuildError as trouble:
            error = trouble
        name = adapter.name if adapter else _name_of(base / text)
        twin = next((item for item in found if item.adapter and adapter and item.name == name), None)
        if twin is not None and twin.adapter is not None and adapter is not None:
            error = TwoAdaptersOneName(
                name=adapter.name, first=twin.adapter.directory, second=adapter.directory
            )
        found.append(Surveyed(text, name, adapter, error))
    names = {item.name for item in found}
    return [_with_needs(item, names) for item in found]


def _with_needs(item: Surveyed, names: set[str | None]) -> Surveyed:
    for needed in item.adapter.spec.needs if item.adapter and item.error is None else ():
        if needed not in names and item.adapter is not None:
            declared = item.adapter.directory / ADAPTER_FILE
            return replace(
                item, error=NeedsNobody(adapter=item.adapter.name, needed=needed, declared_in=declared)
            )
    return item


def _name_of(directory: Path) -> str | None:
    """Return the name in a declaration that can't be used as a whole."""
    import re

    with contextlib.suppress(OSError):
        found = re.search(
            rb"""^name:[ ]*["']?([A-Za-z0-9._-]+)""", (directory / ADAPTER_FILE).read_bytes(), re.MULTILINE
        )
        return found[1].decode() if found else None
    return None


def beside(project: Project, directory: Path) -> dict[str, Adapter]:
    """Return the adapter in *directory* and the active ones that it needs, needed ones first.

    It takes the place of an active one of its name. Raises errors of declarations, ``NeedsNobody`` and ``NeedsCircle``.
    """
    mine = load(project, Path(os.path.abspath(directory)))
    others = {item.name: item.adapter for item in survey(project) if item.adapter and item.error is None}
    image = IMAGE_ADAPTER in others and mine.name != IMAGE_ADAPTER
    found = {mine.name: mine}
    queue = [mine]
    while queue:
        asking = queue.pop()
        for needed in _needs(asking.spec, image=image):
            known = others.get(needed)
            if known is None:
                raise NeedsNobody(
                    adapter=asking.name, needed=needed, declared_in=asking.directory / ADAPTER_FILE
                )
            if needed not in found:
                found[needed] = known
                queue.append(known)
    return _ready(project, found, _pythons(project, found.values()), image=image)


def order(adapters: Iterable[Adapter]) -> list[str]:
    """Return names so that each comes after those it needs. Raises ``NeedsCircle``."""
    from graphlib import CycleError, TopologicalSorter

    graph = {adapter.name: _needs(adapter.spec, image=True) for adapter in adapters}
    try:
        return [name for name in TopologicalSorter(graph).static_order() if name in graph]
    except CycleError as circle:
        raise NeedsCircle(circle=" → ".join(reversed(circle.args[1]))) from None


def _needs(spec: AdapterSpec, *, image: bool) -> tuple[str, ...]:
    gets_image = image and spec.name != IMAGE_ADAPTER and spec.passes("COG_CPU_IMAGE")
    return tuple(dict.fromkeys((*spec.needs, *((IMAGE_ADAPTER,) if gets_image else ()))))


def _ready(
    project: Project, found: dict[str, Adapter], pythons: str | None, *, image: bool
) -> dict[str, Adapter]:
    """Return the adapters in their order and contexts. Raises ``NeedsCircle``."""
    names = order(found.values())
    if pythons is not None:
        from cogbuild.environment import look_again

        look_again(pythons)
    return {name: _in_context(project, found[name], image=image, pythons=pythons) for name in names}


def _pythons(project: Project, adapters: Iterable[Adapter]) -> str | None:
    """Return what tells which Pythons there are; None where no model's wish for one counts."""
    if any(adapter.spec.python and adapter.spec.python.with_model for adapter in adapters):
        return quiet.pythons(project.environ)
    return None


def _in_context(project: Project, adapter: Adapter, *, image: bool, pythons: str | None) -> Adapter:
    spec = adapter.spec
    needs = _needs(spec, image=image)
    fields = [
        adapter.part.digest,
        adapter.test or "",
        json.dumps(needs),
        json.dumps(spec.inputs),
        json.dumps(spec.uses),
        json.dumps(spec.examples),
        json.dumps(spec.params, sort_keys=True),
        json.dumps([spec.python.packages, spec.python.with_model] if spec.python else None),
        project.settings.docker_registry if spec.passes("COG_DOCKER_REGISTRY") else "",
        str(bool(project.settings.docker_registry)) if spec.passes("COG_HAS_DOCKER_REGISTRY") else "",
        # Environments are made of it where a model asks for no other, or for one that is not here.
        _running_python() if spec.python else "",
    ]
    if spec.python and spec.python.with_model and pythons is not None:
        fields.append(pythons)
    return replace(adapter, needs=needs, context=tagged("context/1", fields))


def _running_python() -> str:
    from cogbuild.environment import find_python

    return find_python().version
