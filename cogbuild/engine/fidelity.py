"""How far artifacts are from their models, as a run and its test wrote it into ``COG_FIDELITY_FILE``."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from cogbuild.database.pairs import Artifact, Fidelity
from cogbuild.engine.artifacts import read_regular
from cogbuild.errors.adapters import FidelityFileWrong

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cogbuild.engine.places import Places
    from cogbuild.process.masking import Mask

__all__ = ["with_fidelity"]

_LONGEST_RUNTIME = 200
_LARGEST_COUNT = 1 << 53


def with_fidelity(
    artifacts: tuple[Artifact, ...], places: Places, facts: Mapping[str, object], mask: Mask | None = None
) -> tuple[Artifact, ...]:
    """Return *artifacts* with what was measured of them; those of which nothing was said stay as they are.

    *facts* name the run in errors. Raises ``FidelityFileWrong``.
    """
    if places.empty:
        return artifacts
    try:
        text = read_regular(places.fidelity_file).decode("utf-8")
    except FileNotFoundError:
        return artifacts
    except OSError as trouble:
        raise FidelityFileWrong(**facts, reason=trouble.strerror) from None
    except UnicodeDecodeError:
        raise FidelityFileWrong(**facts, reason="it is not UTF-8") from None
    names = [item.name for item in artifacts]
    measured: dict[str, Fidelity] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or not names:
            continue
        try:
            name, seen = _row(line)
        except ValueError as trouble:
            raise FidelityFileWrong(**facts, line=number, reason=str(trouble)) from None
        if not name and len(names) == 1:
            name = names[0]
        if name not in names:
            raise FidelityFileWrong(**facts, line=number, reason=f"no artifact is called {name[:200]!r}")
        measured[name] = seen._replace(runtime=mask.value(seen.runtime)) if mask is not None else seen
    return tuple(replace(item, fidelity=measured.get(item.name, item.fidelity)) for item in artifacts)


def _row(line: str) -> tuple[str, Fidelity]:
    """Return the artifact's name and what was measured of it; ``ValueError`` says what is wrong with the line."""
    try:
        row = json.loads(line, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it nests too deeply") from None
    except json.JSONDecodeError as trouble:
        raise ValueError(f"not JSON: {trouble}") from None
    if not isinstance(row, dict) or row.keys() - {"artifact"} != set(Fidelity._fields):
        raise ValueError(f"an object with artifact, {', '.join(Fidelity._fields)} was expected")
    _check(row)
    name: str = row.pop("artifact", "")
    for key in ("absolute", "relative"):
        row[key] = float(row[key])
    return name, Fidelity(**row)


def _check(row: dict[str, Any]) -> None:
    for key in ("artifact", "runtime"):
        value = row.get(key, "")
        if not isinstance(value, str) or not value.isprintable():
            raise ValueError(f"{key} is no text")
    if not 0 < len(row["runtime"]) <= _LONGEST_RUNTIME:
        raise ValueError(f"runtime is empty or longer than {_LONGEST_RUNTIME} characters")
    for key in ("absolute", "relative"):
        if not _is_number(row[key]) or not math.isfinite(row[key]) or row[key] < 0:
            raise ValueError(f"{key} is no number from 0 on")
    for key in ("examples", "outputs"):
        if not isinstance(row[key], int) or isinstance(row[key], bool) or not 0 <= row[key] < _LARGEST_COUNT:
            raise ValueError(f"{key} is no count")


def _is_number(value: Any) -> bool:
    # An integer of a thousand digits is no float.
    return isinstance(value, float) or (
        isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST_COUNT
    )


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
