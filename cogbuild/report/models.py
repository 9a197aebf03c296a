"""Models as text and JSON."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from cogbuild.errors import printable
from cogbuild.report.tables import Column, table
from cogbuild.report.tables import facts as _aligned
from cogbuild.report.words import age, amount, iso
from cogbuild.spec import WISHES_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cogbuild.database.models import EntryRow
    from cogbuild.database.pairs import Artifact, Fidelity
    from cogbuild.library import Added
    from cogbuild.report.tables import Page
    from cogbuild.views.models import Made, ModelView

__all__ = [
    "added_json",
    "added_line",
    "entry_json",
    "facts",
    "fidelity_words",
    "listing",
    "model_json",
    "model_lines",
    "outcome_json",
]


def added_line(added: Added) -> str:
    """Return what adding came to."""
    word = "known" if not added.new else "linked" if added.linked else "added"
    return f"{word:<6}  {added.model}  {added.repo}  {_volume(added.files, added.size)}"


def _volume(files: int, size: int) -> str:
    return f"{files} file{'' if files == 1 else 's'}, {amount(size)}"


def added_json(added: Added, path: str) -> dict[str, Any]:
    """Return the same as JSON."""
    return {
        "model": added.model,
        "repo": added.repo,
        "new": added.new,
        "linked": added.linked,
        "files": added.files,
        "size": added.size,
        "path": path,
    }


def unheard_note(added: Added) -> str | None:
    """Return that an edited file of wishes changes nothing, and what does."""
    if not added.unheard:
        return None
    change = (
        "take its examples by adding it anew after `cogbuild models rm`"
        if added.unheard == ("examples",)
        else "change what it wants with `cogbuild models set`"
    )
    return (
        f"note: {WISHES_FILE} is not what {added.model[:12]} was added with and is not read again; {change}"
    )


def wants_note(entry: EntryRow) -> str:
    """Return that the adapters which an upload chose are the model's choice from then on."""
    wanted = ", ".join(entry.settings["adapters"])
    return f"note: from now on the model wants {wanted} and nothing else; `cogbuild models set` changes that"


def changed_line(entry: EntryRow) -> str:
    """Return that something else is wanted for a model now."""
    return f"changed  {entry.repo}@{entry.model[:12]}"


def removed_line(entry: EntryRow) -> str:
    """Return that a model was let go of."""
    return f"removed  {entry.repo}@{entry.model[:12]}"


def returns_note(path: str) -> str:
    """Return why letting go of a live directory does not last."""
    return f"note: the settings name {path}, so the next run adds it again"


def listing(entries: Iterable[EntryRow], on: Page) -> Iterator[str]:
    """Yield the models as a table, in the order given."""
    columns = [
        Column("model"),
        Column("repo", cut=True),
        Column("added", right=True, give=1),
        Column("files", right=True, give=3),
        Column("size", right=True, give=2),
        Column("kept", give=4),
    ]
    rows = [
        (
            entry.model[:12],
            entry.repo,
            age(entry.added),
            str(entry.files),
            amount(entry.size),
            "sealed" if entry.sealed else "linked",
        )
        for entry in entries
    ]
    return table(columns, rows, on)


def entry_json(entry: EntryRow) -> dict[str, Any]:
    """Return one (repo, model) as JSON."""
    return {
        "model": entry.model,
        "repo": entry.repo,
        "added": iso(entry.added),
        "files": entry.files,
        "size": entry.size,
        "linked": not entry.sealed,
        "cpu_image": entry.cpu_image,
        "adapters": entry.settings.get("adapters"),
        "params": entry.settings.get("params", {}),
    }


def model_lines(view: ModelView) -> Iterator[str]:
    """Yield one (repo, model): what it is, then what was made of it, a line each."""
    yield from _aligned(facts(view))
    if not view.made:
        yield "nothing was made of it yet"
    for made in view.made:
        yield from _made_lines(made)


def facts(view: ModelView) -> Iterator[tuple[str, str]]:
    """Yield what the model is, as label and value."""
    entry, spec = view.entry, view.spec
    yield "model", entry.model
    yield "repo", entry.repo
    if view.unlisted is None:
        yield "added", f"{age(entry.added)} ago, {'sealed' if entry.sealed else 'linked'}"
    else:
        yield "came", f"{age(entry.added)} ago"
        yield "listed", f"no: {view.unlisted}"
    if view.unlisted is None and not entry.sealed:
        yield "directory", printable(os.path.relpath(view.path)) if view.path else "none any more"
    yield "files", _volume(entry.files, entry.size)
    yield "predictor", f"{spec.file}:{spec.cls}"
    yield "python", (spec.python_version or "not said") + (", gpu" if spec.gpu else "")
    if spec.requirements:
        yield "packages", "\n".join(map(printable, spec.requirements))
    if spec.system_packages:
        yield "system", ", ".join(map(printable, spec.system_packages))
    if entry.cpu_image:
        yield "cpu image", printable(entry.cpu_image)
    wanted = entry.settings.get("adapters")
    if view.unlisted is None or wanted is not None:  # what was let go of wants nothing
        yield "adapters", "all" if wanted is None else ", ".join(wanted) or "none"
    params = [
        f"{name}.{key} = {printable(json.dumps(value, ensure_ascii=False))}"
        for name, values in sorted(entry.settings.get("params", {}).items())
        for key, value in sorted(values.items())
    ]
    if params:
        yield "params", "\n".join(params)
    if examples := entry.settings.get("examples"):
        yield "examples", str(len(examples))


def _made_lines(made: Made) -> Iterator[str]:
    outcome = made.outcome
    notes = [] if made.active else ["its adapter is no longer active"]
    if outcome.test_failed is not None:
        notes.append(f"its test refused it: {printable(outcome.test_failed)}")
    if outcome.reason is not None:
        reason = f"{made.adapter}: not applicable: {printable(outcome.reason)}"
        yield f"{reason} ({', '.join([f'{age(outcome.made)} ago', *notes])})"
        return
    if outcome.lost is not None:
        notes.append(f"gone: {printable(outcome.lost)}")
    for item, uri in made.artifacts:
        yield f"{made.adapter}{'.' + item.name if item.name else ''}: {printable(uri)}"
        size = [amount(item.size)] if item.size is not None else []
        digest = [item.digest.removeprefix("sha256:")[:12]] if item.digest else []
        seen = (
            [f"seen {age(outcome.seen)} ago"]
            if _looked_at(item) and outcome.seen and not outcome.lost
            else []
        )
        yield "  " + ", ".join([*digest, *size, f"{outcome.how} {age(outcome.made)} ago", *seen, *notes])
        if item.fidelity is not None:
            yield f"  {fidelity_words(item.fidelity)}"


def fidelity_words(seen: Fidelity) -> str:
    """Return how far an artifact is from its model."""

    def several(count: int, word: str) -> str:
        return f"{count} {word}{'' if count == 1 else 's'}"

    return (
        f"off by up to {seen.absolute:.2g}, relative {seen.relative:.2g}: {several(seen.outputs, 'output')} of "
        f"{several(seen.examples, 'example')}, in {printable(seen.runtime)}"
    )


def _looked_at(item: Artifact) -> bool:
    return item.size is not None or item.uri.startswith(("http:", "https:", "s3:", "gs:", "az:"))


def model_json(view: ModelView) -> dict[str, Any]:
    """Return one (repo, model) with what was made of it as JSON."""
    spec = view.spec
    return {
        **entry_json(view.entry),
        "path": view.path,
        "examples": view.entry.settings.get("examples", []),
        "cog": {
            "file": spec.file,
            "class": spec.cls,
            "module": spec.module,
            "python_version": spec.python_version,
            "requirements": list(spec.requirements),
            "system_packages": list(spec.system_packages),
            "gpu": spec.gpu,
        },
        "outcomes": [outcome_json(made) for made in view.made],
    }


def outcome_json(made: Made) -> dict[str, Any]:
    """Return one outcome as JSON."""
    outcome = made.outcome
    return {
        "adapter": made.adapter,
        "active": made.active,
        "not_applicable": outcome.reason,
        "artifacts": [
            {
                "name": item.name,
                "uri": uri,
                "media_type": item.media_type,
                "digest": item.digest,
                "size": item.size,
                "fidelity": item.fidelity._asdict() if item.fidelity is not None else None,
            }
            for item, uri in made.artifacts
        ],
        "made": iso(outcome.made),
        "how": outcome.how,
        "key": outcome.key,
        "attempt": outcome.attempt or None,
        "seen": iso(outcome.seen),
        "lost": outcome.lost,
        "test_failed": outcome.test_failed,
    }
