"""What runs an adapter's script, and in which version: it counts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cogbuild.database import models
from cogbuild.digest import file_digest
from cogbuild.errors.adapters import NoScriptInterpreter, ScriptHasNoInterpreter, ScriptHasWindowsLines
from cogbuild.quiet import which

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cogbuild.project import Project
    from cogbuild.spec import AdapterSpec

__all__ = ["interpreter", "shebang", "version_memo"]


def interpreter(project: Project, spec: AdapterSpec, script: Path) -> str:
    """Return what runs the script: the version that the shebang's program gives, or the program's digest."""
    program = shebang(spec, script)
    if program is None:
        return "python of its environment" if _is_script(script) else "native"
    found = which(program, project.environ.get("PATH"))
    if found is None:
        raise ScriptHasNoInterpreter(adapter=spec.name, script=script, interpreter=program or "none")
    return _version(project, found, os.path.basename(program))


def _is_script(script: Path) -> bool:
    with script.open("rb") as lines:
        return lines.read(2) == b"#!"


def shebang(spec: AdapterSpec, script: Path) -> str | None:
    """Return the program that the script's first line names; None: the script itself, or its environment's Python."""
    with script.open("rb") as lines:
        first = lines.readline(512)
    if first.startswith(b"\x7fELF"):
        return None
    if not first.startswith(b"#!"):
        raise NoScriptInterpreter(adapter=spec.name, script=script)
    if first.endswith(b"\r\n"):
        raise ScriptHasWindowsLines(adapter=spec.name, script=script)
    program = _program(os.fsdecode(first[2:]).split())
    if spec.python is not None and os.path.basename(program).startswith("python") and "/" not in program:
        return None
    return program


def _program(words: Sequence[str]) -> str:
    """Return the program that a shebang line runs; ``env`` looks it up on ``PATH``."""
    if words and os.path.basename(words[0]) == "env":
        rest = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
        return rest[0] if rest else ""
    return words[0] if words else ""


def version_memo(program: str) -> str:
    """Return the name of the memo that keeps the version of a program."""
    info = os.stat(program)
    return f"interpreter:{program}:{info.st_size}:{info.st_mtime_ns}:{info.st_ctime_ns}:{info.st_ino}"


def _version(project: Project, program: str, called: str) -> str:
    name = version_memo(program)
    known = models.memo(project.con, name) if project.exists else None
    if known is not None:
        return known.decode()
    from cogbuild.process import capture

    asked = capture([program, "--version"], timeout=10)
    lines = (asked.stdout or asked.stderr).decode(errors="replace").strip().splitlines()
    version = lines[0] if asked.code == 0 and lines else f"{called} {file_digest(program)[0]}"
    with open(program, "rb") as start:
        shim = start.read(2) == b"#!"
    if not shim:  # a shim may answer otherwise tomorrow without changing itself
        project.remember(name, version.encode())
    return version
