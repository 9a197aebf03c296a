"""Whether what a run was made from is still what it was when the run began."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from cogbuild.errors.adapters import AdapterFilesMoved, ModelFilesMoved
from cogbuild.fingerprint import glance
from cogbuild.fingerprint.looking import look
from cogbuild.fingerprint.trees import Memo, differences, read_tree, selected

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cogbuild.engine.preparing import Prepared
    from cogbuild.planner import Judged
    from cogbuild.project import Project

__all__ = ["Unmoved"]


class Unmoved:
    """Looks again at the files of adapters and models after a run.

    What they hold is not all: an edit that was taken back before the run ended may have been read. So a file counts as moved
    also where it holds what it held, when it changed after the run began and is not the file of the same time that it was.
    That is asked of its ctime, lest a file that somebody only touched before counts; and not of that alone, because links
    to a file, as backups make them, move it too.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        # What adapters' directories looked like when they were last found as they had been loaded, and when what counts
        # there last changed.
        self._adapters: dict[Path, tuple[Memo, bytes, int]] = {}
        # What their files looked like when the first run with them began.
        self._first: dict[Path, dict[str, bytes]] = {}

    def begin(self, judged: Judged, prepared: Prepared) -> None:
        """Hear that a run begins."""
        self._look(judged.adapter.directory, "adapter")
        if not judged.entry.sealed:
            self._look(prepared.model, "model")

    def _look(self, directory: Path, rules: str) -> None:
        if directory not in self._first:
            seen, _ = look(os.fspath(directory), rules)
            self._first[directory] = {item.path: glance.without_ctime(item.row) for item in seen if item.row}

    def check(self, judged: Judged, prepared: Prepared, began: float) -> None:
        """Refuse a result when what it was made from moved under the run, which *began* then, in seconds since the epoch."""
        facts = {"model": f"{judged.entry.repo}@{judged.entry.model[:12]}", "adapter": judged.adapter.name}
        since = int(began * 1e9)
        if files := self._moved_of_adapter(judged, since):
            raise AdapterFilesMoved(**facts, files=files[:8])
        if judged.entry.sealed:
            if found := self.project.objects.check_sealed(prepared.tree):
                raise ModelFilesMoved(**facts, files=[str(item.path) for item in found[:8]])
            return
        if files := self._moved_of_model(judged, prepared, since):
            raise ModelFilesMoved(**facts, files=files[:8])

    def _moved_of_adapter(self, judged: Judged, since: int) -> list[str]:
        adapter = judged.adapter
        known, looks, newest = self._adapters.get(adapter.directory, (None, b"", 0))
        if known is None or not glance.same(os.fspath(adapter.directory), looks):
            now = read_tree(adapter.directory, known, rules="adapter")
            if files := [path for path in differences(adapter.tree, now.tree) if _counts(path)]:
                return files
            known = now
            rows = [row for path, row in _rows(adapter.directory, now) if _counts(path)]
            newest = max(map(glance.ctime_ns, rows), default=0)
            self._adapters[adapter.directory] = (known, known.encode(), newest)
        if newest < since:
            return []
        return [path for path in self._changed_since(since, adapter.directory, known) if _counts(path)]

    def _moved_of_model(self, judged: Judged, prepared: Prepared, since: int) -> list[str]:
        link = self.project.con.execute(
            "SELECT memo FROM links WHERE eid = ?", (judged.entry.eid,)
        ).fetchone()
        memo = read_tree(prepared.model, Memo.decode(link[0] if link else None))
        live = selected(memo.tree, judged.adapter.spec.inputs)
        if files := list(differences(prepared.tree, live)):
            return files
        taken = {entry.path for entry in live.entries}
        return [path for path in self._changed_since(since, prepared.model, memo) if path in taken]

    def _changed_since(self, since: int, directory: Path, memo: Memo) -> list[str]:
        first = self._first.get(directory, {})
        return [
            path
            for path, row in _rows(directory, memo)
            if glance.ctime_ns(row) >= since and glance.without_ctime(row) != first.get(path)
        ]


def _counts(path: str) -> bool:
    return not path.endswith(".md")


def _rows(directory: Path, memo: Memo) -> Iterator[tuple[str, bytes]]:
    """Yield the files that *memo* was read of, with their rows; those that it does not trust are looked at again."""
    for entry, row in zip(memo.tree.entries, memo.stats, strict=True):
        if entry.kind == "d":
            continue
        if row != glance.UNTRUSTED:
            yield entry.path, row
            continue
        with contextlib.suppress(
            FileNotFoundError
        ):  # gone just now: the next look at what it holds finds that
            yield entry.path, glance.row(os.lstat(directory / entry.path))
