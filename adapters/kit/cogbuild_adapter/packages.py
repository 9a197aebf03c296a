"""The model's packages as a directory that is the same on every machine. Needs the package ``uv``."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import platform
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from typing import TYPE_CHECKING

from uv import find_uv_bin

from cogbuild_adapter.cog_yaml import python_version
from cogbuild_adapter.contract import AdapterError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

#: Wheels for this and older; every base image of the last years has a newer C library.
_PLATFORM = "x86_64-manylinux_2_28"
#: The adapter's environment is for the image's platform, so uv's cache holds every package in the locked version.
_HERE = sys.platform == "linux" and platform.machine() == "x86_64"
# uv writes the first of these, or the shell's detour where the path is long or has blanks.
_PYTHON_LINE = re.compile(rb"\A#!(?:[^\n]*python[0-9.]*|/bin/sh\n'''exec' [^\n]*\n' ''')(?=\n)")


def install(requirements: Sequence[str], where: Path) -> str:
    """Install *requirements* and Cog into *where*, in the versions that the adapter's environment is locked to.

    Returns them as ``pip freeze`` lists them.
    """
    print("installing the model's packages for", _PLATFORM)
    # Copies, because scripts are edited below: a link would edit uv's cache.
    print(_asked(requirements, where, "--link-mode", "copy"), end="")
    _anonymise(where)
    found = metadata.distributions(path=[str(where)])
    return "\n".join(sorted(f"{item.metadata['Name']}=={item.version}" for item in found))


def listed(requirements: Sequence[str], where: Path) -> str:
    """Return what ``install`` would put into *where*, without doing so."""
    said = _asked(requirements, where, "--dry-run")
    return "\n".join(sorted(line[3:] for line in said.splitlines() if line.startswith(" + ")))


def _asked(requirements: Sequence[str], where: Path, *options: str) -> str:
    """Return what uv says when it is asked to install."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.writelines(f"{line}\n" for line in _frozen())
        constraints.flush()
        command = [find_uv_bin(), "pip", "install", "--target", str(where), "--python", sys.executable]
        command += ["--python-version", python_version(), "--python-platform", _PLATFORM, *options]
        command += ["--constraints", constraints.name, "cog", *requirements]
        for more in (["--offline"], []) if _HERE else ([],):
            done = subprocess.run([*command, *more], check=False, stderr=subprocess.PIPE, text=True)
            if done.returncode == 0:
                return done.stderr
    print(done.stderr, end="")
    _, _, why = done.stderr.partition("error: ")
    raise AdapterError(
        f"the model's packages cannot be installed for {_PLATFORM}: {' '.join((why or done.stderr).split())[:400]}"
    )


def _frozen() -> list[str]:
    """Return the versions in this environment, which are those of the lock; what came from an address has none."""
    return sorted(
        f"{item.metadata['Name']}=={item.version}"
        for item in metadata.distributions()
        if item.read_text("direct_url.json") is None
    )


def _anonymise(where: Path) -> None:
    """Take out what says where and when the packages were installed."""
    for path in (where / ".lock", *where.glob("*.dist-info/uv_cache.json")):
        path.unlink(missing_ok=True)
    scripts = [path for path in where.glob("bin/*") if path.is_file() and not path.is_symlink()]
    changed = {}
    for script in scripts:
        data = script.read_bytes()
        portable = _PYTHON_LINE.sub(b"#!/usr/bin/env python", data, count=1)
        if portable != data:
            script.write_bytes(portable)
            changed[f"bin/{script.name}"] = portable
    for record in where.glob("*.dist-info/RECORD"):
        record.write_text(_record(record.read_text(encoding="utf-8"), changed), encoding="utf-8")


def _record(text: str, changed: dict[str, bytes]) -> str:
    """Return the list of installed files, in order, with the right digests for *changed* ones."""
    rows = []
    for name, digest, size in csv.reader(text.splitlines()):
        place = re.sub(r"^(\.\./)+", "", name)
        if place in changed:
            packed = base64.urlsafe_b64encode(hashlib.sha256(changed[place]).digest()).rstrip(b"=").decode()
            rows.append([place, f"sha256={packed}", str(len(changed[place]))])
        elif not name.endswith("/uv_cache.json"):
            rows.append([place, digest, size])
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows(sorted(rows))
    return lines.getvalue()
