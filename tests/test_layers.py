"""A module imports from lower floors only, and only one package starts processes or knows doit."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cogbuild"

FLOORS = {
    "errors": 0,
    "digest": 0,
    "place": 0,
    "copying": 1,
    "spec": 1,
    "archive": 2,
    "fingerprint": 2,
    "hashed": 2,
    "objects": 2,
    "database": 2,
    "cache": 2,
    "process": 2,
    "remote": 2,
    "using": 2,
    "project": 3,
    "quiet": 3,
    "verdict": 3,
    "environment": 3,
    "workspace": 3,
    "active": 4,
    "adapters": 4,
    "damage": 4,
    "elsewhere": 4,
    "lacking": 4,
    "interpreter": 4,
    "library": 4,
    "wanted": 4,
    "planner": 5,
    "engine": 6,
    "audit": 6,
    "housekeeping": 7,
    "scaffold": 7,
    "report": 7,
    "views": 7,
    "asked": 8,
    "tasks": 8,
    "client": 9,
    "server": 9,
    "cli": 10,
}
#: Modules of one floor that may know each other, and why.
SAME_FLOOR = {
    ("objects", "fingerprint"),  # objects hold the contents of trees
    ("objects", "hashed"),  # and are known to be whole by what is known of their files
    ("hashed", "fingerprint"),
    ("database", "hashed"),  # keeps what is known of files
    ("damage", "library"),  # a damaged model is a model
    ("cache", "database"),  # a record holds artifacts
    ("active", "adapters"),  # those of a project, together
    ("active", "elsewhere"),  # a note that nothing is to be done rests on where artifacts are
    ("active", "interpreter"),
    ("adapters", "interpreter"),  # what runs the script counts
    ("archive", "fingerprint"),
    ("remote", "fingerprint"),  # a directory is sent as the entries of its tree
    ("report", "views"),  # reports word what views gather
    ("report", "housekeeping"),  # … and what housekeeping finds
}
TOP = {"__init__", "__main__"}


@cache
def modules() -> list[Path]:
    """Return every module of the package but the shipped adapters."""
    return sorted(path for path in PACKAGE.rglob("*.py") if "builtin" not in path.relative_to(PACKAGE).parts)


def part(path: Path) -> str:
    """Return the top-level name that a module belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def imported(path: Path) -> tuple[tuple[str, int], ...]:
    """Return every name that a module imports, wherever in it, with the line."""
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


@pytest.mark.parametrize("mine", sorted({part(path) for path in modules()} - TOP))
def test_imports_go_down(mine: str) -> None:
    """No module knows of a higher floor, or of its own but for the pairs named here."""
    assert mine in FLOORS, f"give {mine} a floor here and in docs/design.md"
    wrong = []
    for path in modules():
        if part(path) != mine:
            continue
        for name, line in imported(path):
            words = name.split(".")
            if words[0] != "cogbuild" or len(words) < 2 or words[1] not in FLOORS:
                continue
            theirs = words[1]
            if theirs != mine and FLOORS[theirs] >= FLOORS[mine] and (mine, theirs) not in SAME_FLOOR:
                wrong.append(f"{path.relative_to(PACKAGE)}, line {line}: {name}")
    assert wrong == []


@pytest.mark.parametrize(
    ("module", "owner"),
    [
        ("subprocess", "process"),
        ("multiprocessing", "process"),
        ("doit", "tasks"),
        ("diskcache", "cache"),
        ("uv", "environment"),
        ("obstore", "remote"),
        ("fastapi", "server"),
        ("starlette", "server"),
        ("uvicorn", "server"),
    ],
)
def test_one_owner(module: str, owner: str) -> None:
    """Starting processes, doit, diskcache, uv and obstore each have one place that knows of them."""
    known = [path for path in modules() if module in path.read_text()]
    users = {part(path) for path in known for name, _ in imported(path) if name.split(".")[0] == module}
    assert users <= {owner}


def test_shipped_adapters_do_not_import_cogbuild() -> None:
    """An adapter stands alone: it imports the small kit or nothing of ours."""
    top = PACKAGE.parent / "adapters"
    for path in top.rglob("*.py"):
        if re.search(r"\bcogbuild\b", path.read_text()):
            assert not [name for name, _ in imported(path) if name.split(".")[0] == "cogbuild"], path
