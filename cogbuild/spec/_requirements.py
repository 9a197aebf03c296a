"""Reads requirements files as pip does, without asking the network: what to install, what binds it, where to look."""

from __future__ import annotations

import codecs
import posixpath
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cogbuild.errors.declarations import BadRequirement, RequirementsMissing, TooComplex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Facts = dict[str, object]

__all__ = ["Facts", "Requirements", "is_requirement"]

# A URL, a path or an archive has no name to check before it is fetched: pip and uv judge it.
_DIRECT = re.compile(
    r"(?:[a-z][a-z0-9+.-]*://|git\+|file:|\.{1,2}/|\.$|/)|.*\.(?:whl|zip|tar\.gz)$", re.IGNORECASE
)
_COMMENT = re.compile(r"(?:^|\s+)#.*$")
_OWN_OPTIONS = re.compile(r"\s+--(?:hash|config-settings?|global-option)[= ].*$")
_FILE_OPTION = re.compile(r"(-r|--requirement|-c|--constraint)(?:\s+|=|(?<=^-[rc]))(\S.*)")
_EDITABLE = re.compile(r"(?:-e|--editable)[= ]\s*(\S.*)")
_TAKEN = {
    "-i": "--index-url",
    "--index-url": "--index-url",
    "--extra-index-url": "--extra-index-url",
    "-f": "--find-links",
    "--find-links": "--find-links",
    "--no-index": "--no-index",
    "--no-binary": "--no-binary",
    "--only-binary": "--only-binary",
    "--pre": "--pre",
    "--prefer-binary": None,
    "--require-hashes": None,
    "--trusted-host": "--trusted-host",
    "--use-feature": None,
}
_MAX_FILES = 100


def is_requirement(text: str) -> bool:
    """Whether pip would take *text* as something to install."""
    if _DIRECT.match(text):
        return True
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        Requirement(text)
    except InvalidRequirement:
        return False
    return True


@dataclass
class Requirements:
    """What a model's requirements files say, each file read once."""

    read: Callable[[str], bytes | None]
    specifiers: list[str] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    seen: set[tuple[str, bool]] = field(default_factory=set)

    def add_file(self, name: str, *, named_in: Facts, constraint: bool = False) -> None:
        """Take the file *name* and those it names; *named_in* are facts on who asked for it."""
        path = posixpath.normpath(name)
        if (path, constraint) in self.seen:
            return
        self.seen.add((path, constraint))
        if len(self.seen) > _MAX_FILES:
            raise TooComplex(file=path, reason=f"more than {_MAX_FILES} requirements files lead to it")
        inside = not path.startswith(("/", "../")) and path not in (".", "..")
        data = self.read(path) if inside and "\0" not in path else None
        if data is None:
            raise RequirementsMissing(source=name, **named_in)
        for number, line in _lines(_text(data)):
            self._add(line, path, constraint=constraint, where={"file": path, "line": number})

    def _add(self, line: str, path: str, *, constraint: bool, where: Facts) -> None:
        if match := _FILE_OPTION.fullmatch(line):
            binds = constraint or match[1] in ("-c", "--constraint")
            self.add_file(
                posixpath.join(posixpath.dirname(path), match[2].strip()), named_in=where, constraint=binds
            )
            return
        if match := _EDITABLE.fullmatch(line):
            line = match[1]
        elif line.startswith("-"):
            self._add_option(line, where)
            return
        line = _OWN_OPTIONS.sub("", line)
        if not is_requirement(line):
            raise BadRequirement(requirement=repr(line), **where)
        (self.constraints if constraint else self.specifiers).append(line)

    def _add_option(self, line: str, where: Facts) -> None:
        name, *value = re.split(r"[\s=]+", line, maxsplit=1)
        if name not in _TAKEN:
            raise BadRequirement(requirement=repr(line), **where)
        if _TAKEN[name] is not None:
            option = " ".join([str(_TAKEN[name]), *value])
            if option not in self.options:
                self.options.append(option)


def _text(data: bytes) -> str:
    # PowerShell's `pip freeze > requirements.txt` writes UTF-16; pip reads it, so do we.
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8-sig", "surrogateescape")


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield (number, line) without comments and blank lines, continued lines joined."""
    joined, first = "", 0
    for number, raw in enumerate([*text.splitlines(), ""], start=1):
        first = first or number
        if raw.endswith("\\") and not raw.lstrip().startswith("#"):
            joined += raw[:-1]
            continue
        line = _COMMENT.sub("", joined + raw).strip()
        if line:
            yield first, line
        joined, first = "", 0
