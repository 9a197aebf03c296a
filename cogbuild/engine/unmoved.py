"""Whether what a run was made from is still what it was when the run began."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cogbuild.errors.adapters import AdapterFilesMoved, ModelFilesMoved
from cogbuild.fingerprint import glance
from cogbuild.fingerprint.trees import Memo, differences, read_tree, selected

if TYPE_CHECKING:
    from pathlib import Path

    from cogbuild.engine.preparing import Prepared
    from cogbuild.planner import Judged
    from cogbuild.project import Project

__all__ = ["Unmoved"]


class Unmoved:
    """Looks again at the files of adapters and models after a run."""

    def __init__(self, project: Project) -> None:
        self.project = project
        # What adapters' directories looked like when they were last found as they had been loaded.
        self._adapters: dict[Path, tuple[Memo, bytes]] = {}

    def check(self, judged: Judged, prepared: Prepared) -> None:
        """Refuse a result when what it was made from moved under the run."""
        facts = {"model": f"{judged.entry.repo}@{judged.entry.model[:12]}", "adapter": judged.adapter.name}
        adapter = judged.adapter
        known, looks = self._adapters.get(adapter.directory, (None, b""))
        if not (known is not None and glance.same(os.fspath(adapter.directory), looks)):
            now = read_tree(adapter.directory, known, rules="adapter")
            moved = differences(adapter.tree, now.tree)
            if files := [path for path in moved if not path.endswith(".md")]:
                raise AdapterFilesMoved(**facts, files=files[:8])
            self._adapters[adapter.directory] = (now, now.encode())
        if judged.entry.sealed:
            if found := self.project.objects.check_sealed(prepared.tree):
                raise ModelFilesMoved(**facts, files=[str(item.path) for item in found[:8]])
            return
        link = self.project.con.execute(
            "SELECT memo FROM links WHERE eid = ?", (judged.entry.eid,)
        ).fetchone()
        memo = Memo.decode(link[0][24:]) if link and link[0] else None
        live = selected(read_tree(prepared.model, memo).tree, judged.adapter.spec.inputs)
        if files := list(differences(prepared.tree, live)):
            raise ModelFilesMoved(**facts, files=files[:8])
