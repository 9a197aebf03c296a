"""Adapters, tries of them and their locks, as text and JSON."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from cogbuild.errors import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cogbuild.active import Surveyed
    from cogbuild.adapters import Adapter
    from cogbuild.errors import CogbuildError
    from cogbuild.housekeeping.locking import Locked
    from cogbuild.housekeeping.trial import Ran
    from cogbuild.housekeeping.watching import Seen
    from cogbuild.lacking import Lack

__all__ = [
    "adapter_json",
    "adapter_lines",
    "lock_json",
    "run_json",
    "run_lines",
    "seen_json",
    "seen_lines",
    "tell_lock",
]

_FILES_SHOWN = 20


def adapter_json(item: Surveyed, made: dict[str, int], lacks: Sequence[Lack]) -> dict[str, Any]:
    """Return one adapter; *made* is how many pairs each made."""
    spec = item.adapter.spec if item.adapter else None
    python = spec.python if spec else None
    return {
        "name": item.name,
        "source": item.source,
        "directory": str(item.adapter.directory) if item.adapter else None,
        "description": spec.description if spec else None,
        "needs": list(spec.needs) if spec else None,
        "python": {
            "packages": list(python.packages),
            "with_model": python.with_model,
            "kit": python.kit,
        }
        if python
        else None,
        "pairs": made.get(item.name or "", 0),
        "error": item.error.to_json() if item.error else None,
        "lacks": [{"what": lack.what, "without": lack.without} for lack in lacks],
    }


def adapter_lines(item: Surveyed, made: dict[str, int], lacks: Sequence[Lack], indent: str = "") -> list[str]:
    """Return one adapter: its name and where from, then what it is and what is wrong with it."""
    from cogbuild.report.tables import heading, page, wrapped

    on = page(sys.stdout)
    if item.adapter is None and item.error is not None:
        lines = list(heading(f"{indent}{item.name or '?'}", [item.source], on))
    else:
        count = made.get(item.name or "", 0)
        lines = list(
            heading(
                f"{indent}{item.name or '?'}",
                [item.source, _plural(count, "pair") + " made" if count else ""],
                on,
            )
        )
    said = _described(item.adapter) if item.adapter is not None else []
    said += [f"lacks: {printable(lack.text)}" for lack in lacks]
    if item.error is not None:
        said.append(f"can't be used: {_one_line(item.error)}")
    return [*lines, *(line for text in said for line in wrapped(text, indent + "  ", on))]


def _plural(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _described(adapter: Adapter) -> list[str]:

    spec = adapter.spec
    lines = [printable(spec.description)] if spec.description else []
    if spec.needs:
        lines.append(f"needs {', '.join(spec.needs)}")
    if spec.python is not None:
        model = ["the model's own"] if spec.python.with_model else []
        lines.append(f"python {', '.join([*spec.python.packages, *model]) or 'without packages'}")
    return lines


def _one_line(error: CogbuildError) -> str:
    return "; ".join(
        [error.title, *(f"{label} {value}" for label, value in error.rows() if "\n" not in value)]
    )


def run_json(run: Ran) -> dict[str, Any]:
    """Return one run of a trial."""
    return {
        "status": run.status,
        "seconds": run.seconds,
        "not_applicable": run.reason,
        "artifacts": [
            {
                "name": item.name,
                "uri": uri,
                "media_type": item.media_type,
                "digest": item.digest,
                "size": item.size,
            }
            for item, uri in zip(run.artifacts, run.uris, strict=True)
        ],
    }


def run_lines(run: Ran) -> list[str]:
    """Return how one run ended and what it made."""
    from cogbuild.report import amount, span

    if run.reason is not None:
        return [f"not applicable  {span(run.seconds)}  {printable(run.reason)}"]
    lines = [f"{run.status}  {span(run.seconds)}"]
    for item, uri, path in zip(run.artifacts, run.uris, run.paths, strict=True):
        name = f"{item.name}: " if item.name else ""
        said = (
            f"{path.name}  {amount(item.size or 0)}  {(item.digest or '')[:12]}" if path else printable(uri)
        )
        lines.append(f"  {name}{said}")
    return lines


def seen_lines(seen: Seen) -> list[str]:
    """Return what a run used that nothing declares."""
    lines = []
    if seen.files:
        lines.append("it reads what it does not declare, so that a change there goes unnoticed:")
        lines += [f"  {printable(path)}" for path in seen.files[:_FILES_SHOWN]]
        if len(seen.files) > _FILES_SHOWN:
            lines.append(f"  and {len(seen.files) - _FILES_SHOWN} more")
    if seen.connections:
        lines.append("it asks others, and what they answer does not count:")
        lines += [f"  {printable(name)}" for name in seen.connections[:_FILES_SHOWN]]
    return lines


def seen_json(seen: Seen) -> dict[str, Any]:
    """Return the same as JSON."""
    return {"files": list(seen.files), "connections": list(seen.connections), "not_watched": seen.note}


def tell_lock(item: Locked) -> None:
    """Tell what locking came to, and which packages moved."""
    from cogbuild.housekeeping.locking import packages

    group = item.group
    head = f"{', '.join(group.adapters)}  {_plural(group.pairs, 'pair')}"
    if item.error is not None:
        click.echo(f"{head}  {item.state}")
        click.echo(str(item.error), err=True)
        return
    assert item.lock is not None
    click.echo(f"{head}  {item.state}: python {item.lock.python}, {_plural(packages(item.lock), 'package')}")
    for moved in item.moved:
        click.echo(f"  {moved.package}  {moved.before or '(absent)'} → {moved.after or '(absent)'}")


def lock_json(item: Locked) -> dict[str, Any]:
    """Return what locking came to."""
    return {
        "adapters": item.group.adapters,
        "pairs": item.group.pairs,
        "state": item.state,
        "python": item.lock.python if item.lock else None,
        "digest": item.lock.digest if item.lock else None,
        "requirements": list(item.group.wanted.request.requirements) if item.group.wanted else None,
        "moved": [{"package": row.package, "before": row.before, "after": row.after} for row in item.moved],
        "error": item.error.to_json() if item.error else None,
    }
