"""The law: whatever happened before, an incremental build leaves what a clean build leaves, and runs only what it must."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import Sandbox
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cogbuild import library
from cogbuild.active import active
from cogbuild.database import feed, models, pairs
from cogbuild.housekeeping import lost, made
from cogbuild.planner import Judge, Judged, Planner, Selection
from cogbuild.project import Project
from cogbuild.tasks.running import Run, run_plan

SEALED, LINKED = "a", "b"
#: ``upper`` needs ``base``; ``small`` sees one file and not whose it is, so its work is shared.
ADAPTERS = ("base", "upper", "small")

# Fails while its switch is on; does not apply to "none"; else makes what follows from all that counts.
SCRIPT = """#!/bin/sh
[ -e {switch} ] && exit 1
[ "$(cat weights.bin)" = none ] && {{ echo "nothing in it" >&2; exit 100; }}
{{
    echo {name} {version} "$COG_PARAM_LEVEL"
    cat weights.bin
    [ -z "$COG_ARTIFACT_BASE" ] || cat "${{COG_ARTIFACT_BASE#file://}}"
}} > "$COG_OUTPUT_DIR/made"
echo "$COG_OUTPUT_DIR/made"
"""

_model = st.sampled_from([SEALED, LINKED])
_adapter = st.sampled_from(ADAPTERS)
_number = st.integers(0, 1)
#: What may happen; few values of each, so that a sequence comes back to where it was.
EVENTS = st.one_of(
    st.tuples(st.just("script"), _adapter, _number),
    st.tuples(st.just("param"), _adapter, _number),
    st.tuples(st.just("wish"), _model, _number),
    st.tuples(st.just("content"), _model, st.sampled_from(["one", "two", "none"])),
    st.tuples(st.just("active"), _adapter, st.booleans()),
    st.tuples(st.just("fails"), _adapter, st.booleans()),
    st.tuples(st.just("lose"), _model, _adapter),
    st.tuples(st.just("forget"), _model, _adapter),
    st.tuples(st.just("no cache"), st.just(""), st.just(0)),
)
#: What the run after an event is about; "nothing" is no run at all.
WHOLE = st.sampled_from(["everything", "everything", "base", "upper", "small", "nothing"])
SELECTED = st.sampled_from(["everything", "base", "upper", "model", "repo", "nothing"])
Step = tuple[tuple[str, str, Any], str]


@dataclass
class World:
    """What a user wrote down, and the data directory that all of it happens to."""

    box: Sandbox
    script: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ADAPTERS, 0))
    param: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ADAPTERS, 0))
    wish: dict[str, int] = field(default_factory=lambda: {SEALED: 0, LINKED: 0})
    content: dict[str, str] = field(default_factory=lambda: {SEALED: "one", LINKED: "two"})
    active: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(ADAPTERS, True))
    fails: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(ADAPTERS, False))

    def happen(self, what: str, which: str, value: Any) -> None:
        """Let one thing happen."""
        if what == "no cache":
            shutil.rmtree(self.box.data / "cache", ignore_errors=True)
        elif what in ("lose", "forget"):
            with self.project() as project:
                self._to_pair(project, what, which, value)
        else:
            getattr(self, what)[which] = value

    def _to_pair(self, project: Project, what: str, model: str, adapter: str) -> None:
        aid = feed.adapter_id(project.con, adapter)
        entry = self.entries(project)[model]
        outcome = pairs.outcome(project.con, entry.eid, aid) if aid is not None else None
        if outcome is None:
            return
        if what == "forget":
            project.database.write(lambda con: feed.add_pending(con, outcome.aid, [outcome.eid], "forgotten"))
        for item in outcome.artifacts if what == "lose" else ():
            (project.objects.artifacts / item.uri).unlink(missing_ok=True)
            list(lost.verify(project, made.every(project)))

    # -- what there is --------------------------------------------------------------------------------------------

    def project(self, data: Path | None = None) -> Project:
        """Write everything down and open the data directory, in which the models then are as they should be."""
        for name in ADAPTERS:
            switch = self.box.root / f"{name}-fails"
            switch.touch() if self.fails[name] else switch.unlink(missing_ok=True)
            keys: dict[str, Any] = {"params": {"level": self.param[name]}, "api": 1}
            keys |= {"needs": ["base"]} if name == "upper" else {}
            keys |= {"uses": [], "inputs": ["weights.bin"]} if name == "small" else {}
            text = SCRIPT.format(name=name, version=self.script[name], switch=switch)
            self.box.adapter(name, text, activate=False, **keys)
        named = [name for name in ADAPTERS if self.active[name]]
        if not self.active["base"] and "upper" in named:
            named.remove("upper")
        directories = {
            name: self.box.model(name, {"weights.bin": text}) for name, text in self.content.items()
        }
        self.box.configure(
            adapters=[str(self.box.root / "adapters" / name) for name in named],
            models=[str(directories[LINKED])],
        )
        project = Project(data or self.box.data, environ=self.box.environ)
        library.add(project, directories[SEALED])
        library.refresh_links(project)
        for name, entry in self.entries(project).items():
            params = {"base": {"level": 7}, "small": {"level": 8}} if self.wish[name] else {}
            if entry.settings["params"] != params:
                new = {**entry.settings, "params": params}
                project.database.write(
                    lambda con, eid=entry.eid, new=new: models.change_entry(  # type: ignore[misc]
                        con, eid, settings=new, cpu_image=None
                    )
                )
        return project

    def entries(self, project: Project) -> dict[str, models.EntryRow]:
        """Return what each model is now; a sealed one keeps its former versions beside it."""
        added = library.add(project, self.box.root / "models" / SEALED)
        linked = models.entries(project.con, repos=[f"local/{LINKED}"])
        sealed = models.find(project.con, added.eid)
        assert sealed is not None
        return {SEALED: sealed, LINKED: linked[0]}

    # -- building -------------------------------------------------------------------------------------------------

    def build(self, what: str = "everything", data: Path | None = None) -> None:
        """Run; whatever ran had no intact record and no outcome of its key, or was forgotten."""
        if what == "nothing":
            return
        with self.project(data) as project:
            adapters = active(project)
            if not adapters or (what in ADAPTERS and what not in adapters):
                return
            chosen = Selection(
                models=(self.entries(project)[SEALED].model,) if what == "model" else (),
                repos=(f"local/{SEALED}",) if what == "repo" else (),
                adapters=(what,) if what in ADAPTERS else (),
            )
            records, stood = self._records(project, Judge(project, adapters)), self._stood(project)
            before = len(self._runs(project))
            with Run(
                project, Planner(project, adapters).plan(chosen), jobs=1, watcher=lambda _event: None
            ) as run:
                run_plan(run, fail_fast=False)
            assert run.fatal is None, run.fatal
            again = [
                (pair, key, reasons)
                for pair, key, reasons in self._runs(project)[before:]
                if (key in records or (pair, key) in stood) and "forgotten" not in reasons
            ]
            assert again == [], "an adapter ran although its work was there"

    def _runs(self, project: Project) -> list[tuple[tuple[int, int], str, str]]:
        rows = project.con.execute(
            "SELECT eid, aid, lower(hex(key)), value FROM attempts JOIN shared ON sid = reasons ORDER BY id"
        )
        return [((eid, aid), key, reasons) for eid, aid, key, reasons in rows]

    def _records(self, project: Project, judge: Judge) -> set[str]:
        """Return the keys with an intact record."""
        return {key for key in list(project.cache.keys()) if judge.restorable(key) is not None}

    def _stood(self, project: Project) -> set[tuple[tuple[int, int], str]]:
        """Return the pairs that have what they made, with its key."""
        return {(pair, item.key) for pair, item in pairs.outcomes(project.con).items() if item.lost is None}

    def outputs(self, data: Path | None = None) -> dict[str, str]:
        """Return how each pair stands: the bytes that were made, or why there are none."""
        with self.project(data) as project:
            judge = Planner(project, active(project)).judge
            return {
                f"{model} {name}": _output(project, judge.look(entry, name))
                for model, entry in self.entries(project).items()
                for name in judge.wanted(entry)
            }

    def clean(self) -> dict[str, str]:
        """Return the outputs of a clean build."""
        with tempfile.TemporaryDirectory(dir=self.box.root / "site") as data:
            self.build(data=Path(data))
            return self.outputs(Path(data))


def _output(project: Project, judged: Judged) -> str:
    outcome = judged.outcome
    if not judged.verdict.settled or outcome is None:
        return f"{judged.verdict.kind}"
    if outcome.reason is not None:
        return f"not applicable: {outcome.reason}"
    return (project.objects.artifacts / outcome.artifacts[0].uri).read_text()


def holds(steps: list[Step]) -> None:
    """Let everything happen, mend what fails, build, and compare with a clean build."""
    with tempfile.TemporaryDirectory() as directory:
        world = World(Sandbox(Path(directory)))
        world.build()
        for event, what in steps:
            world.happen(*event)
            world.build(what)
        world.fails = dict.fromkeys(ADAPTERS, False)
        world.build()
        assert world.outputs() == world.clean()
        assert world.box.audit() == []


def sequences(choices: st.SearchStrategy[str], most: int) -> st.SearchStrategy[list[Step]]:
    """Return sequences of events, each with what the run after it is about."""
    return st.lists(st.tuples(EVENTS, choices), min_size=1, max_size=most)


@settings(max_examples=3, deadline=None, database=None)
@given(sequences(WHOLE, 6))
def test_an_incremental_build_equals_a_clean_one(steps: list[Step]) -> None:
    """Edits, reverts, losses, failures, adapters that come and go: the result is the one of a clean build."""
    holds(steps)


@pytest.mark.slow
@settings(max_examples=int(os.environ.get("LAWS_EXAMPLES", "60")), deadline=None, database=None)
@given(sequences(WHOLE, 14))
def test_a_long_history_leaves_what_a_clean_build_leaves(steps: list[Step]) -> None:
    """The same law over longer histories and more of them; LAWS_EXAMPLES makes yet more."""
    holds(steps)


@pytest.mark.slow
@settings(max_examples=10, deadline=None, database=None)
@given(sequences(SELECTED, 6))
@example([(("script", "base", 1), "model"), (("script", "base", 0), "everything")])
@example([(("script", "small", 1), "repo"), (("script", "small", 0), "everything")])
def test_runs_over_a_part_leave_what_a_clean_build_leaves(steps: list[Step]) -> None:
    """The same law where runs were about one model, repo or adapter in between."""
    holds(steps)
