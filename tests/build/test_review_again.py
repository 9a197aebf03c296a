"""What a second look at the core found wrong: each test fails until its defect is mended."""

from __future__ import annotations

import threading
import tracemalloc
from typing import Any

from conftest import Sandbox
from test_needs import PRODUCER, chain
from test_two_at_once import wait_for

from cogbuild import library
from cogbuild.active import active
from cogbuild.database import pairs
from cogbuild.planner import Planner, Selection
from cogbuild.tasks.running import Run
from cogbuild.verdict import Kind


def test_a_model_removed_while_it_is_built_takes_no_part_from_the_next(box: Sandbox) -> None:
    """What two models' outcomes share is kept, although the first model was removed while it was built."""
    mark, go = box.root / "mark", box.root / "go"
    wait = f"touch {mark}; while [ ! -e {go} ]; do sleep 0.02; done"
    box.adapter("one", box.counting("one", f'{wait}; echo 1 > "$COG_OUTPUT_DIR/x"; echo "$COG_OUTPUT_DIR/x"'))
    box.add("a")
    newest = box.add("b")
    first = threading.Thread(target=box.adapt)
    first.start()
    wait_for(mark)
    with box.project() as project:
        library.remove(project, library.find(project, newest.model)[0])
    go.touch()
    first.join()
    assert box.audit() == []


def test_a_need_that_moved_between_look_and_settling_keeps_its_pair_listed(box: Sandbox) -> None:
    """A pair is judged fresh, then another process makes something else of what it needs: the next run notices."""
    chain(box)
    added = box.add("a")
    box.adapt()
    with box.project() as project:
        plan = Planner(project, active(project)).plan(Selection(models=(added.model,)))
        look = plan.judge.look

        def then_moved(entry: Any, name: str, *rest: Any) -> Any:
            judged = look(entry, name, *rest)
            if name == "upper":
                chain(box, producer=PRODUCER.replace("fixed", "moved"))
                box.adapt(adapters=("low",))
            return judged

        plan.judge.look = then_moved  # type: ignore[method-assign,assignment] # what another process does meanwhile
        list(plan)
    assert box.look("a", "upper").verdict.kind is not Kind.FRESH
    assert "a upper" in box.adapt().results


def test_a_loss_between_look_and_restoring_is_not_taken_back(box: Sandbox) -> None:
    """An artifact is found lost just before a record that names it is restored: the pair does not count as fresh."""
    box.adapter("one", uses=["COG_REPO_NAME"])
    box.add("a")
    made = box.artifact(box.adapt(), "a one")
    box.adapter("one", box.counting("one", 'echo 2 > "$COG_OUTPUT_DIR/x"; echo "$COG_OUTPUT_DIR/x"'))
    box.adapt()
    box.adapter("one", uses=["COG_REPO_NAME"])
    with box.project() as project, box.project() as other:
        plan = Planner(project, active(project)).plan()
        (judged,) = list(plan)
        assert judged.record is not None
        record = judged.record
        with Run(project, plan, jobs=1, watcher=lambda _event: None) as run:
            restored = run.engine._recorder.restored

            def lost_first(*args: Any, **options: Any) -> Any:
                made.unlink()
                names = pairs.lost_names(record.artifacts)
                other.database.write(
                    lambda con: (
                        con.executemany(
                            "INSERT INTO lost VALUES (?, 1)", [(name,) for name in names]
                        ).rowcount
                    )
                )
                return restored(*args, **options)

            run.engine._recorder.restored = lost_first  # type: ignore[method-assign]
            run.pair(judged.entry.eid, "one", judged)
    box.adapt()
    assert made.exists()


def test_a_huge_list_of_artifacts_is_not_read_into_memory(box: Sandbox) -> None:
    """COG_ARTIFACTS_FILE grown to 100 MB of nothing costs no memory to refuse."""
    box.adapter("one", '#!/bin/sh\ntruncate -s 100M "$COG_ARTIFACTS_FILE"; echo x:y\n')
    box.add("a")
    tracemalloc.start()
    try:
        box.adapt()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32 << 20, peak
