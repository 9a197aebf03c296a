"""What a review of the core found, each kept as the test that showed it."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import Sandbox
from test_needs import CONSUMER, PRODUCER, chain
from test_python_environments import ADAPTER, adapter, wheel, wheels
from test_two_at_once import start, wait_for

from cogbuild import library
from cogbuild.active import active
from cogbuild.database import feed, models, pairs, upkeep
from cogbuild.engine import Status
from cogbuild.errors import CogbuildError
from cogbuild.errors.models import PathIsNoText
from cogbuild.planner import Planner, Selection
from cogbuild.tasks.running import Run, run_plan
from cogbuild.verdict import Kind

__all__ = ["wheels"]

V2 = 'echo v2 > "$COG_OUTPUT_DIR/x"; echo "$COG_OUTPUT_DIR/x"'


def forget(box: Sandbox, repo: str, adapter_name: str) -> None:
    """Forget a pair as ``doit forget`` does."""
    judged = box.look(repo, adapter_name)
    with box.project() as project:
        aid = feed.adapter_id(project.con, adapter_name)
        assert aid is not None
        project.database.write(lambda con: feed.add_pending(con, aid, [judged.entry.eid], "forgotten"))


def verdict(box: Sandbox, repo: str, adapter_name: str) -> Kind:
    """Return what `explain` says."""
    return box.look(repo, adapter_name).verdict.kind


# -- the list and the marks ---------------------------------------------------------------------------------------


def test_an_edit_tried_on_one_model_and_taken_back_is_planned(box: Sandbox) -> None:
    """Edit an adapter, try it with --model, put it back: the next run brings that pair back."""
    box.adapter("one")
    added = box.add("a")
    box.adapt()
    box.adapter("one", box.counting("one", V2))
    assert box.adapt(added.model).ran == ["a one"]
    box.adapter("one")
    assert verdict(box, "a", "one") is Kind.RESTORABLE
    assert list(box.adapt().results) == ["a one"]


def test_an_edit_tried_on_one_repo_and_taken_back_is_planned(box: Sandbox) -> None:
    """Edit an adapter, try it with --repo, put it back: the next run brings that repo's pairs back."""
    box.adapter("one")
    box.add("a")
    box.adapt()
    box.adapter("one", box.counting("one", V2))
    with box.project() as project:
        plan = Planner(project, active(project)).plan(Selection(repos=("local/a",)))
        with Run(project, plan, jobs=1, watcher=lambda _event: None) as run:
            run_plan(run, fail_fast=False)
    box.adapter("one")
    assert list(box.adapt().results) == ["a one"]


def test_a_dry_run_of_one_model_writes_nothing(box: Sandbox) -> None:
    """`adapt --model ID --dry-run` takes nothing off the list and looks for no artifact to mark."""
    box.adapter("one")
    added = box.add("a")
    box.adapt()
    with box.project() as project:
        plan = Planner(project, active(project)).plan(Selection(models=(added.model,)), dry=True)
        assert plan.record is False


def test_a_failed_run_of_a_forgotten_pair_is_tried_again(box: Sandbox) -> None:
    """What was forgotten and then failed is not fresh: the next run tries it again."""
    flag = box.root / "broken"
    box.adapter("one", box.counting("one", f"[ -e {flag} ] && exit 1\n{V2}"))
    box.add("a")
    box.adapt()
    forget(box, "a", "one")
    flag.touch()
    assert box.adapt().status("a one") is Status.FAILED
    flag.unlink()
    assert box.adapt().ran == ["a one"]


def test_a_need_that_moved_while_the_pair_ran_is_noticed(box: Sandbox) -> None:
    """Another process rebuilds what a running pair needs: the pair is listed again when it has ended."""
    mark, go = box.root / "mark", box.root / "go"
    wait = f"touch {mark}; while [ ! -e {go} ]; do sleep 0.02; done; {CONSUMER}"
    chain(box)
    box.adapter("upper", box.counting("upper", wait), needs=["low"])
    box.add("a")
    first = threading.Thread(target=box.adapt)
    first.start()
    wait_for(mark)
    box.adapter("low", box.counting("low", PRODUCER.replace("fixed", "moved")))
    assert "a low" in box.adapt(adapters=("low",)).results
    go.touch()
    first.join()
    assert verdict(box, "a", "upper") is Kind.STALE
    assert list(box.adapt().results) == ["a upper"]


def test_a_test_that_was_cut_off_after_a_restore_is_run(box: Sandbox) -> None:
    """Killed between restoring an artifact and testing it: the next run tests it."""
    hold, mark = box.root / "hold", box.root / "mark"
    test = f"#!/bin/sh\nif [ -e {hold} ]; then touch {mark}; sleep 60; fi\n"
    box.adapter("one", test=test)
    box.add("a")
    box.adapt()
    box.adapter("one", box.counting("one", V2), test=test)
    box.adapt()
    box.adapter("one", test=test)
    hold.touch()
    process = start(box, "adapt", "-j", "1")
    wait_for(mark)
    process.kill()
    process.communicate(timeout=20)
    hold.unlink()
    assert verdict(box, "a", "one") is Kind.UNTESTED
    assert list(box.adapt().results) == ["a one"]


def test_a_registry_counts_for_who_asks_only_whether_there_is_one(box: Sandbox) -> None:
    """An adapter that uses COG_HAS_DOCKER_REGISTRY alone is judged again when a registry is set."""
    box.adapter("one", uses=["COG_HAS_DOCKER_REGISTRY", "COG_REPO_NAME"])
    box.add("a")
    box.adapt()
    box.configure(docker_registry="host:5000")
    assert verdict(box, "a", "one") is Kind.STALE
    assert box.adapt().ran == ["a one"]


@pytest.mark.slow
def test_an_upgraded_lock_that_two_adapters_share_moves_both(box: Sandbox, wheels: Path) -> None:
    """`adapters lock --upgrade one` replaces a lock that another adapter asks for too: that one is judged again."""
    from cogbuild.housekeeping import locking

    adapter(box)
    box.adapter("two", ADAPTER.format(ran=str(box.ran_file)), python={"packages": ["tinypkg"]})
    box.add("a")
    box.adapt()
    wheel(wheels, "tinypkg", "2.0")
    with box.project() as project:
        for group in locking.groups(project, active(project), ("one",)):
            assert locking.lock(project, group, upgrade=True).state == "changed"
    assert verdict(box, "a", "two") is Kind.STALE
    assert sorted(box.adapt().results) == ["a one", "a two"]


def test_a_model_removed_before_its_turn_is_passed_over(box: Sandbox) -> None:
    """`models rm` during a run: the pair is not run, fails nothing, and leaves no outcome."""
    box.adapter("one")
    added = box.add("a")
    with box.project() as project:
        plan = Planner(project, active(project)).plan()
        chunks = list(plan.chunks())
        library.remove(project, library.find(project, added.model)[0])
        with Run(project, plan, jobs=1, watcher=lambda _event: None) as run:
            run.expect(1)
            run.pair(chunks[0][0].entry.eid, "one")
        assert run.failures == []


def test_a_model_removed_while_it_is_built_keeps_no_outcome(box: Sandbox) -> None:
    """`models rm` releases outcomes, also the one that is just being made."""
    mark, go = box.root / "mark", box.root / "go"
    box.adapter("one", box.counting("one", f"touch {mark}; while [ ! -e {go} ]; do sleep 0.02; done; {V2}"))
    added = box.add("a")
    first = threading.Thread(target=box.adapt)
    first.start()
    wait_for(mark)
    with box.project() as project:
        library.remove(project, library.find(project, added.model)[0])
    go.touch()
    first.join()
    with box.project() as project:
        assert pairs.outcomes(project.con) == {}


def test_a_live_version_that_was_edited_before_its_turn_is_passed_over(box: Sandbox) -> None:
    """A live directory moves on between plan and run: its former version is not run and fails nothing."""
    box.adapter("one")
    box.configure(models=[str(box.model("a"))])
    with box.project() as project:
        plan = Planner(project, active(project)).plan()
        (judged,) = list(plan)
        box.model("a", {"weights.bin": "edited"})
        with box.project() as other:
            library.refresh_links(other)
        with Run(project, plan, jobs=1, watcher=lambda _event: None) as run:
            run.pair(judged.entry.eid, "one")
        assert run.failures == []
    box.adapt()


def test_another_python_is_planned(box: Sandbox, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The running Python was upgraded: pairs with an environment are stale, and the plan says so too."""
    from cogbuild.environment import python

    adapter(box)
    box.add("a")
    box.adapt()
    monkeypatch.setattr(python, "_running_version", lambda: "3.11.99")
    python.find_python.cache_clear()
    try:
        assert verdict(box, "a", "one") is Kind.STALE
        with box.project() as project:
            planned = [judged.name for judged in Planner(project, active(project)).plan()]
        assert len(planned) == 1
    finally:
        monkeypatch.undo()
        python.find_python.cache_clear()


def test_a_planned_restore_looks_again_at_what_it_restores(box: Sandbox) -> None:
    """Between plan and run `gc` takes an old record and its artifact: the pair is built, not said to be restored."""
    from cogbuild.housekeeping.collecting import collect

    box.adapter("one")
    box.add("a")
    box.adapt()
    box.adapter("one", box.counting("one", V2))
    box.adapt()
    box.adapter("one")
    with box.project() as project:
        plan = Planner(project, active(project)).plan()
        (judged,) = list(plan)
        assert judged.verdict.kind is Kind.RESTORABLE
        with box.project() as other:
            collect(other, older_than=-1)
        with Run(project, plan, jobs=1, watcher=lambda _event: None) as run:
            result = run.pair(judged.entry.eid, "one", judged)
    try:
        assert result is not None
        assert result.status is Status.BUILT
    finally:
        with box.project() as project:
            outcome = next(iter(pairs.outcomes(project.con).values()))
            project.database.write(lambda con: pairs.drop_outcome(con, outcome.eid, outcome.aid))


def test_settings_that_changed_between_plan_and_run_are_taken(box: Sandbox) -> None:
    """`models set` after the plan: the pair is built once, with the new parameters."""
    box.adapter("one", params={"level": 1})
    box.add("a")
    with box.project() as project:
        plan = Planner(project, active(project)).plan()
        (judged,) = list(plan)
        settings = {**judged.entry.settings, "params": {"one": {"level": 7}}}
        project.database.write(lambda con: models.change_entry(con, 1, settings=settings, cpu_image=None))
        with Run(project, plan, jobs=1, watcher=lambda _event: None) as run:
            run.pair(judged.entry.eid, "one", judged)
    assert box.adapt().ran == []


# -- one pair's trouble and the others ----------------------------------------------------------------------------


def test_a_model_whose_requirements_cannot_be_read_fails_alone(box: Sandbox, wheels: Path) -> None:
    """A requirement that is a path fails its own pair; the other model is built."""
    box.adapter(
        "one", ADAPTER.format(ran=str(box.ran_file)), python={"packages": ["tinypkg"], "with_model": True}
    )
    cog = 'build:\n  python_version: "3.11"\n  python_packages: ["./local.whl"]\npredict: predict.py:Predictor\n'
    box.add("a")
    box.add("b", {"cog.yaml": cog, "local.whl": "x"})
    run = box.adapt()
    assert run.status("a one") is Status.BUILT
    assert run.status("b one") is Status.FAILED


def test_a_missing_object_fails_its_own_model_alone(box: Sandbox) -> None:
    """A stored file of one model is gone: that pair fails, the other model is built."""
    box.adapter("one")
    box.add("a")
    added = box.add("b")
    with box.project() as project:
        tree = library.tree_of(project, library.find(project, added.model)[0].tree)
        item = tree.get("weights.bin")
        assert item is not None
        project.objects.path(item.value).unlink()
    try:
        run = box.adapt()
        assert run.ran == ["a one"]
        assert run.status("b one") is Status.FAILED
    finally:
        box.add("b")


@pytest.mark.parametrize("uri", ["x:\\ud800", "x:\\u0000y"])
def test_a_uri_that_is_no_text_fails_its_own_pair(box: Sandbox, uri: str) -> None:
    """A lone surrogate or a NUL in a listed URI is refused; other pairs go on."""
    line = f'{{"name": "n", "uri": "{uri}"}}'
    box.adapter("bad", f"#!/bin/sh\nprintf '%s\\n' '{line}' > \"$COG_ARTIFACTS_FILE\"\n")
    box.adapter("good")
    box.adapter("above", needs=["bad"])
    box.add("a")
    run = box.adapt()
    assert run.status("a bad") is Status.FAILED
    assert run.status("a good") is Status.BUILT


def test_a_parameter_that_no_variable_can_hold_fails_its_pair(box: Sandbox) -> None:
    """`models set --param one.level=JSON` with half a character: that pair fails, not the run."""
    box.adapter("one", params={"level": 1})
    box.adapter("two")
    box.add("a")
    with box.project() as project:
        settings = {**models.entries(project.con)[0].settings, "params": {"one": {"level": "a\ud800b"}}}
        project.database.write(lambda con: models.change_entry(con, 1, settings=settings, cpu_image=None))
    run = box.adapt()
    assert run.ran == ["a two"]
    assert run.status("a one") is Status.FAILED


@pytest.mark.parametrize(
    "rest",
    [
        'rm "$COG_ARTIFACTS_FILE"; mkdir "$COG_ARTIFACTS_FILE"; echo x:y',
        'rmdir "$COG_OUTPUT_DIR"; exit 0',
        'echo "file://[x"',
    ],
)
def test_what_an_adapter_does_to_its_own_directories_fails_its_pair(box: Sandbox, rest: str) -> None:
    """A list that became a directory, an output directory removed, a URI that no parser takes: the pair fails alone."""
    box.adapter("one", f"#!/bin/sh\n{rest}\n")
    box.adapter("two")
    box.add("a")
    run = box.adapt()
    assert run.status("a one") is Status.FAILED
    assert run.status("a two") is Status.BUILT


def test_a_list_of_artifacts_that_is_a_fifo_holds_nothing_up(box: Sandbox) -> None:
    """COG_ARTIFACTS_FILE replaced by a FIFO fails the pair at once."""
    box.adapter("one", '#!/bin/sh\nrm "$COG_ARTIFACTS_FILE"; mkfifo "$COG_ARTIFACTS_FILE"; echo x:y\n')
    box.add("a")
    ran = threading.Thread(target=box.adapt, daemon=True)
    ran.start()
    ran.join(1.5)
    hung = ran.is_alive()
    for fifo in (box.data / "work").glob("*/run-*/artifacts.jsonl"):
        os.close(os.open(fifo, os.O_RDWR | os.O_NONBLOCK))
        ran.join(5)
    assert not hung


def test_a_busy_cache_stops_no_run(box: Sandbox) -> None:
    """Another process holds the cache's lock for longer than we wait: the run goes on without the cache."""
    box.adapter("one")
    box.add("a")
    box.adapt()
    with box.project() as project:
        cache = project.cache
        key = next(iter(cache.keys()))
        record = cache.get(key)
        assert record is not None
        cache._try(lambda opened: opened.close())
        cache._opened._timeout = 0.05
        holder = sqlite3.connect(cache.directory / "cache.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        try:
            cache.put(record)
            cache.remove(key)
        finally:
            holder.close()


def test_logs_that_were_deleted_are_no_bug(box: Sandbox) -> None:
    """Somebody removes the directory of logs to make room: the next run makes it again."""
    import shutil

    box.adapter("one")
    box.add("a")
    shutil.rmtree(box.data / "logs")
    assert box.adapt().ran == ["a one"]


def test_a_need_not_applicable_beside_one_not_made_is_no_bug(box: Sandbox) -> None:
    """A pair with a need that is not applicable and another that went stale meanwhile ends in words."""
    box.adapter("na", "#!/bin/sh\necho no >&2\nexit 100\n", api=1)
    box.adapter("low")
    box.adapter("upper", needs=["na", "low"], inputs=["**"])
    box.add("a")
    box.adapt()
    forget(box, "a", "low")
    with box.project() as project:
        planner = Planner(project, active(project))
        entry = models.entries(project.con)[0]
        plan = planner.plan(Selection(models=(entry.model,)))
        with Run(project, plan, jobs=1, watcher=lambda _event: None) as run:
            run.pair(entry.eid, "upper")
        assert run.fatal is None


# -- names --------------------------------------------------------------------------------------------------------


def test_a_live_directory_whose_name_is_no_text(box: Sandbox) -> None:
    """A linked directory with a byte that is no UTF-8 in its name is refused in words."""
    directory = box.model("m")
    odd = directory.rename(os.fsdecode(os.fsencode(box.root) + b"/m\xff"))
    with box.project() as project, pytest.raises(PathIsNoText):
        library.link(project, odd)


def test_an_adapter_directory_whose_name_is_no_text(box: Sandbox) -> None:
    """An adapter's directory with a byte that is no UTF-8 in its name is refused in words."""
    directory = box.adapter("one", activate=False)
    odd = directory.rename(os.fsdecode(os.fsencode(box.root) + b"/one\xff"))
    box.add("a")
    with box.project() as project, pytest.raises(PathIsNoText):
        active(project, [odd])


def test_an_ignore_file_that_is_a_fifo_is_refused_unopened(box: Sandbox) -> None:
    """A FIFO called .dockerignore does not hang `models add`."""
    directory = box.model("a")
    os.mkfifo(directory / ".dockerignore")
    ended = threading.Event()

    def add() -> None:
        with box.project() as project, pytest.raises(CogbuildError):
            library.add(project, directory)
        ended.set()

    thread = threading.Thread(target=add, daemon=True)
    thread.start()
    hung = not ended.wait(1)
    if hung:
        os.close(os.open(directory / ".dockerignore", os.O_RDWR | os.O_NONBLOCK))
        thread.join(5)
    assert not hung


def test_an_ignore_file_that_cannot_be_read_is_refused_in_words(box: Sandbox) -> None:
    """.dockerignore as a link to itself is an error that names it."""
    directory = box.model("a")
    (directory / ".dockerignore").symlink_to(".dockerignore")
    with box.project() as project, pytest.raises(CogbuildError):
        library.add(project, directory)


def test_a_live_directory_that_cannot_be_opened_stops_nothing_else(box: Sandbox) -> None:
    """A live directory that became a link to itself is a problem of its own."""
    import shutil

    box.adapter("one")
    box.configure(models=[str(box.model("a")), str(box.model("b"))])
    box.adapt()
    shutil.rmtree(box.root / "models" / "a")
    (box.root / "models" / "a").symlink_to("a")
    box.model("b", {"weights.bin": "new"})
    run = box.adapt()
    assert run.ran == ["b one"]
    assert len(run.plan.problems) == 1


# -- settings of live and returned models -------------------------------------------------------------------------


def test_what_models_set_said_survives_an_edit_that_is_taken_back(box: Sandbox) -> None:
    """Edit a live model and put it back: the version that returns has the parameters that `models set` gave it."""
    box.adapter("one", params={"level": 1})
    box.configure(models=[str(box.model("a"))])
    box.adapt()
    with box.project() as project:
        entry = models.entries(project.con)[0]
        settings = {**entry.settings, "params": {"one": {"level": 7}}}
        project.database.write(
            lambda con: models.change_entry(con, entry.eid, settings=settings, cpu_image=None)
        )
    assert box.artifact(box.adapt(), "a one").read_text() == "aone 7\n"
    box.model("a", {"weights.bin": "edited"})
    box.adapt()
    box.model("a")
    box.adapt()
    with box.project() as project:
        assert models.entries(project.con)[0].settings["params"] == {"one": {"level": 7}}


def test_touching_the_wishes_of_a_live_model_changes_nothing(box: Sandbox) -> None:
    """Another time of cog-adapters.yaml does not take back what `models set` said."""
    box.adapter("one", params={"level": 1})
    box.configure(models=[str(box.model("a", {"cog-adapters.yaml": "adapters: [one]\n"}))])
    box.adapt()
    with box.project() as project:
        entry = models.entries(project.con)[0]
        settings = {**entry.settings, "params": {"one": {"level": 7}}}
        project.database.write(
            lambda con: models.change_entry(con, entry.eid, settings=settings, cpu_image=None)
        )
    box.adapt()
    os.utime(box.root / "models" / "a" / "cog-adapters.yaml", (1, 1))
    assert box.adapt().results == {}


def test_a_model_removed_and_added_again_has_the_wishes_it_came_with(box: Sandbox) -> None:
    """After `models rm`, cog-adapters.yaml seeds the settings as at any first time."""
    box.adapter("one", params={"level": 1})
    added = box.add("a")
    with box.project() as project:
        library.remove(project, library.find(project, added.model)[0])
    box.add("a", {"cog-adapters.yaml": "params: {one: {level: 7}}\n"})
    assert box.artifact(box.adapt(), "a one").read_text() == "aone 7\n"


# -- secrets ------------------------------------------------------------------------------------------------------


def test_a_secret_that_an_adapter_says_is_kept_nowhere(box: Sandbox) -> None:
    """The value of a secret variable is in no row, record or log, whatever the adapter prints."""
    box.environ["HF_TOKEN"] = "hf-0123456789-very-secret"
    box.adapter(
        "one",
        '#!/bin/sh\necho "no access with $HF_TOKEN" >&2\nexit 100\n',
        api=1,
        env={"secret": ["HF_TOKEN"]},
    )
    box.adapter("two", '#!/bin/sh\necho "https://u:$HF_TOKEN@host/x"\n', env={"secret": ["HF_TOKEN"]})
    box.add("a")
    box.adapt()
    found = [
        str(path.relative_to(box.data))
        for path in box.data.rglob("*")
        if path.is_file() and box.environ["HF_TOKEN"].encode() in path.read_bytes()
    ]
    assert found == []


# -- growth -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_threads_of_finished_batches_leave_no_descriptors(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of many batches with two jobs opens no more files than one of few."""
    monkeypatch.setattr("cogbuild.planner.plan.CHUNK", 2)
    box.adapter("one", "#!/bin/sh\necho x:y\n")
    for number in range(120):
        box.add(f"m{number}")
    most = []
    with box.project() as project:
        plan = Planner(project, active(project)).plan()
        with Run(
            project, plan, jobs=2, watcher=lambda _event: most.append(len(os.listdir("/proc/self/fd")))
        ) as run:
            run_plan(run, fail_fast=False)
    # Each pair that has begun has two: two workers are sent eight each at most, and 24 wait to be recorded.
    assert max(most) - most[0] < 2 * (2 * 8 + 24) + 8, most


@pytest.mark.parametrize(
    "what",
    [
        "link_of",
        "retire",
        "carrying",
        "naming",
        "is_named",
        "moved",
    ],
)
def test_a_question_about_one_pair_reads_no_whole_table(box: Sandbox, what: str) -> None:
    """What is asked for one pair, model or artifact is answered by an index."""
    box.add("a")
    artifact = pairs.Artifact("", "ab/x", digest="ab" * 32, size=1, published=True)
    ask: dict[str, Any] = {
        "link_of": lambda con: models.link_of(con, 1),
        "carrying": lambda con: upkeep.carrying(con, "ab" * 32),
        "naming": lambda con: upkeep.naming(con, artifact),
        "retire": lambda con: models.retire(con, 99),
        "moved": lambda con: models.moved(con, 1),
        "is_named": lambda con: pairs.is_named(con, "ab" * 32),
    }
    statements: list[str] = []
    with box.project() as project:
        project.con.set_trace_callback(statements.append)
        ask[what](project.con)
        project.con.set_trace_callback(None)
        steps = [
            row[3]
            for sql in statements
            for row in project.con.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()
        ]
    assert not any(step.startswith("SCAN") for step in steps), steps


def test_adapters_that_need_many_are_judged_once_each(box: Sandbox) -> None:
    """Judging the top of eleven adapters, each needing all before it, asks no thousand times more than of five."""
    asked = []
    names = [f"l{number}" for number in range(11)]
    for number, name in enumerate(names):
        box.adapter(name, "#!/bin/sh\necho x:y\n", needs=names[:number], uses=[])
    box.add("a")
    box.adapt()
    with box.project() as project:
        judge = Planner(project, active(project)).judge
        entry = models.entries(project.con)[0]
        for top in ("l4", "l10"):
            statements: list[str] = []
            project.con.set_trace_callback(statements.append)
            judge.look(entry, top)
            project.con.set_trace_callback(None)
            asked.append(len(statements))
    assert asked[1] < 10 * asked[0], asked
