"""Nothing to do is told by stats and one query, and only where the planner would find nothing either."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Sandbox

from cogbuild import library, quiet
from cogbuild.active import active, survey
from cogbuild.database import feed, models
from cogbuild.fingerprint import glance

SHIM = """#!/bin/sh
if test "$1" = --version; then echo "mine {version}"; else exec /bin/sh "$@"; fi
"""


@pytest.fixture
def project(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """Two adapters, a sealed model and a live one, all built; files are trusted as soon as they are written."""
    monkeypatch.setattr(glance, "RACY_NS", 0)
    box.adapter("one", env={"hash": ["FLAVOUR"]})
    box.adapter("two", needs=["one"])
    live = box.model("live", {"sub/a": "1", ".dockerignore": ".dockerignore\nsub/out\n", "sub/out/b": "2"})
    box.configure(models=[str(box.root / "models" / "li*")])
    assert live.is_dir()
    box.add("sealed")
    box.adapt()
    time.sleep(0.01)  # longer than a tick of the file system's clock
    box.adapt()
    return box


def fresh(box: Sandbox) -> int | None:
    """Return what is told without a closer look; where something is told, the planner must agree."""
    told = quiet.fresh_pairs(str(box.data), box.environ)
    if told is not None:
        outcome = box.adapt()
        assert (outcome.results, outcome.plan.pairs, outcome.plan.problems) == ({}, told, [])
    return told


def test_what_is_built_has_nothing_to_do(project: Sandbox) -> None:
    """Four pairs of two models and two adapters are fresh, and that is known without a plan."""
    assert fresh(project) == 4


def test_wishes_and_given_images_count(project: Sandbox) -> None:
    """The number of fresh pairs is the planner's, whatever models wish for."""
    project.adapter("docker-cpu")
    project.add("wishing", {"cog-adapters.yaml": "adapters: [two]\n"})
    project.add("given", cpu_image="registry.test/a/b@sha256:" + "0" * 64)
    project.add("neither", {"cog-adapters.yaml": "adapters: []\n"})
    project.adapt()
    project.adapt()
    # sealed and live: 3 each; wishing: two, one and the image that these get; given: one and two.
    assert fresh(project) == 3 + 3 + 3 + 2


def _script(box: Sandbox) -> None:
    at = box.root / "adapters" / "one" / "adapter.sh"
    at.write_text(at.read_text() + "# more\n")


def _listed(box: Sandbox) -> None:
    _script(box)
    with box.project() as opened:
        survey(opened)  # another command has looked at the adapter since, and knows its files as they are now


def _new_file(box: Sandbox) -> None:
    (box.root / "adapters" / "two" / "data.txt").write_text("x")


def _settings(box: Sandbox) -> None:
    box.configure(docker_registry="registry.test")


def _shared_settings(box: Sandbox) -> None:
    (box.root / "site" / "pyproject.toml").write_text("")


def _variable(box: Sandbox) -> None:
    box.environ["FLAVOUR"] = "sweet"


def _override(box: Sandbox) -> None:
    box.environ["COGBUILD_DOCKER_REGISTRY"] = "registry.test"


def _path(box: Sandbox) -> None:
    box.environ["PATH"] = f"{box.root}:{box.environ['PATH']}"


def _added(box: Sandbox) -> None:
    box.add("another")


def _forgotten(box: Sandbox) -> None:
    with box.project() as opened:
        aid = feed.adapter_id(opened.con, "two")
        assert aid is not None
        opened.database.write(lambda con: feed.add_pending(con, aid, [1], "forgotten"))


def _live(box: Sandbox, path: str, text: str) -> None:
    (box.root / "models" / "live" / path).write_text(text)


def _same_time(box: Sandbox) -> None:
    at = box.root / "models" / "live" / "sub" / "a"
    info = at.stat()
    at.write_text("9")
    os.utime(at, ns=(info.st_atime_ns, info.st_mtime_ns))


def _gone_file(box: Sandbox) -> None:
    (box.root / "models" / "live" / "sub" / "a").unlink()


def _replaced(box: Sandbox) -> None:
    live = box.root / "models" / "live"
    shutil.copytree(live, live.with_name("copy"))
    live.rename(live.with_name("old"))
    live.with_name("copy").rename(live)


def _gone(box: Sandbox) -> None:
    shutil.rmtree(box.root / "models" / "live")


def _matching(box: Sandbox) -> None:
    box.model("link")


def _linked(box: Sandbox) -> None:
    with box.project() as opened:
        library.link(opened, box.model("by-hand"))


def _removed(box: Sandbox) -> None:
    with box.project() as opened:
        library.remove(opened, models.entries(opened.con, repos=["local/live"])[0])


def _edited_ignore(box: Sandbox) -> None:
    _live(box, ".dockerignore", ".dockerignore\nsub/outer\n")


def _wishes(box: Sandbox) -> None:
    _live(box, "cog-adapters.yaml", "adapters: [one]\n")


def _in_directory(box: Sandbox) -> None:
    _live(box, "sub/new", "3")


CHANGES = {
    "adapters": [_script, _listed, _new_file, _settings, _forgotten, _added],
    "surroundings": [_shared_settings, _variable, _override, _path],
    "files": [_same_time, _edited_ignore, _in_directory, _wishes, _gone_file, _replaced],
    "models": [_matching, _linked, _removed, _gone],
}


@pytest.mark.parametrize("of", CHANGES)
def test_a_change_asks_for_a_closer_look(project: Sandbox, of: str) -> None:
    """Whatever may matter is noticed; once it has been looked at and built, there is nothing to do again."""
    assert fresh(project) == 4
    for change in CHANGES[of]:
        name = change.__name__.strip("_")
        change(project)
        assert fresh(project) is None, name
        project.adapt()
        time.sleep(0.01)
        project.adapt()
        with project.project() as opened:
            all_there = all(Path(item.path).is_dir() for item in models.links(opened.con))
        assert (fresh(project) is not None) == all_there, name


def test_what_does_not_count_is_not_looked_at(project: Sandbox) -> None:
    """What a live directory leaves out may change as it likes."""
    _live(project, "sub/out/b", "other")
    assert fresh(project) == 4


def test_another_interpreter_is_noticed(project: Sandbox) -> None:
    """A program of the same name that comes first on the path may be another version."""
    tools = project.root / "tools"
    tools.mkdir()
    project.environ["PATH"] = f"{tools}:{project.environ['PATH']}"
    project.adapter("one", "#!/usr/bin/env sh\necho a:b\n")
    project.adapt()
    project.adapt()
    assert fresh(project) == 4
    project.script(tools / "sh", SHIM.format(version=1))
    assert fresh(project) is None


def test_an_interpreter_that_is_asked_on_every_run_is_asked(project: Sandbox) -> None:
    """A shim may be another version tomorrow without changing itself: with one there is always a closer look."""
    tools = project.root / "tools"
    tools.mkdir()
    project.environ["PATH"] = f"{tools}:{project.environ['PATH']}"
    project.script(tools / "mine", SHIM.format(version=1))
    project.adapter("one", "#!/usr/bin/env mine\necho a:b\n")
    project.adapt()
    project.adapt()
    assert fresh(project) is None


def test_a_copied_project_has_its_own_settings(project: Sandbox, tmp_path: Path) -> None:
    """A copy's settings are beside the copy."""
    copy = tmp_path / "copy"
    shutil.copytree(project.root / "site", copy)
    assert quiet.fresh_pairs(str(copy / ".cogbuild"), project.environ) is None


def test_a_young_file_is_looked_at_again(box: Sandbox) -> None:
    """Git's racy rule: what was written just now may change again within the same time stamp."""
    box.adapter("one")
    box.add("m")
    box.adapt()
    box.adapt()
    assert quiet.fresh_pairs(str(box.data), box.environ) is None


def test_without_a_database_or_with_a_damaged_one_there_is_no_answer(tmp_path: Path) -> None:
    """Whoever looks closer has the words for it; nothing is made by asking."""
    assert quiet.fresh_pairs(str(tmp_path / ".cogbuild")) is None
    assert os.listdir(tmp_path) == []
    (tmp_path / "cog.db").write_bytes(b"no database" * 100)
    assert quiet.fresh_pairs(str(tmp_path)) is None


#: Prints which modules a run with nothing to do has imported, whatever way it ends.
PROBE = """
import atexit, sys
before = set(sys.modules)
atexit.register(lambda: print(*sorted(set(sys.modules) - before), file=sys.stderr))
from {module} import {name}
{name}()
"""
OURS = {
    "cogbuild",
    "cogbuild.database",
    "cogbuild.database.connection",
    "cogbuild.database.feed",
    "cogbuild.database.schema",
    "cogbuild.errors",
    "cogbuild.errors.state",
    "cogbuild.fingerprint",
    "cogbuild.fingerprint.glance",
    "cogbuild.place",
    "cogbuild.quiet",
}
DOORS = {
    "cogbuild": ("cogbuild.__main__", "console", "adapt"),
    "doit": ("doit.__main__", "main", "run"),
}


@pytest.mark.parametrize("door", ["cogbuild", "doit"])
def test_little_is_imported(box: Sandbox, door: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both doors answer without a class of pairs, a plan, a settings parser, or what runs and draws."""
    monkeypatch.setattr(glance, "RACY_NS", 0)
    box.adapter("one")
    box.add("m")
    site = box.root / "site"
    (site / "doit.cfg").write_text("[GLOBAL]\nloader = cogbuild\n")
    (site / "dodo.py").write_text("")
    environ = box.environ | {"PYTHONPATH": str(Path(quiet.__file__).parents[1])}
    box.adapt()
    with box.project() as opened:
        active(opened)
    module, name, command = DOORS[door]
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(module=module, name=name), command],
        cwd=site,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1 fresh\n"
    imported = set(done.stderr.split())
    mine = {item for item in imported if item.split(".")[0] == "cogbuild"}
    of_the_door = {
        "cogbuild": {"cogbuild.__main__", "cogbuild.cli", "cogbuild.cli.adapt", "cogbuild.cli.common"},
        "doit": {"cogbuild.tasks", "cogbuild.tasks.loader", "cogbuild.tasks.own"},
    }
    assert mine == OURS | of_the_door[door]
    heavy = {"asyncio", "blake3", "diskcache", "packaging", "pathspec", "pydantic", "rich", "uv", "yaml"}
    if door == "cogbuild":
        heavy |= {"dataclasses", "doit", "multiprocessing", "pathlib", "shutil", "subprocess", "tempfile"}
    assert imported & heavy == set()
