"""Artifacts that name others of the same run: where those ended up is filled in before they are kept themselves."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogbuild.errors.adapters import ArtifactsFileWrong

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["check_references", "fill_references"]

_LARGEST = 1 << 20  # bytes; what is filled in is a text that people could read
_MARK = re.compile(r"\{cog-artifact:([^{}\n]*)\}")


def check_references(rows: Sequence[Mapping[str, Any]], facts: Mapping[str, object]) -> None:
    """Refuse rows that refer to what no row lists, or to one that refers to others itself."""
    known = {row["name"]: bool(row.get("refers")) for row in rows}
    for row in rows:
        for name in row.get("refers", ()):
            if known.get(name, True):
                why = "refers to others itself" if name in known else "no line lists"
                raise ArtifactsFileWrong(
                    **facts, artifact=row["name"], reason=f"it refers to {name}, which {why}"
                )


def fill_references(
    row: Mapping[str, Any], output: Path, uris: Mapping[str, str], facts: Mapping[str, object]
) -> None:
    """Put the URI of each artifact that *row* refers to where the file says ``{cog-artifact:NAME}``."""

    def wrong(reason: str) -> ArtifactsFileWrong:
        return ArtifactsFileWrong(**facts, artifact=row["name"], reason=reason)

    file = Path(os.path.normpath(output / row["uri"]))
    if not Path(os.path.realpath(file)).is_relative_to(os.path.realpath(output)):
        raise wrong("it refers to others, so it has to be a file below $COG_OUTPUT_DIR")
    try:
        about = file.lstat()
        data = file.read_bytes() if stat.S_ISREG(about.st_mode) and about.st_size <= _LARGEST else None
        text = None if data is None else data.decode("utf-8")
    except (OSError, ValueError):
        text = None
    if text is None:
        raise wrong("it refers to others, so it has to be a text file of at most 1 MiB")
    found = set(_MARK.findall(text))
    wanted = {name: uris[name] for name in row["refers"]}
    for name in sorted(found ^ set(wanted)):
        what = f"{{cog-artifact:{name}}}"
        why = (
            f"it holds {what}, but `refers` does not name that"
            if name in found
            else f"it does not hold {what}"
        )
        raise wrong(why)
    # A new file: what else the old one was linked to is not ours.
    file.unlink()
    file.write_text(_MARK.sub(lambda mark: wanted[mark[1]], text), encoding="utf-8")
    file.chmod(stat.S_IMODE(about.st_mode))
