"""The parts of a pair's manifest that are gathered: variables, the model's files, the Python environment."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import TYPE_CHECKING

from cogbuild.adapters import IMAGE_ADAPTER
from cogbuild.database import locks, models
from cogbuild.digest import hexdigest
from cogbuild.fingerprint.manifest import Part, rows_part, tree_part
from cogbuild.fingerprint.trees import selected
from cogbuild.library import spec_of, tree_of
from cogbuild.planner.judged import Needed, Wanted, pair_name
from cogbuild.spec import COG_VARIABLES

if TYPE_CHECKING:
    from cogbuild.adapters import Adapter
    from cogbuild.database.models import EntryRow
    from cogbuild.environment import Lock
    from cogbuild.project import Project

__all__ = ["Parts"]


class Parts:
    """Gathers parts; what many pairs share is kept."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._locks: dict[str, tuple[Lock, Part]] = {}
        self._selected: OrderedDict[tuple[str, tuple[str, ...]], Part] = OrderedDict()

    def variables(self, entry: EntryRow, adapter: Adapter, needed: tuple[Needed, ...]) -> dict[str, str]:
        """Return the ``COG_`` variables that the adapter is passed."""
        model = spec_of(entry)
        user, _, name = entry.repo.partition("/")
        registry = self.project.settings.docker_registry
        image = ""
        if adapter.name != IMAGE_ADAPTER:
            image = entry.cpu_image or next(
                (
                    item.artifacts[0].uri
                    for item in needed
                    if item.adapter == IMAGE_ADAPTER and item.artifacts
                ),
                "",
            )
        values = (
            model.module,
            model.cls,
            image,
            registry,
            "true" if registry else "false",
            user,
            name,
            entry.model,
        )
        return {
            variable: value
            for variable, value in zip(COG_VARIABLES, values, strict=True)
            if adapter.spec.passes(variable)
        }

    def of_model(self, entry: EntryRow, inputs: tuple[str, ...]) -> Part:
        """Return the part of the model's tree that the patterns admit; its bytes only where they may be new."""
        if inputs == ("**",):
            return Part(entry.tree, "tree", b"")
        known = self._selected.get((entry.tree, inputs))
        if known is not None:
            return known
        name = f"selected:{entry.tree}:{hexdigest(json.dumps(inputs).encode())}"
        digest = models.memo(self.project.con, name)
        # The memo may be of a plan that nothing came of: then the part itself was never kept.
        if digest is not None and models.has_part(self.project.con, digest):
            part = Part(digest.hex(), "tree", b"")
        else:
            part = tree_part(selected(tree_of(self.project, entry.tree), inputs))
            self.project.remember(name, bytes.fromhex(part.digest))
        self._selected[entry.tree, inputs] = part
        if len(self._selected) > 256:
            self._selected.popitem(last=False)
        return part

    def python(self, entry: EntryRow, adapter: Adapter) -> Wanted | None:
        """Return the Python environment that the adapter declares, for this model, with its lock where there is one."""
        spec = adapter.spec.python
        if spec is None:
            return None
        from cogbuild.environment import Lock, find_python, make_request

        model = spec_of(entry)
        python = find_python(model.python_version if spec.with_model else None)
        requirements = (*spec.packages, *(model.requirements if spec.with_model else ()))
        request = make_request(
            requirements,
            python,
            asked_by=pair_name(entry, adapter.name),
            constraints=model.constraints if spec.with_model else (),
            options=model.pip_options if spec.with_model else (),
        )
        row = locks.lock(self.project.con, request.digest)
        return Wanted(request, python, Lock(row.text, row.python) if row else None)

    def of_lock(self, wanted: Wanted | None) -> Part | None:
        """Return the part of a resolved environment."""
        if wanted is None or wanted.lock is None:
            return None
        known = self._locks.get(wanted.request.digest)
        if known is None or known[0] != wanted.lock:
            known = (wanted.lock, rows_part(wanted.lock.rows()))
            self._locks[wanted.request.digest] = known
        return known[1]
