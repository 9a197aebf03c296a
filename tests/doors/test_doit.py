"""The door that doit opens: what a doit user expects holds for pairs."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Sandbox
from warm import Warm

from cogbuild import library
from cogbuild.database import models

MANUAL = Path(__file__).parents[2] / "docs" / "cli.md"

DODO = '''"""Tasks of the user's own beside the pairs."""


def task_own():
    """Copy a file."""
    return {"actions": ["cp in.txt out.txt"], "file_dep": ["in.txt"], "targets": ["out.txt"]}
'''

#: Counts the tasks of pairs that doit knows.
COUNTED = """
from doit.control import TaskControl
tasks = []
first = TaskControl.process
def process(self, selection):
    tasks[:] = [name for name in self.tasks if name.startswith("adapt:")]
    return first(self, selection)
TaskControl.process = process
"""


class Doit:
    """Runs the real ``doit`` in the sandbox's site."""

    def __init__(self, box: Sandbox, warm: Warm) -> None:
        self.box = box
        self.warm = warm
        self.site = box.root / "site"
        (self.site / "doit.cfg").write_text("[GLOBAL]\nloader = cogbuild\n")
        (self.site / "dodo.py").write_text("")

    def __call__(self, *args: str, code: int | None = 0) -> str:
        """Run doit and return what it wrote to both streams."""
        env = {**os.environ, **self.box.environ}
        ended = self.warm.run("doit", *args, cwd=self.site, env=env)
        assert code is None or ended.returncode == code, ended.stdout + ended.stderr
        return ended.stdout + ended.stderr

    def own(self, *tasks: str, head: str = "") -> None:
        """Write ``dodo.py`` with tasks of the user's own, t0, t1 and so on."""
        made = (f"def task_t{number}():\n    return {task}\n" for number, task in enumerate(tasks))
        (self.site / "dodo.py").write_text("\n\n".join([head, *made]))

    def task(self, repo: str, adapter: str) -> str:
        """Return the name of a pair's task."""
        with self.box.project() as project:
            (entry,) = models.entries(project.con, repos=[f"local/{repo}"])
        return f"adapt:{entry.repo}@{entry.model[:12]}:{adapter}"


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    """A process that has imported doit and what is ours."""
    started = Warm()
    yield started
    started.close()


@pytest.fixture
def doit(box: Sandbox, warm: Warm) -> Doit:
    """Real doit in a site with two models and two adapters."""
    box.adapter("one")
    box.adapter("two")
    box.add("a")
    box.add("b")
    return Doit(box, warm)


def test_doit_builds_what_is_not_fresh_and_says_so(doit: Doit) -> None:
    """The first run builds everything and shows the artifacts; the second has nothing to do, and doit remembers nothing."""
    first = doit()
    assert sorted(doit.box.ran()) == ["a one", "a two", "b one", "b two"]
    assert first.count("\n  file://") == 4
    assert "\n4 built\n" in first
    assert doit() == "4 fresh\n"
    assert len(doit.box.ran()) == 4
    assert sorted(path.name for path in doit.site.iterdir() if path.name != "__pycache__") == [
        ".cogbuild",
        "cogbuild.yaml",
        "dodo.py",
        "doit.cfg",
    ]


def test_list_names_every_pair(doit: Doit) -> None:
    """``doit list --all --status`` shows by the tasks' names what is up to date and what would run."""
    doit.box.adapt(adapters=("one",))
    lines = doit("list", "--all", "--status").splitlines()
    assert ["U", doit.task("a", "one")] in [line.split()[:2] for line in lines]
    assert [line[0] for line in lines if ":one" in line] == ["U", "U"]
    assert [line[0] for line in lines if ":two" in line] == ["R", "R"]


@pytest.mark.slow
def test_list_makes_no_task_that_it_does_not_show(doit: Doit) -> None:
    """Without ``--all`` the group stands for its pairs, however many there are."""
    made = doit.site / "made"
    (doit.site / "dodo.py").write_text(
        "from cogbuild.tasks import chosen\nfrom pathlib import Path\nreal = chosen.described\n"
        f"chosen.described = lambda *args: (Path({str(made)!r}).touch(), real(*args))[1]\n"
        "def task_own(): return {'actions': None, 'doc': 'one of mine', 'task_dep': ['adapt']}\n"
    )
    assert [line.split()[0] for line in doit("list").splitlines()] == ["adapt", "own"]
    assert not made.exists()
    assert len(doit("list", "--all").splitlines()) == 6
    assert made.exists()


def test_info_names_files_and_environment(doit: Doit) -> None:
    """``doit info`` names the model's files, the adapter's files and the environment; nothing is hashed."""
    text = doit("info", doit.task("a", "one"), code=1)
    for part in (
        "/weights.bin",
        "/predict.py",
        "/adapters/one/adapter.sh",
        "'platform': 'Linux",
        "COG_MODEL_ID",
        "never built",
    ):
        assert part in text


def test_a_task_by_name_runs_that_pair_alone(doit: Doit) -> None:
    """One name, one pair; a fresh one is up to date."""
    name = doit.task("a", "one")
    doit(name)
    assert doit.box.ran() == ["a one"]
    assert f"-- {name}" in doit(name)


def test_a_wildcard_runs_what_it_matches(doit: Doit) -> None:
    """``doit 'adapt:*:two'`` builds the column."""
    doit("adapt:*:two")
    assert sorted(doit.box.ran()) == ["a two", "b two"]


def test_four_jobs(doit: Doit) -> None:
    """``doit -n 4`` builds the same, and one failure is exit 1 and undoes nothing."""
    doit.box.adapter("bad", doit.box.counting("bad", "exit 1"))
    text = doit("-n", "4", code=1)
    assert len(doit.box.ran()) == 6
    assert "4 built, 2 failed" in text


def test_forget_makes_a_pair_stale_and_passes_its_record_over(doit: Doit) -> None:
    """After ``doit forget NAME`` the adapter runs again although the cache knows the work."""
    doit()
    name = doit.task("a", "one")
    assert f"forgetting {name}" in doit("forget", name)
    assert "forgotten on request" in doit("info", name, code=1)
    doit()
    assert doit.box.ran()[4:] == ["a one"]
    doit("forget")
    doit()
    assert len(doit.box.ran()) == 9


def test_clean_drops_outcome_and_artifact(doit: Doit) -> None:
    """``doit clean NAME`` removes the published file; the next run builds it anew."""
    doit()
    name = doit.task("a", "one")
    assert "removed file://" in doit("clean", name)
    doit()
    assert doit.box.ran()[4:] == ["a one"]


def test_ignore_passes_a_pair_over_until_it_is_forgotten(doit: Doit) -> None:
    """An ignored pair does not run; forgetting it ends that."""
    name = doit.task("a", "one")
    doit("ignore", name)
    text = doit()
    assert f"!! {name}" in text
    assert "a one" not in doit.box.ran()
    doit("forget", name)
    doit()
    assert "a one" in doit.box.ran()


def test_always_runs_what_is_fresh(doit: Doit) -> None:
    """``doit -a`` forces every pair."""
    doit()
    doit("-a")
    assert len(doit.box.ran()) == 8


def test_a_blocked_pair_exits_with_two_and_names_its_need(doit: Doit) -> None:
    """A pair whose need failed is told of as blocked; doit's own code for an unmet dependency is 2."""
    doit.box.adapter("bad", doit.box.counting("bad", "exit 1"))
    doit.box.adapter("upper", needs=["bad"])
    text = doit(code=2)
    assert text.count("needs bad, which failed: bad failed on local/") >= 2
    assert "4 built, 2 failed, 2 blocked" in text


def test_tasks_of_the_users_own_keep_working(doit: Doit) -> None:
    """A task in dodo.py runs beside the pairs, with doit's own up-to-date rules and state."""
    (doit.site / "dodo.py").write_text(DODO)
    (doit.site / "in.txt").write_text("1")
    assert ".  own" in doit()
    assert "-- own" in doit()
    assert (doit.site / "out.txt").read_text() == "1"
    assert doit("own", code=0).strip() == "-- own"


def test_default_tasks_are_what_runs(doit: Doit) -> None:
    """``DOIT_CONFIG["default_tasks"]`` says what plain ``doit`` runs: own tasks alone, or pairs too."""
    head = 'DOIT_CONFIG = {"default_tasks": ["t0"]}'
    doit.own('{"actions": ["echo first"]}', '{"actions": ["echo second"]}', head=head)
    assert doit() == ".  t0\nfirst\n"
    doit.own('{"actions": ["echo first"]}', head=head.replace("t0", "adapt:*:one"))
    assert doit().count("2 built\n") == 1
    assert sorted(doit.box.ran()) == ["a one", "b one"]
    doit.own('{"actions": ["echo first"]}', head='DOIT_CONFIG = {"default_tasks": []}')
    assert doit() == ""
    assert len(doit.box.ran()) == 2


@pytest.mark.slow
def test_wildcards_choose_pairs_wherever_they_stand(doit: Doit) -> None:
    """Also before the colon; one that means the group means all pairs, and own tasks of such names."""
    assert "\n2 built\n" in doit("ada*:one")
    assert "\n2 built\n" in doit("*:two")
    doit.own('{"actions": ["echo mine"], "basename": "adaptable"}')
    assert doit("adapt*") == ".  adaptable\nmine\n4 fresh\n"
    assert doit("t*") == ""


def test_a_target_of_tasks_that_are_made_later_has_its_pairs_built_before(doit: Doit) -> None:
    """What makes them names a pattern of targets and what is to be done first."""
    (doit.site / "dodo.py").write_text(
        "from doit import create_after\n"
        "@create_after(executed='adapt', target_regex='late.*')\n"
        "def task_late():\n"
        "    yield {'name': 'm', 'actions': ['wc -l < ../ran > late.m'], 'targets': ['late.m']}\n"
    )
    doit("late.m")
    assert (doit.site / "late.m").read_text().strip() == "4"


def test_an_own_task_may_depend_on_every_pair(doit: Doit) -> None:
    """``task_dep: ["adapt"]`` runs after all pairs, by name and in a run of everything, again and again; other tasks stay."""
    doit.own('{"actions": ["wc -l < ../ran"], "task_dep": ["adapt"]}', '{"actions": ["echo freely"]}')
    assert "freely\n" in doit("t1")
    assert doit.box.ran() == []
    assert "\n4\n4 built\n" in doit("t0")
    assert "\n4\n4 fresh\n" in doit("t0")
    assert "\n4\n.  t1\nfreely\n4 fresh\n" in doit()
    assert doit("-n", "2", "adapt") == "4 fresh\n"


@pytest.mark.slow
@pytest.mark.parametrize("wildcard", [False, True])
def test_an_own_task_may_depend_on_single_pairs(doit: Doit, wildcard: bool) -> None:
    """A pair's name or a wildcard in ``task_dep``: these are built first and no others; once they are fresh it still works."""
    name = doit.task("a", "two")
    doit.box.adapter("two", needs=["one"])
    doit.own(
        f'{{"actions": ["wc -l < ../ran"], "task_dep": ["{"adapt:local/a@*:two" if wildcard else name}"]}}'
    )
    assert "\n2\n2 built\n" in doit("t0")
    assert doit.box.ran() == ["a one", "a two"]
    assert "2\n" in doit("t0")
    assert "2 built, 2 fresh\n" in doit("adapt")
    for _ in range(2):
        assert "4\n4 fresh\n" in doit()
    assert ("-- " + name in doit("t0")) == (not wildcard)
    assert len(doit.box.ran()) == 4


@pytest.mark.slow
def test_own_tasks_depend_on_pairs_through_each_other(doit: Doit) -> None:
    """A target that is another own task's file, ``setup`` and ``calc_dep`` lead to pairs as ``task_dep`` does."""
    a, b = doit.task("a", "one"), doit.task("b", "one")
    doit.own(
        f'{{"actions": ["cp ../ran t"], "targets": ["t"], "task_dep": ["{a}"]}}',
        '{"actions": ["cat t"], "file_dep": ["t"]}',
        f'{{"actions": ["cat ../ran"], "setup": ["{b}"], "uptodate": [True]}}',
        f'{{"actions": ["cat ../ran"], "calc_dep": ["{doit.task("b", "two")}"]}}',
    )
    assert "\na one\n1 built\n" in doit("t1")
    assert doit("t2") == "-- t2\n", "it is up to date, so nothing is set up, and of that nothing is said"
    assert "\na one\nb two\n1 built\n" in doit("t3")
    assert "b one" in doit("-a", "t2")


def test_an_own_task_does_not_run_when_a_pair_that_it_depends_on_failed(doit: Doit) -> None:
    """That is doit's way: the task is named with what it lacks, others run, and the exit code is 2."""
    doit.box.adapter("bad", doit.box.counting("bad", "exit 1"))
    doit.own(
        '{"actions": ["echo all"], "task_dep": ["adapt"]}',
        '{"actions": ["echo good"], "task_dep": ["adapt:*:one"]}',
        '{"actions": ["echo bad"], "task_dep": ["adapt:*:bad"]}',
    )
    text = doit("-n", "2", code=2)
    assert "taskid:t0\nadapt\n" in text
    assert "taskid:t2\nadapt:local/" in text
    assert "taskid:adapt" not in text
    assert "\ngood\n" in text
    assert "\nall\n" not in text
    assert "\nbad\n" not in text
    assert "4 built, 2 failed\n" in text


@pytest.mark.slow
def test_other_commands_know_the_pairs_of_own_tasks(doit: Doit) -> None:
    """``list``, ``clean`` and ``forget`` of an own task that names a pair, with and without what it depends on."""
    name = doit.task("a", "one")
    doit.own(f'{{"actions": [], "task_dep": ["{name}"]}}')
    doit("t0")
    assert doit("list", "--all", "t0").strip() == "t0"
    assert doit("clean", "-n", "t0") == ""
    assert name in doit("clean", "-n", "-c", "t0")
    assert name in doit("forget", "-s", "t0")
    doit("t0")
    assert doit.box.ran() == ["a one", "a one"]


def test_an_own_task_that_asks_for_results_of_pairs_runs(doit: Doit) -> None:
    """No result of a pair is in doit's state: it would take none for the same as none."""
    doit.own(
        '{"actions": ["echo again"], "uptodate": [result_dep("adapt")]}',
        head="from doit.tools import result_dep",
    )
    for _ in range(3):
        assert "\nagain\n" in doit("t0")


@pytest.mark.slow
def test_what_the_manual_says_of_own_tasks(doit: Doit) -> None:
    """The example of docs/cli.md does what is said there."""
    box = doit.box
    box.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    box.adapter("archive")
    box.add("hello", repo="ada/hello")
    part = MANUAL.read_text().partition("\n## doit\n")[2].partition("\n## ")[0]
    (example,) = re.findall(r"```python\n(.*?)```", part, re.DOTALL)
    (doit.site / "dodo.py").write_text(example)
    assert "\n1 built\n" in doit("archives")
    assert box.ran() == ["hello archive"]
    assert "\n8 built, 1 fresh\n" in doit("pack")
    made = json.loads(gzip.decompress((doit.site / "made.json.gz").read_bytes()))
    assert len(made["artifacts"]) == 9
    assert doit().count("\n9 fresh\n") == 1
    box.adapter("archive", box.counting("archive", "exit 1"))
    text = doit(code=2)
    assert [f"UnmetDependency - taskid:{name}\n" in text for name in ("inventory", "archives", "pack")] == [
        True
    ] * 3


def test_a_name_that_no_pair_has_is_refused(doit: Doit) -> None:
    """An own task that depends on no pair that there is: doit says so, as of every task."""
    doit.own('{"actions": [], "task_dep": ["adapt:local/a@000000000000:one"]}')
    assert "'adapt:local/a@000000000000:one' does not exist" in doit(code=3)


def test_of_fresh_pairs_that_a_wildcard_means_no_tasks_are_made(doit: Doit) -> None:
    """There may be many: what doit is told of by ``adapt`` and by wildcards in ``task_dep`` is what has to run."""
    doit()
    doit.box.add("c")
    doit.own(
        *(
            f'{{"actions": [lambda: print("TASKS", len(module.tasks))], "task_dep": ["{dep}"]}}'
            for dep in ("adapt", "adapt:*:one")
        ),
        head="import module",
    )
    (doit.site / "module.py").write_text(COUNTED)
    assert "TASKS 1\n" in doit("t1")
    assert "TASKS 1\n" in doit("t0")
    assert "TASKS 0\n" in doit("t0")


def test_single_does_not_count_what_was_not_asked_for(doit: Doit) -> None:
    """``doit --single`` of a pair that needs another is blocked, and of the other nothing is said."""
    doit.box.adapter("two", needs=["one"])
    assert doit("--single", doit.task("a", "two"), code=1).splitlines()[-1] == "1 blocked"
    assert doit.box.ran() == []


def test_a_live_directory_that_is_gone_is_told_of_and_exits_with_two(doit: Doit) -> None:
    """The exit code is that of ``cogbuild adapt``: not all that was asked for could be looked at."""
    with doit.box.project() as project:
        library.link(project, doit.box.model("live"))
    doit()
    shutil.rmtree(doit.box.root / "models" / "live")
    text = doit(code=2)
    assert "models/live is not there\n" in text
    assert text.endswith("6 fresh\n")


def test_a_wrong_declaration_is_told_without_a_traceback(doit: Doit) -> None:
    """An error of ours comes in our form through doit, with doit's code for such errors."""
    (doit.box.root / "adapters" / "one" / "cog-adapter.yaml").write_text(
        "name: one\nscript: adapter.sh\ncolour: red\n"
    )
    text = doit(code=3)
    assert "Traceback" not in text
    assert "colour" in text


def test_the_checkout_itself_is_a_project() -> None:
    """``doit list`` works at the top of the checkout, where dodo.py holds no logic."""
    top = Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-m", "doit", "list"],
        cwd=top,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("adapt")
