"""The adapter's side of the contract: what comes in by the environment, the one line, the exit code.

Knows nothing of Cog or of any framework.
"""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

if TYPE_CHECKING:
    from collections.abc import Callable

_NOT_APPLICABLE = 100

T = TypeVar("T", str, int, float, bool)


class NotApplicable(Exception):
    """The adapter makes nothing of this model; the text is one sentence that says why."""


class AdapterError(Exception):
    """Something that whoever runs the adapter can put right; the text is one sentence that says how."""


@dataclass(frozen=True)
class Example:
    """One example of the model: inputs by name and, where known, the output that they give."""

    input: Mapping[str, Any]
    output: Any = None


@dataclass(frozen=True)
class Refers:
    """An artifact, the text file *path*, that names other artifacts of the same run as ``artifact_reference`` does."""

    path: str | os.PathLike[str]
    to: tuple[str, ...]


def artifact_reference(name: str) -> str:
    """Return what stands in a text for the URI that the artifact *name* is going to have."""
    return f"{{cog-artifact:{name}}}"


_One: TypeAlias = "str | os.PathLike[str]"
Made: TypeAlias = "_One | Mapping[str, _One | Refers] | None"


def run(main: Callable[[], Made]) -> NoReturn:
    """Call *main*, print the path or URI that it returns as the one line on stdout, and end the process.

    Several artifacts are returned by name and listed in ``COG_ARTIFACTS_FILE``; ``None`` is for a test.

    Whatever else is printed, by the model, by C libraries or by children, goes to stderr. ``NotApplicable`` ends with
    exit code 100 and ``AdapterError`` with 1, their sentence as the last line of stderr; any other exception is a
    traceback and 1.
    """
    line = _private_stdout()
    code = _ended(main, line)
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: threads and exit handlers of the model would keep the process alive, or print after the last line.
    os._exit(code)


def _private_stdout() -> int:
    """Return a descriptor of the real stdout that no child inherits; descriptor 1 becomes stderr."""
    sys.stdout.flush()
    line = os.dup(1)
    os.dup2(2, 1)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    return line


def _ended(main: Callable[[], Made], line: int) -> int:
    try:
        result = main()
    except (NotApplicable, AdapterError) as error:
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        sys.stdout.flush()
        print(" ".join(str(error).split()), file=sys.stderr)
        return _NOT_APPLICABLE if isinstance(error, NotApplicable) else 1
    except SystemExit as stop:
        # A model that calls sys.exit() has not given an artifact, whatever code it chose.
        print(f"the model's code ended the process with sys.exit({stop.code!r})", file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    if isinstance(result, Mapping):
        rows = [{"name": name, **_row(made)} for name, made in result.items()]
        with Path(os.environ["COG_ARTIFACTS_FILE"]).open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    elif result is not None:
        os.write(line, os.fsencode(result) + b"\n")
    return 0


def _row(made: _One | Refers) -> dict[str, Any]:
    if isinstance(made, Refers):
        return {"uri": os.fspath(made.path), "refers": list(made.to)}
    return {"uri": os.fspath(made)}


def param(name: str, default: T) -> T:
    """Return the parameter *name* (``COG_PARAM_<NAME>``), read as what *default* is."""
    text = os.environ.get("COG_PARAM_" + _variable(name))
    if text is None:
        return default
    kind = type(default)
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        return kind(text)
    except (ValueError, KeyError):
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
        raise AdapterError(f"the parameter {name} is {text!r}, but it has to be {wanted}") from None


def examples() -> list[Example]:
    """Return the model's examples, which ``examples: true`` in ``cog-adapter.yaml`` asks for; there is at least one."""
    name = os.environ.get("COG_EXAMPLES_FILE")
    listed = json.loads(Path(name).read_text(encoding="utf-8")) if name else []
    if not listed:
        raise AdapterError(
            "the model has no examples: give at least one under `examples:` in its cog-adapters.yaml, "
            "as `- input: {name: value}`"
        )
    return [Example(item["input"], item.get("output")) for item in listed]


def output_path(name: str) -> Path:
    """Return where the artifact *name* is to be written."""
    return Path(os.environ["COG_OUTPUT_DIR"], name)


def artifact_path(name: str = "") -> Path:
    """Return the path of the artifact that a ``test:`` script is asked to judge; of several, the one called *name*."""
    if name:
        row = next(row for row in _judged() if row.get("name") == name)
        return _local(f"the artifact {name}", row["uri"], row.get("path"))
    return _local(
        "COG_ARTIFACT_URI", os.environ.get("COG_ARTIFACT_URI", ""), os.environ.get("COG_ARTIFACT_PATH")
    )


def artifact_uris() -> dict[str, str]:
    """Return all artifacts that a ``test:`` script is asked to judge, as they are named; a single one has no name."""
    rows = _judged()
    return {row.get("name", ""): row["uri"] for row in rows} or {"": os.environ.get("COG_ARTIFACT_URI", "")}


def artifact_paths() -> dict[str, Path]:
    """Return where all artifacts are that a ``test:`` script is asked to judge, by name."""
    return {
        name: _local(f"the artifact {name}" if name else "COG_ARTIFACT_URI", row["uri"], row.get("path"))
        for row in _judged()
        for name in (row.get("name", ""),)
    } or {"": artifact_path()}


def _judged() -> list[dict[str, str]]:
    name = os.environ.get("COG_ARTIFACTS_FILE")
    listed = Path(name).read_text(encoding="utf-8") if name and Path(name).exists() else ""
    return [json.loads(line) for line in listed.splitlines() if line.strip()]


def needed_paths(adapter: str) -> dict[str, Path]:
    """Return the files that *adapter*, which is under ``needs:``, made of this model, by their names without ending.

    The name of a single one is empty.
    """
    name = _variable(adapter)

    def file(of: str) -> Path:
        variable = f"COG_ARTIFACT_{of}"
        return _local(variable, os.environ.get(variable, ""), os.environ.get(f"COG_PATH_{of}"))

    several = [
        it.removeprefix("COG_ARTIFACT_")
        for it in sorted(os.environ)
        if it.startswith(f"COG_ARTIFACT_{name}_")
    ]
    return {it.stem: it for it in map(file, several)} or {"": file(name)}


def _local(what: str, uri: str, path: str | None) -> Path:
    if path:
        return Path(path)
    parts = urlsplit(uri)
    if parts.scheme != "file":
        raise AdapterError(f"{what} is {uri!r}, but that can't be read on this machine")
    return Path(url2pathname(parts.path))


def _variable(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", name).upper()
