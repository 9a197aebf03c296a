"""What a run needs before its process starts: environment, files, variables, directories."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from cogbuild import damage, lacking, library
from cogbuild.adapters import kit_directory
from cogbuild.database import locks
from cogbuild.database.locks import LockRow
from cogbuild.engine.events import Line, Note
from cogbuild.errors import is_text
from cogbuild.errors.adapters import ValueNotPassable
from cogbuild.fingerprint.trees import Tree, left_out, selected
from cogbuild.interpreter import let_through
from cogbuild.spec.names import artifact_variable, param_variable, path_variable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cogbuild.adapters import Adapter
    from cogbuild.engine.copies import Copies
    from cogbuild.engine.events import Listener
    from cogbuild.engine.logfile import LogFile
    from cogbuild.engine.places import Places
    from cogbuild.planner import Judged
    from cogbuild.process.masking import Mask
    from cogbuild.project import Project

__all__ = ["Prepared", "Preparer"]

_TREES = 8  # kept in mind


@dataclass(frozen=True)
class Prepared:
    """The directories of one run."""

    places: Places
    model: Path
    tree: Tree
    masked: tuple[str, ...]
    environment: Path | None
    needed: dict[str, str]  # the variables of what the pair needs
    #: Where the files of what this run made still lie, by URI, when they were sent to an object store.
    here: dict[str, Path] = field(default_factory=dict)


class Preparer:
    """Gets runs ready."""

    def __init__(self, project: Project, tell: Listener) -> None:
        self.project = project
        self._tell = tell
        self._inherited: dict[str, dict[str, str]] = {}
        self._masks: dict[str, Mask | None] = {}
        self._trees: dict[str, Tree] = {}

    # -- environments ---------------------------------------------------------------------------------------------

    def resolve(self, judged: Judged, *, upgrade: bool = False) -> None:
        """Resolve the pair's Python environment and keep the lock."""
        from cogbuild.environment import resolve

        model = f"{judged.entry.repo}@{judged.entry.model[:12]}"
        lacking.check(self.project, judged.adapter.spec, model)
        wanted = judged.python
        assert wanted is not None
        asked_by = f"adapter {judged.adapter.name} for {model}"
        self._tell(
            Note(
                judged.name,
                f"resolving {len(wanted.request.requirements)} packages for python {wanted.python.version}",
            )
        )
        lock = resolve(
            wanted.request,
            wanted.python,
            asked_by=asked_by,
            upgrade=upgrade,
            on_line=lambda line: self._tell(Line(judged.name, line)),
        )
        asked = json.dumps({"requirements": wanted.request.requirements, "asked_by": asked_by})
        row = LockRow(wanted.request.digest, lock.python, lock.text, asked, time.time())
        self.project.database.write(lambda con: locks.put_lock(con, row, replace_old=upgrade))

    def environment(self, judged: Judged, log: LogFile) -> Path | None:
        """Return the pair's Python environment, made where it is not there yet."""
        wanted = judged.python
        if wanted is None:
            return None
        from cogbuild.environment import realise

        assert wanted.lock is not None
        if wanted.python.note:
            self.say(judged, log, wanted.python.note)

        def on_line(line: bytes) -> None:
            log.write(line + b"\n")
            self._tell(Line(judged.name, line))

        return realise(
            wanted.lock,
            wanted.python,
            self.project.data / "envs",
            options=wanted.request.options,
            on_line=on_line,
        )

    def say(self, judged: Judged, log: LogFile, text: str) -> None:
        """Say something in the log and to whoever watches."""
        log.write(f"cogbuild: {text}\n".encode())
        self._tell(Note(judged.name, text))

    # -- directories ----------------------------------------------------------------------------------------------

    def seal(self, judged: Judged) -> None:
        """Make the sealed tree that the pair's workspace shows, where it is not there yet."""
        inputs, store = judged.adapter.spec.inputs, self.project.objects
        if inputs == ("**",) and os.path.isdir(store.models / judged.entry.model):
            return
        store.sealed(selected(library.tree_of(self.project, judged.entry.tree), inputs))

    def model(self, judged: Judged, log: LogFile) -> tuple[Tree, Path, tuple[str, ...]]:
        """Return what the workspace holds, where it lies, and what of that place is not to be seen."""
        entry, inputs = judged.entry, judged.adapter.spec.inputs
        whole = self._tree(entry.tree)
        tree = selected(whole, inputs)
        if not entry.sealed:
            live = library.live_directory(self.project, entry)
            return tree, live, tuple(left_out(live, tree))
        name = f"{entry.repo}@{entry.model[:12]}"
        directory = damage.sealed(self.project, tree, name, lambda text: self.say(judged, log, text))
        return tree, directory, ()

    def _tree(self, digest: str) -> Tree:
        """Return a tree; pairs of one model follow each other."""
        known = self._trees.get(digest)
        if known is None:
            known = library.tree_of(self.project, digest)
            if len(self._trees) >= _TREES:
                self._trees.clear()
            self._trees[digest] = known
        return known

    # -- variables ------------------------------------------------------------------------------------------------

    def run_variables(self, judged: Judged, prepared: Prepared) -> dict[str, str]:
        """Return the variables that name where a run may write."""
        spec, places = judged.adapter.spec, prepared.places
        env = {
            "COG_OUTPUT_DIR": str(places.output),
            "COG_ARTIFACTS_FILE": str(places.list_file),
            "COG_FIDELITY_FILE": str(places.fidelity_file),
        }
        if spec.state:
            state = self.project.data / "state" / judged.adapter.name
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
            env["COG_STATE_DIR"] = str(state)
        return env

    def needed_variables(
        self, judged: Judged, copies: Copies, facts: Mapping[str, object], log: LogFile
    ) -> dict[str, str]:
        """Return the variables of what the pair needs: its URIs, and where that can be read here, which may be fetched first."""
        env: dict[str, str] = {}
        for needed in judged.needs:
            for item in needed.artifacts:
                path = copies.path(item, facts, partial(self.say, judged, log))
                for name in (needed.adapter, *((f"{needed.adapter}-{item.name}",) if item.name else ())):
                    env.setdefault(artifact_variable(name), self.project.uri(item))
                    if path is not None:
                        env.setdefault(path_variable(name), str(path))
        return env

    def base_variables(self, judged: Judged, prepared: Prepared) -> dict[str, str]:
        """Return all other variables: those of the contract, and what the site and the adapter let through."""
        spec = judged.adapter.spec
        env = dict(self._let_through(judged.adapter))
        if prepared.environment is not None:
            from cogbuild.environment import activate

            env = activate(prepared.environment, env)
        if spec.python is not None and spec.python.kit:
            env["PYTHONPATH"] = str(kit_directory())
        env |= judged.variables
        for name, value in judged.params.items():
            env[param_variable(name)] = value if isinstance(value, str) else json.dumps(value)
        if judged.examples is not None:
            at = prepared.places.run / "examples.json"
            # Always the same bytes: a locale has no part in the key.
            at.write_text(json.dumps(judged.examples, ensure_ascii=False), encoding="utf-8")
            env["COG_EXAMPLES_FILE"] = str(at)
        env |= prepared.needed
        for name, value in env.items():
            if name.startswith("COG_") and not is_text(value):
                raise ValueNotPassable(adapter=judged.adapter.name, variable=name, value=repr(value))
        return env

    def mask(self, adapter: Adapter) -> Mask | None:
        """Return what takes the values of the adapter's secret variables out of what it says; None where it has none."""
        if not adapter.spec.env_secret:
            return None
        if adapter.name not in self._masks:
            from cogbuild.process.masking import Mask

            environ = self.project.environ
            found = Mask({name: environ[name] for name in adapter.spec.env_secret if name in environ})
            self._masks[adapter.name] = found if found or found.too_short else None
        return self._masks[adapter.name]

    def _let_through(self, adapter: Adapter) -> dict[str, str]:
        known = self._inherited.get(adapter.name)
        if known is None:
            known = let_through(self.project, adapter.spec)
            self._inherited[adapter.name] = known
        return known
