"""Adapters as they are declared and found on disk, and everything of one that counts for a pair, as one part."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cogbuild.database import models
from cogbuild.errors import is_text
from cogbuild.errors.adapters import (
    AdapterDirectoryMissing,
    LinkLeavesAdapter,
    NoAdapterFile,
    ScriptMissing,
    ScriptNotExecutable,
    SpecialFileOfAdapter,
    UnknownBuiltin,
)
from cogbuild.errors.models import LinkLeavesModel, PathIsNoText, SpecialFile
from cogbuild.fingerprint.manifest import FORMAT, Part, rows_part
from cogbuild.fingerprint.trees import Entry, Memo, Tree, read_tree
from cogbuild.interpreter import interpreter
from cogbuild.quiet import IMAGE_ADAPTER
from cogbuild.spec import ADAPTER_FILE, AdapterSpec

if TYPE_CHECKING:
    from cogbuild.project import Project

__all__ = [
    "IMAGE_ADAPTER",
    "Adapter",
    "builtin_root",
    "builtins",
    "directory_of",
    "kit_directory",
    "load",
    "memo_name",
]


@dataclass(frozen=True)
class Adapter:
    """An active adapter. What counts of it for every pair is in ``part``."""

    spec: AdapterSpec
    directory: Path
    tree: Tree
    part: Part
    test: str | None  # digest of the test that judges artifacts
    needs: tuple[str, ...]  # declared ones, and the image's adapter where the variable is passed
    context: str  # digest of all that may change a verdict of this adapter without a model changing
    always: bool = False  # it has a pair with every model, whatever that wishes for

    @property
    def name(self) -> str:
        """The name, which is also the artifact's target."""
        return self.spec.name

    @property
    def script(self) -> Path:
        """The executable."""
        return self.directory / self.spec.script


def builtin_root() -> Path:
    """Return where the shipped adapters are: in the package, or beside it in a checkout."""
    inside = Path(__file__).parent / "builtin"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "adapters"


def builtins() -> list[str]:
    """Return the names of the shipped adapters."""
    return sorted(path.parent.name for path in builtin_root().glob(f"*/{ADAPTER_FILE}"))


def directory_of(project: Project, text: str, base: Path | None = None) -> Path:
    """Return the directory that a setting or option names. Raises ``UnknownBuiltin``."""
    if text.startswith("builtin:"):
        name = text.removeprefix("builtin:")
        if name not in builtins():
            raise UnknownBuiltin(name=name, shipped=builtins())
        return builtin_root() / name
    return (base or project.root) / text


def memo_name(directory: Path) -> str:
    """Return the memo that holds what an adapter's files looked like."""
    return f"adapter:{directory}"


def load(project: Project, directory: Path) -> Adapter:
    """Return the adapter in *directory*. Files whose stat has not moved are not read, the declaration not parsed."""
    if not is_text(str(directory)):
        raise PathIsNoText(path=directory)
    if not directory.is_dir():
        raise AdapterDirectoryMissing(directory=directory)
    declaration = directory / ADAPTER_FILE
    if not declaration.is_file():
        raise NoAdapterFile(directory=directory)
    name = memo_name(directory)
    old = Memo.decode(models.memo(project.con, name)) if project.exists else None
    try:
        memo = read_tree(directory, old, rules="adapter")
    except LinkLeavesModel as error:
        raise LinkLeavesAdapter(**error.facts) from None
    except SpecialFile as error:
        raise SpecialFileOfAdapter(**error.facts, directory=directory) from None
    if memo is not old:
        project.remember(name, memo.encode())
    entry = memo.tree.get(ADAPTER_FILE)
    assert entry is not None
    spec = project.remembered(
        f"adapter-spec:{FORMAT}:{entry.value}", AdapterSpec, lambda: _parse(declaration)
    )
    _check_files(spec, directory, memo.tree)
    part = rows_part(_rows(project, spec, directory, memo.tree))
    test = memo.tree.get(spec.test) if spec.test else None
    return Adapter(spec, directory, memo.tree, part, test.value if test else None, spec.needs, "")


def _parse(declaration: Path) -> AdapterSpec:
    from cogbuild.spec.adapter import parse_adapter

    return parse_adapter(declaration.read_bytes(), declaration)


def _check_files(spec: AdapterSpec, directory: Path, tree: Tree) -> None:
    for key, path in (("script", spec.script), ("test", spec.test)):
        if path is None:
            continue
        at = directory / path
        if not at.is_file():
            raise ScriptMissing(adapter=spec.name, file=at, named_in=f"{directory / ADAPTER_FILE}, {key}:")
        if not os.access(at, os.X_OK) or (entry := tree.get(path)) is None or entry.kind == "f":
            raise ScriptNotExecutable(adapter=spec.name, script=at)


def _rows(project: Project, spec: AdapterSpec, directory: Path, tree: Tree) -> list[tuple[str, str]]:
    """List what counts of an adapter for every pair, in order."""
    system = os.uname()
    libc = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in os.confstr_names else None
    rows = [
        ("format", str(FORMAT)),
        ("platform", f"{system.sysname} {system.machine} {libc or 'other libc'}"),
    ]
    words = {"f": "file", "x": "executable file", "l": "symlink to", "d": "empty directory"}
    rows += [
        (f"adapter:{entry.path}", f"{words[entry.kind]} {entry.value}".strip())
        for entry in _counted(spec, directory, tree)
    ]
    declared = {
        "script": spec.script,
        "api": spec.api,
        "env.pass": sorted(spec.env_pass),
        "env.secret": sorted(spec.env_secret),
        "state": spec.state,
    }
    # Only what is declared: a key that a later version adds moves no manifest that does not use it.
    rows += [(f"declared:{key}", json.dumps(value)) for key, value in declared.items() if value]
    if spec.python and spec.python.kit:
        rows += _kit_rows()
    rows.append(("interpreter", interpreter(project, spec, directory / spec.script)))
    rows += [
        (f"env:{name}", project.environ[name]) for name in sorted(spec.env_hash) if name in project.environ
    ]
    rows.append(("epoch", str(spec.epoch)))
    return rows


def _counted(spec: AdapterSpec, directory: Path, tree: Tree) -> list[Entry]:
    """Return the entries that count: by their names, and because a symlink that counts leads to them."""
    reached: set[str] = set()
    while True:
        counted = [item for item in tree.entries if _counts(spec, item.path) or _within(item.path, reached)]
        links = [item for item in counted if item.kind == "l"]
        more = {place for link in links for place in _leads_to(directory, link)} - reached
        if not more:
            return counted
        reached |= more


def _within(path: str, places: set[str]) -> bool:
    return any(place in (".", path) or path.startswith(f"{place}/") for place in places)


def _leads_to(directory: Path, link: Entry) -> tuple[str, str]:
    """Return where a symlink leads: at once, which may be another symlink, and in the end."""
    end = os.path.relpath(os.path.realpath(directory / link.path), os.path.realpath(directory))
    return os.path.normpath(os.path.join(os.path.dirname(link.path), link.value)), end


def _counts(spec: AdapterSpec, path: str) -> bool:
    return path not in (ADAPTER_FILE, spec.test) and not path.endswith(".md")


def kit_directory() -> Path:
    """Return the directory that goes on ``PYTHONPATH`` for adapters that declare ``python: {kit: true}``."""
    return builtin_root() / "kit"


def _kit_rows() -> list[tuple[str, str]]:
    tree = read_tree(kit_directory(), rules="adapter").tree
    return [(f"kit:{entry.path}", entry.value) for entry in tree.entries if entry.path.endswith(".py")]
