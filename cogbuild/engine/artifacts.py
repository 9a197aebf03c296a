"""What an adapter said it made: one line on stdout, or lines of JSON in ``COG_ARTIFACTS_FILE``; and publishing it."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from cogbuild.database.pairs import Artifact
from cogbuild.engine.references import check_references, fill_references
from cogbuild.errors.adapters import (
    ArtifactBothWays,
    ArtifactHoldsSecret,
    ArtifactInWorkspace,
    ArtifactLineAbsent,
    ArtifactLineNotText,
    ArtifactLineTooMany,
    ArtifactLineUnreadable,
    ArtifactNameTwice,
    ArtifactOutputMissing,
    ArtifactsFileWrong,
)
from cogbuild.planner.judged import image_artifact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cogbuild.engine.keeping import Keep
    from cogbuild.engine.places import Places
    from cogbuild.process import Ended
    from cogbuild.process.masking import Mask

__all__ = ["artifacts_of", "read_regular"]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s]+")
# The grammar of github.com/distribution/reference: a host or path components, then a tag or digest.
_IMAGE = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]+)?/)?"
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9]*:[0-9a-fA-F]{32,})?"
)
_SHOWN = 8
_LIST_LIMIT = 1 << 20  # bytes of COG_ARTIFACTS_FILE


def artifacts_of(  # noqa: PLR0917 - what ended, where, and what becomes of it
    ended: Ended,
    places: Places,
    keep: Keep,
    facts: Mapping[str, object],
    mask: Mask | None = None,
    uri_of: Callable[[Artifact], str] = lambda artifact: artifact.uri,
) -> tuple[Artifact, ...]:
    """Return what was made, handed to *keep* where it lies in the output directory.

    *facts* name the run in errors. What *mask* knows may be in none of the names. *uri_of* is what an artifact is
    called in another one. Raises the ``Artifact…`` errors.
    """
    printed = _line(ended.stdout, ended.stdout_cut, facts)
    listed = _listed(places, facts)
    if mask is not None:
        _refuse_secrets(
            [printed, *(text for row in listed for text in row.values() if isinstance(text, str))],
            mask,
            facts,
        )
    if printed is not None and listed:
        raise ArtifactBothWays(**facts, printed=printed)
    if printed is None and not listed:
        raise ArtifactLineAbsent(**facts, wrote=_wrote(places.output))
    if printed is not None:
        if ended.stdout_names_file and not os.path.lexists(os.path.join(places.output, _path(printed) or "")):
            raise ArtifactInWorkspace(**facts, printed=printed)
        return (_artifact("", printed, None, places, keep, facts),)
    kept: dict[str, Artifact] = {}
    for item in sorted(listed, key=lambda item: bool(item.get("refers"))):
        if item.get("refers"):
            uris = {name: uri_of(kept[name]) for name in item["refers"]}
            fill_references(item, places.output, uris, facts)
        kept[item["name"]] = _artifact(item["name"], item["uri"], item.get("media_type"), places, keep, facts)
    return tuple(kept[item["name"]] for item in listed)


def _refuse_secrets(texts: Iterable[str | None], mask: Mask, facts: Mapping[str, object]) -> None:
    """Refuse what would be recorded and shown, and is of no use with a hole in it."""
    for text in texts:
        if text is not None and (mask.holds(text) or mask.holds(unquote(text))):
            raise ArtifactHoldsSecret(**facts, printed=mask.value(unquote(mask.value(text)))[:200])


def _line(stdout: bytes, cut: int, facts: Mapping[str, object]) -> str | None:
    text = stdout.strip()
    if not text and not cut:
        return None
    lines = text.splitlines()
    if len(lines) > 1 or cut:
        more = "at least " if cut else ""
        raise ArtifactLineTooMany(
            **facts, lines=f"{more}{len(lines)}", first=lines[0][:200], last=lines[-1][:200]
        )
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        raise ArtifactLineNotText(**facts, printed=text[:200]) from None


def _listed(places: Places, facts: Mapping[str, object]) -> list[dict[str, Any]]:
    if places.empty:
        return []
    try:
        text = read_regular(places.list_file).decode("utf-8")
    except FileNotFoundError:
        return []
    except OSError as trouble:
        raise ArtifactsFileWrong(**facts, reason=trouble.strerror) from None
    except UnicodeDecodeError:
        raise ArtifactsFileWrong(**facts, reason="it is not UTF-8") from None
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            row = _row(line, number, facts)
            if any(row["name"] == other["name"] for other in rows):
                raise ArtifactNameTwice(**facts, name=row["name"], line=number)
            rows.append(row)
    check_references(rows, facts)
    return rows


def read_regular(path: Path) -> bytes:
    """Read a file that a stranger may have put something else in the place of; ``OSError`` where it is none."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "it is no file any more")
        data = file.read(_LIST_LIMIT + 1)
        if len(data) > _LIST_LIMIT:
            raise OSError(errno.EFBIG, f"it is larger than {_LIST_LIMIT >> 20} MiB")
        return data


def _row(line: str, number: int, facts: Mapping[str, object]) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as trouble:
        raise ArtifactsFileWrong(**facts, line=number, reason=f"not JSON: {trouble}") from None
    if not isinstance(row, dict) or set(row) - {"name", "uri", "media_type", "refers"}:
        raise ArtifactsFileWrong(
            **facts, line=number, reason="an object with name, uri and media_type was expected"
        )
    for key in ("name", "uri"):
        if not isinstance(row.get(key), str) or not row[key] or not row[key].isprintable():
            raise ArtifactsFileWrong(**facts, line=number, reason=f"{key} is missing or no text")
    refers = row.get("refers", [])
    if not isinstance(refers, list) or not all(isinstance(name, str) for name in refers):
        raise ArtifactsFileWrong(**facts, line=number, reason="refers is no list of names")
    if not isinstance(row.get("media_type", ""), str) or not row.get("media_type", "").isprintable():
        raise ArtifactsFileWrong(**facts, line=number, reason="media_type is no text")
    return row


def _artifact(  # noqa: PLR0917 - what is named, and where
    name: str, text: str, media_type: str | None, places: Places, keep: Keep, facts: Mapping[str, object]
) -> Artifact:
    path = _path(text) if text.isprintable() else None
    if path is not None:
        output = os.fspath(places.output)
        inside = os.path.normpath(os.path.join(output, path))
        if inside.startswith(output + "/"):
            if os.path.lexists(inside):
                source = _named_by(inside, places, text, facts)
                return replace(keep(source, os.path.basename(inside)), name=name, media_type=media_type)
            if os.path.isabs(path):
                raise ArtifactOutputMissing(**facts, printed=text, wrote=_wrote(places.output))
        if os.path.isabs(path) and Path(os.path.normpath(path)).is_relative_to(places.transient):
            raise ArtifactInWorkspace(**facts, printed=text)
        if inside == output:
            raise ArtifactLineUnreadable(
                **facts, printed=text, reason="it is the output directory itself: name what is in it"
            )
    if text.startswith("file:"):
        raise_unless_there(path, text, facts)
    if (text.isprintable() and _SCHEME.fullmatch(text)) or (
        _IMAGE.fullmatch(text) and any(mark in text for mark in "/:@")
    ):
        return Artifact(name, text, media_type, digest=image_artifact(text).digest)
    raise ArtifactLineUnreadable(**facts, printed=text[:200], wrote=_wrote(places.output))


def raise_unless_there(path: str | None, text: str, facts: Mapping[str, object]) -> None:
    """Refuse a ``file:`` URI of nothing."""
    if path is None or not os.path.lexists(path):
        raise ArtifactOutputMissing(**facts, printed=text)


def _path(text: str) -> str | None:
    """Return the path that *text* is, plain or as a ``file:`` URI of this machine."""
    if not text.startswith("file:"):
        return text if text and "\0" not in text else None
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    return unquote(parts.path) if parts.netloc in ("", "localhost") and parts.path else None


def _named_by(inside: str, places: Places, text: str, facts: Mapping[str, object]) -> Path:
    """Return the file or directory that *inside* is or leads to, which has to lie in the output directory."""
    source = Path(os.path.realpath(inside))
    try:
        mode = os.stat(source).st_mode
    except OSError:
        raise ArtifactOutputMissing(**facts, printed=text, wrote=_wrote(places.output)) from None
    if not source.is_relative_to(os.path.realpath(places.output)):
        raise ArtifactLineUnreadable(**facts, printed=text, reason="it leads out of the output directory")
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ArtifactLineUnreadable(**facts, printed=text, reason="it is neither a file nor a directory")
    return source


def _wrote(output: Path) -> str | None:
    try:
        names = sorted(os.listdir(output))
    except OSError:
        return None
    return (
        ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        or None
    )
