"""The law of the store: whatever is done to it in whatever order, everything that is kept agrees with everything else."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from conftest import Sandbox
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cogbuild import library
from cogbuild.audit import audit
from cogbuild.database import models
from cogbuild.housekeeping import lost, made
from cogbuild.housekeeping.collecting import collect

NAMES = st.sampled_from(["a", "b"])
SCRIPTS = {
    "file": 'cat weights.bin > "$COG_OUTPUT_DIR/made"; echo "$COG_OUTPUT_DIR/made"',
    "uri": "echo s3://somewhere/$COG_MODEL_ID",
    "fails": "exit 1",
    "none": "echo not for this one >&2; exit 100",
}


class Store(RuleBasedStateMachine):
    """Models come, change and go; adapters do what they like; things are lost, forgotten and collected."""

    def __init__(self) -> None:
        super().__init__()
        self.top = Path(tempfile.mkdtemp())
        self.box = Sandbox(self.top)
        self.box.adapter("one", f"#!/bin/sh\n{SCRIPTS['file']}\n", api=1)

    def teardown(self) -> None:
        """Remove it."""
        shutil.rmtree(self.top)

    @rule(name=NAMES, content=st.sampled_from(["x", "y", "x" * 5000]))
    def add(self, name: str, content: str) -> None:
        """A model, or another version of it, or one that is there already."""
        self.box.add(name, {"weights.bin": content})

    @rule(does=st.sampled_from(sorted(SCRIPTS)))
    def change_adapter(self, does: str) -> None:
        """The adapter does something else from now on."""
        self.box.adapter("one", f"#!/bin/sh\n{SCRIPTS[does]}\n", api=1)

    @rule(on=st.booleans())
    def second_adapter(self, on: bool) -> None:
        """Another adapter needs what the first made, or is not there."""
        directory = self.box.adapter(
            "two", '#!/bin/sh\necho "s3://of/$COG_MODEL_ID"\n', activate=False, needs=["one"]
        )
        kept = [str(self.box.root / "adapters" / "one")]
        self.box.configure(adapters=[*kept, str(directory)] if on else kept)

    @rule()
    def adapt(self) -> None:
        """Build what is not fresh."""
        self.box.adapt()

    @precondition(lambda self: self.box.data.exists())
    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        """Let the last version of a model go."""
        with self.box.project() as project:
            for entry in models.entries(project.con, repos=[f"local/{name}"])[:1]:
                library.remove(project, entry)

    @precondition(lambda self: self.box.data.exists())
    @rule()
    def lose(self) -> None:
        """Somebody removes what was published, and it is noticed."""
        with self.box.project() as project:
            for path in project.objects.artifacts.glob("*/*/*"):
                path.unlink()
            list(lost.verify(project, made.every(project)))

    @rule()
    def drop_cache(self) -> None:
        """The cache is deleted, as anybody may."""
        shutil.rmtree(self.box.data / "cache", ignore_errors=True)

    @precondition(lambda self: self.box.data.exists())
    @rule()
    def collect(self) -> None:
        """Take what nothing needs."""
        with self.box.project() as project:
            collect(project)

    @invariant()
    def all_agrees(self) -> None:
        """The audit finds nothing."""
        if self.box.data.exists():
            with self.box.project() as project:
                assert audit(project) == []


def _under(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        Store, settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None)
    )


def test_a_store_agrees_with_itself_whatever_is_done_to_it() -> None:
    """Some short histories."""
    _under(4, 8)


@pytest.mark.slow
def test_a_store_agrees_with_itself_at_length() -> None:
    """Longer ones; STORE_EXAMPLES makes more of them."""
    _under(int(os.environ.get("STORE_EXAMPLES", "20")), 25)
