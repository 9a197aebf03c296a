"""What runs an adapter's script, and in which version: it counts."""

from __future__ import annotations

import fnmatch
import os
import re
from typing import TYPE_CHECKING

from cogbuild.database import models
from cogbuild.digest import file_digest
from cogbuild.errors.adapters import (
    InterpreterSilent,
    NoScriptInterpreter,
    ScriptHasNoInterpreter,
    ScriptHasWindowsLines,
)
from cogbuild.quiet import found

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cogbuild.project import Project
    from cogbuild.spec import AdapterSpec

__all__ = ["interpreter", "let_through", "of_memo", "shebang", "version_memo"]


#: Of cogbuild's own environment, every adapter gets these.
_ALWAYS_PASSED = ("PATH", "HOME", "USER", "LANG", "LC_*", "TMPDIR")
#: An interpreter may have to fetch its own parts first, and the machine may be busy.
_PATIENCE = 30


def interpreter(project: Project, spec: AdapterSpec, script: Path) -> str:
    """Return what runs the script: the version that the shebang's program gives, or the program's digest."""
    program = shebang(spec, script)
    if program is None:
        return "python of its environment" if _is_script(script) else "native"
    at = found(program, project.environ.get("PATH"))
    if at is None:
        raise ScriptHasNoInterpreter(adapter=spec.name, script=script, interpreter=program or "none")
    name = version_memo(at)
    known = models.memo(project.con, name) if name is not None and project.exists else None
    if known is not None:
        return known.decode()
    version = _version(project, spec, os.path.abspath(at))
    if name is not None:
        project.remember(name, version.encode())
    return version


def let_through(project: Project, spec: AdapterSpec) -> dict[str, str]:
    """Return those of cogbuild's own variables that the adapter's script gets, which may count for its interpreter."""
    names = (
        *_ALWAYS_PASSED,
        *project.settings.pass_env,
        *spec.env_pass,
        *spec.env_hash,
        *spec.env_secret,
    )
    passed = {
        key: value
        for key, value in project.environ.items()
        if any(fnmatch.fnmatchcase(key, name) for name in names)
    }
    passed.setdefault("PATH", os.defpath)
    return passed


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


def of_memo(name: str) -> str:
    """Return the program that the memo of a version is about; empty where it is of another format."""
    form, _, rest = name.removeprefix("interpreter:").partition(":")
    return rest.partition(":")[2].rsplit(":", 4)[0] if form == "2" else ""


def version_memo(program: str) -> str | None:
    """Return the name of the memo that keeps the version of a program; None: it may answer otherwise without changing itself.

    That is so for a shim, and for one program behind the names of many (``node -> mise``).
    """
    real = os.path.realpath(program)
    called = os.path.basename(program)
    # sh is a shell under another name on every system, and no manager of versions takes its place.
    if called != "sh" and _bare(os.path.basename(real)) != _bare(called):
        return None
    with open(real, "rb") as start:
        if start.read(2) == b"#!":
            return None
        info = os.fstat(start.fileno())
    return f"interpreter:2:{called}:{real}:{info.st_size}:{info.st_mtime_ns}:{info.st_ctime_ns}:{info.st_ino}"


def _bare(name: str) -> str:
    """Return a program's name without the version in it: ``python`` of ``python3.13t``, ``node`` of ``nodejs``."""
    return re.sub(r"(js)?([-.\d]*\d[a-z]?)?$", "", name, count=1)


def _version(project: Project, spec: AdapterSpec, program: str) -> str:
    """Ask a program as the script would call it: under that name, with the variables of the adapter, below the project."""
    from cogbuild.process import capture

    env = let_through(project, spec) | {"LC_ALL": "C"}  # the words of a language would be another version
    try:
        asked = capture([program, "--version"], env=env, cwd=project.root, timeout=_PATIENCE)
    except OSError as trouble:
        raise _silent(spec, program, trouble.strerror) from trouble
    if asked.timed_out:
        raise _silent(spec, program, f"it did not end within {_PATIENCE} s")
    lines = (asked.stdout or asked.stderr).decode(errors="replace").strip().splitlines()
    if asked.code == 0 and lines:
        return lines[0]
    return f"{os.path.basename(program)} {file_digest(os.path.realpath(program))[0]}"


def _silent(spec: AdapterSpec, program: str, reason: str | None) -> InterpreterSilent:
    return InterpreterSilent(adapter=spec.name, interpreter=program, reason=reason)
