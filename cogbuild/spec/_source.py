"""What a model's Python file defines, by reading it, never by running it."""

from __future__ import annotations

import ast
import difflib
import re
import sys
import warnings
from typing import TYPE_CHECKING

from cogbuild.errors.declarations import ClassMissing, ReferencedFileBroken, ReferencedFileMissing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from cogbuild.spec import ModelSpec

__all__ = ["candidates", "check_reference"]

_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)


def check_reference(spec: ModelSpec, source: bytes | None, path: Path) -> None:
    """Refuse a reference of ``cog.yaml`` to a class or function that its file doesn't have.

    *source* is the content of ``spec.file``, ``None`` where the model has no such file; *path* is that of
    ``cog.yaml``, for messages only.
    """
    if source is None:
        raise ReferencedFileMissing(source=spec.file, file=path)
    where = path.parent / spec.file
    try:
        tree = _parsed(source)
    except _UNREADABLE as error:
        if _newer(spec.python_version) and _mentions(source, spec.cls):
            return
        line = error.lineno if isinstance(error, SyntaxError) else None
        problem = error.msg if isinstance(error, SyntaxError) else "it nests too deeply or holds a NUL"
        raise ReferencedFileBroken(source=spec.file, file=where, line=line, problem=problem) from None
    names = list(_names(tree.body))
    if spec.cls not in names and "*" not in names:
        near = difflib.get_close_matches(spec.cls, names, n=3, cutoff=0.5) or _classes(tree)
        raise ClassMissing(source=spec.file, name=spec.cls, file=where, closest=near or None)


def candidates(source: bytes) -> list[str]:
    """Return the classes that could be meant where a reference names none: those that predict or run."""
    try:
        return _classes(_parsed(source))
    except _UNREADABLE:
        return []


def _parsed(source: bytes) -> ast.Module:
    with warnings.catch_warnings():  # a model's "\d" is the model's business
        warnings.simplefilter("ignore")
        return ast.parse(source)


def _classes(tree: ast.Module) -> list[str]:
    return [
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        and any(isinstance(item, _FUNCTIONS) and item.name in ("predict", "run") for item in node.body)
    ]


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")


def _names(body: Iterable[ast.stmt]) -> Iterator[str]:
    """Yield every name that the module's own code binds, also within ``if``, ``try`` and the like."""
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.ClassDef, *_FUNCTIONS)):
            yield node.name
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.Assign):
            yield from (name for target in node.targets for name in _targets(target))
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            yield from _targets(node.target)
        for block in _BLOCKS:
            waiting += getattr(node, block, ())


def _targets(target: ast.expr) -> Iterator[str]:
    if isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, (ast.Tuple, ast.List)):
        for item in target.elts:
            yield from _targets(item)


def _newer(version: str | None) -> bool:
    """Whether a model asks for a newer Python than the one running, whose grammar we can't judge."""
    return version is not None and tuple(map(int, version.split(".")[:2])) > sys.version_info[:2]


def _mentions(source: bytes, name: str) -> bool:
    pattern = rb"^\s*(?:class|(?:async\s+)?def)\s+" + re.escape(name.encode()) + rb"\b"
    return re.search(pattern, source, re.MULTILINE) is not None
