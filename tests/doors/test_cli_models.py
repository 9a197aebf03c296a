"""``cogbuild models``: what is added, listed, shown, changed, verified and let go."""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Sandbox
    from door import Door

pytest_plugins = ["door"]


def test_a_directory_and_a_zip_of_it_are_one_model(box: Sandbox, cogbuild: Door) -> None:
    """Both have the same ID; the repo is the directory's or zip's name, and each line has the ID and the volume."""
    directory = box.model("bert")
    with zipfile.ZipFile(box.root / "other.zip", "w") as archive:
        for path in sorted(directory.iterdir()):
            archive.write(path, path.name)
    said = cogbuild("models", "add", directory, box.root / "other.zip", directory)
    assert re.findall(r"(\w+) +ID40 +(\S+) +(.*)", said.text) == [
        ("added", "local/bert", "3 files, 150 B"),
        ("added", "local/other", "3 files, 150 B"),
        ("known", "local/bert", "3 files, 150 B"),
    ]
    assert len(set(re.findall(r"[0-9a-f]{40}", said.out))) == 1
    assert said.code == 0


def test_adding_as_json(box: Sandbox, cogbuild: Door) -> None:
    """What was added and what was refused, by name; the exit code is that of the first refusal."""
    directory = box.model("bert")
    said = cogbuild("models", "add", directory, "nothing", "--repo", "me/bert", "--json")
    assert said.code == 2
    found = said.json
    assert re.fullmatch("[0-9a-f]{40}", found["models"][0].pop("model"))
    assert found["models"] == [
        {"repo": "me/bert", "new": True, "linked": False, "files": 3, "size": 150, "path": str(directory)}
    ]
    assert [problem["path"] for problem in found["problems"]] == ["nothing"]
    assert found["problems"][0]["error"]["error"] == "NotAModelPath"


def test_edited_wishes_of_a_stored_model_are_told_of(box: Sandbox, cogbuild: Door) -> None:
    """They stay unheard, which is said until the model wants the same; a linked directory's are heard."""
    directory = box.model("bert")

    def added(wishes: dict[str, Any], *more: str) -> str:
        (directory / "cog-adapters.yaml").write_text(json.dumps(wishes))
        said = cogbuild("models", "add", directory, *more)
        assert said.code == 0
        return re.sub(r"\b[0-9a-f]{12}\b", "ID", said.err)

    unheard = "note: cog-adapters.yaml is not what ID was added with and is not read again; "
    assert added({"adapters": ["one"]}) == added({"adapters": ["one"]}) == ""
    edited = {"adapters": ["two"], "params": {"two": {"level": 1}}}
    assert (
        added(edited)
        == added(edited, "--json")
        == unheard + "change what it wants with `cogbuild models set`\n"
    )
    model = cogbuild("models", "ls", "--json").json["models"][0]
    assert (model["adapters"], model["params"]) == (["one"], {})
    cogbuild("models", "set", model["model"], "--adapter", "two", "--param", "two.level=1")
    assert added(edited) == ""
    example = {**edited, "examples": [{"input": {"text": "a"}}]}
    assert added(example) == unheard + "take its examples by adding it anew after `cogbuild models rm`\n"
    cogbuild("models", "rm", model["model"])
    assert added(example) == ""
    (directory / "weights.bin").write_text("other")
    for wishes in (edited, example):
        assert added(wishes, "--link") == ""
    assert cogbuild("models", "ls", "--json").json["models"][0]["adapters"] == ["two"]


def test_a_refused_path_does_not_stop_the_others(box: Sandbox, cogbuild: Door) -> None:
    """One path that is no model is told of on stderr; the models after it are added."""
    (box.root / "empty").mkdir()
    said = cogbuild("models", "add", box.root / "empty", box.model("bert"))
    assert said.err == f"{box.root}/empty is not a Cog model: it has no cog.yaml\n"
    assert said.text == "added   ID40  local/bert  3 files, 150 B\n"
    assert said.code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["models", "add", "x", "--repo", "noslash"], "'noslash' is not"),
        (["models", "set", "1234567"], "nothing was said that is to be set\n"),
        (["models", "set", "1234567", "--param", "x=1"], "--param x=1 can't be read: it has not the form"),
        (
            ["models", "set", "1234567", "--param", "a.x=yes"],
            "--param a.x=yes can't be read: 'yes' is not JSON\n",
        ),
        *(
            (
                ["models", "set", "1234567", "--param", f"a.x={value}"],
                f"--param a.x={value} can't be read: {why}",
            )
            for value, why in (
                ('"\\ud800"', "it holds NUL or half a character\n"),
                ('{"a": ["\\u0000"]}', "it holds NUL or half a character\n"),
                ("NaN", "JSON has no such number\n"),
                ("[-1e999]", "JSON has no such number\n"),
                ("[" * 66 + "]" * 66, "it nests more than 64 levels deep\n"),
            )
        ),
        (["models", "set", "1234567", "--adapter", "a", "--all-adapters"], "Usage: "),
        (["models", "show", "1234567"], "no model has the ID 1234567\n"),
        (["models", "rm", "12"], "no model has the ID 12\n"),
    ],
)
def test_what_makes_no_sense_is_refused(cogbuild: Door, arguments: list[str], message: str) -> None:
    """Each is told of in words on stderr, with exit code 2."""
    said = cogbuild(*arguments)
    assert (said.err[: len(message)], said.out, said.code) == (message, "", 2)


def test_outside_of_a_project_nothing_is_added(
    tmp_path: Path, box: Sandbox, cogbuild: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adding never makes a project by itself."""
    (tmp_path / "nowhere").mkdir()
    monkeypatch.chdir(tmp_path / "nowhere")
    said = cogbuild("models", "add", box.model())
    assert said.err == (
        "there is no cogbuild project here or above\n"
        f"  directory  {tmp_path}/nowhere\n"
        "hint: make one with `cogbuild init`, or name one with --data-dir\n"
    )
    assert (said.code, os.listdir(tmp_path / "nowhere")) == (2, [])


def test_models_are_listed_newest_first(box: Sandbox, cogbuild: Door) -> None:
    """A line a model, with how it is kept; --repo narrows; pipes get whole lines, narrow terminals the first columns."""
    assert cogbuild("models", "ls").out == "no models; add one with `cogbuild models add PATH`\n"
    box.add("a")
    cogbuild("models", "add", "--link", box.model("b"), "--repo", "somebody/a-rather-long-name-of-a-repo")
    listed = cogbuild("models", "ls")
    assert settle(listed.out) == (
        "model         repo                                   added  files   size  kept\n"
        "ID            somebody/a-rather-long-name-of-a-repo    now      3  147 B  linked\n"
        "ID            local/a                                  now      3  147 B  sealed\n"
    )
    only = cogbuild("models", "ls", "--repo", "local/a").out.splitlines()
    assert [line.split() for line in only[1:]] == [listed.out.splitlines()[2].split()]


def settle(text: str) -> str:
    """Replace IDs and ages, in as many columns."""
    text = re.sub(r"\b[0-9a-f]{12}\b", "ID          ", text)
    return re.sub(r"\b\d+ s\b", "now", text)


def test_a_narrow_terminal_leaves_columns_out(
    box: Sandbox, cogbuild: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In 50 columns the least important columns go; in 30 the repo is cut too."""
    cogbuild("models", "add", box.model("b"), "--repo", "somebody/a-rather-long-name-of-a-repo")
    monkeypatch.setenv("COLUMNS", "50")
    assert (
        settle(cogbuild("models", "ls").out).splitlines()[1]
        == "ID            somebody/a-rather-lon…    now  147 B"
    )
    monkeypatch.setenv("COLUMNS", "30")
    assert settle(cogbuild("models", "ls").out).splitlines()[1] == "ID            somebody/a-rath…"


def test_a_listing_as_json(box: Sandbox, cogbuild: Door) -> None:
    """Every key is there, the time in UTC."""
    model = box.add("a", cpu_image="registry.example/a:1").model
    found = cogbuild("models", "ls", "--json").json
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found["models"][0].pop("added"))
    assert found == {
        "models": [
            {
                "model": model,
                "repo": "local/a",
                "files": 3,
                "size": 147,
                "linked": False,
                "cpu_image": "registry.example/a:1",
                "adapters": None,
                "params": {},
            }
        ],
        "problems": [],
    }


WISHES = {
    "adapters": ["count", "two", "not"],
    "params": {"count": {"level": 3}},
    "examples": [{"input": {"text": "x"}}],
}


def test_a_model_is_shown_with_what_was_made_of_it(box: Sandbox, cogbuild: Door) -> None:
    """What it declares, what is wanted for it, and each outcome as Cog's `cog show` listed it."""
    box.adapter("count", params={"level": 1})
    box.adapter("not", '#!/bin/sh\necho "no network in here" >&2\nexit 100\n', api=1)
    two = 'echo a > $COG_OUTPUT_DIR/a; echo \'{"name": "graph", "uri": "a"}\' >> $COG_ARTIFACTS_FILE\n'
    box.adapter(
        "two", "#!/bin/sh\n" + two + 'echo \'{"name": "label", "uri": "x:y"}\' >> $COG_ARTIFACTS_FILE\n'
    )
    model = box.add("a", {"cog-adapters.yaml": json.dumps(WISHES)}, cpu_image="registry.example/a:1").model
    cogbuild("adapt")
    box.configure(adapters=[item for item in box.settings["adapters"] if not item.endswith("two")])
    said = cogbuild("models", "show", model[:9])
    assert said.text == (
        "model      ID40\n"
        "repo       local/a\n"
        "added      now, sealed\n"
        "files      3 files, 147 B\n"
        "predictor  predict.py:Predictor\n"
        "python     3.11\n"
        "cpu image  registry.example/a:1\n"
        "adapters   count, two, not\n"
        "params     count.level = 3\n"
        "examples   1\n"
        "count: file:///STORE/made.txt\n"
        "  ID, 9 B, built now, seen now\n"
        "not: not applicable: no network in here (now)\n"
        "two.graph: file:///STORE/a\n"
        "  ID, 2 B, built now, seen now, its adapter is no longer active\n"
        "two.label: x:y\n"
        "  built now, its adapter is no longer active\n"
    )


def test_how_far_an_artifact_is_from_its_model_is_shown(box: Sandbox, cogbuild: Door) -> None:
    """The largest differences, of how much, and in which runtime."""
    row = {
        "runtime": "onnxruntime 1.32.0",
        "absolute": 1.23e-07,
        "relative": 3e-06,
        "examples": 1,
        "outputs": 4,
    }
    report = f"echo '{json.dumps(row)}' >> $COG_FIDELITY_FILE\n"
    box.adapter("one", "#!/bin/sh\necho a > $COG_OUTPUT_DIR/a; echo a\n" + report)
    model = box.add("a").model
    cogbuild("adapt")
    lines = cogbuild("models", "show", model[:9]).text.splitlines()
    assert lines[-1] == (
        "  off by up to 1.2e-07, relative 3e-06: 4 outputs of 1 example, in onnxruntime 1.32.0"
    )
    (shown,) = cogbuild("models", "show", model, "--json").json["models"]
    assert shown["outcomes"][0]["artifacts"][0]["fidelity"] == row


def test_a_model_as_json(box: Sandbox, cogbuild: Door) -> None:
    """One object for each repo that has it."""
    box.adapter("count")
    model = box.add("a").model
    cogbuild("models", "add", box.model("a"), "--repo", "other/a")
    cogbuild("adapt", "--repo", "local/a")
    found = cogbuild("models", "show", model, "--json").json["models"]
    assert [item["repo"] for item in found] == ["other/a", "local/a"]
    assert found[0]["outcomes"] == []
    assert found[1]["cog"] == {
        "file": "predict.py",
        "class": "Predictor",
        "module": "predict",
        "python_version": "3.11",
        "requirements": [],
        "system_packages": [],
        "gpu": False,
    }
    outcome = found[1]["outcomes"][0]
    assert list(outcome) == [
        "adapter",
        "active",
        "not_applicable",
        "artifacts",
        "made",
        "how",
        "key",
        "attempt",
        "seen",
        "lost",
        "test_failed",
    ]
    assert (outcome["adapter"], outcome["how"], outcome["lost"]) == ("count", "built", None)
    only = cogbuild("models", "show", model, "--repo", "other/a", "--json").json["models"]
    assert only == found[:1]


def test_what_is_wanted_can_be_changed(box: Sandbox, cogbuild: Door) -> None:
    """Adapters, parameters and image are set for one repo's entry; the next run builds what that moves."""
    box.adapter("one", params={"level": 1})
    box.adapter("two", uses=[])
    model = box.add("a").model
    cogbuild("models", "set", model, "--adapter", "one", "--param", "one.level=7", "--cpu-image", "x/y:1")
    cogbuild("adapt")
    assert box.ran() == ["a one"]
    shown = cogbuild("models", "ls", "--json").json["models"][0]
    assert (shown["adapters"], shown["params"]) == (["one"], {"one": {"level": 7}})
    assert shown["cpu_image"] == "x/y:1"
    said = cogbuild("models", "set", model, "--all-adapters", "--param", "one.level=null", "--cpu-image", "")
    assert said.text == "changed  local/a@ID\n"
    shown = cogbuild("models", "ls", "--json").json["models"][0]
    assert (shown["adapters"], shown["params"], shown["cpu_image"]) == (None, {}, None)
    cogbuild("adapt", "-j", 1)
    assert sorted(box.ran()[1:]) == [" two", "a one"]


def test_adapters_that_are_not_active_are_wanted_with_a_note(box: Sandbox, cogbuild: Door) -> None:
    """They may come later, so the wish stands; who mistyped a name hears so, and of those like it."""
    box.adapter("card")
    broken = box.adapter("broken")
    (broken / "cog-adapter.yaml").write_text("name: broken\nscript: is-away.sh\n")
    model = box.add("a").model
    said = cogbuild("models", "set", model, "--adapter", "crd", "--adapter", "card", "--adapter", "broken")
    assert (said.code, said.text) == (0, "changed  local/a@ID\n")
    assert said.err == "note: no active adapter is called crd; closest: card\n"
    assert cogbuild("models", "ls", "--json").json["models"][0]["adapters"] == ["crd", "card", "broken"]
    assert cogbuild("models", "set", model, "--adapter", "zz").err == "note: no active adapter is called zz\n"
    assert cogbuild("models", "set", model, "--all-adapters").err == ""


def test_parameters_that_nothing_declares_are_set_with_a_note(box: Sandbox, cogbuild: Door) -> None:
    """Neither of an adapter that is not active, nor of one without it; who takes one away hears nothing."""
    box.adapter("card", params={"level": 1})
    (box.adapter("broken") / "cog-adapter.yaml").write_text("name: broken\nscript: 1\n")
    model = box.add("a").model

    def told(*params: str) -> str:
        said = cogbuild("models", "set", model, *(word for param in params for word in ("--param", param)))
        assert (said.code, said.text) == (0, "changed  local/a@ID\n")
        return said.err

    assert told("card.level=2", "broken.any=1") == ""
    assert told("card.lvel=2", "crd.level=2", "crd.other=2") == (
        "note: no active adapter is called crd; closest: card\n"
        "note: card declares no parameter lvel; closest: level\n"
    )
    assert told("card.lvel=null", "crd.level=null") == ""
    assert told(*(f"card.x{number}=1" for number in range(12))).endswith("x9\nnote: and 2 more\n")


def test_damage_is_found_and_put_right(box: Sandbox, cogbuild: Door) -> None:
    """A flipped byte is named, exit code 3; adding the model again heals it."""
    box.add("a")
    model = box.add("b").model
    assert cogbuild("models", "verify").out.splitlines()[-1] == "2 intact, 0 damaged"
    [stored] = [path for path in box.data.glob("objects/*/*") if path.read_bytes() == b"b"]
    stored.chmod(0o600)
    stored.write_bytes(b"c")
    said = cogbuild("models", "verify", model[:8])
    assert re.sub(r"objects/../[0-9a-f]+", "OBJECT", said.text) == (
        "damaged  ID  local/b  147 B\n  OBJECT: its content changed\n0 intact, 1 damaged\n"
    )
    assert said.code == 3
    cogbuild("models", "add", box.model("b"))
    assert cogbuild("models", "verify", "--json").json["models"][0]["findings"] == []
    shutil.rmtree(box.data / "aside")


def test_a_model_is_let_go(box: Sandbox, cogbuild: Door) -> None:
    """It is in no listing and no plan any more, in the repo that was named; the other repo keeps it."""
    box.adapter("count")
    model = box.add("a").model
    cogbuild("models", "add", box.model("a"), "--repo", "other/a")
    cogbuild("adapt")
    said = cogbuild("models", "rm", model, "--repo", "local/a")
    assert said.text == "removed  local/a@ID\n"
    assert [item["repo"] for item in cogbuild("models", "ls", "--json").json["models"]] == ["other/a"]
    assert cogbuild("adapt").out == "1 fresh\n"


def test_a_directory_that_the_settings_name_comes_back(box: Sandbox, cogbuild: Door) -> None:
    """Letting go of it says so."""
    live = box.model("a")
    box.configure(models=[str(live)])
    cogbuild("models", "ls")
    model = cogbuild("models", "ls", "--json").json["models"][0]["model"]
    said = cogbuild("models", "rm", model)
    assert said.err == f"note: the settings name {live}, so the next run adds it again\n"


def test_what_a_zip_may_unpack_to_is_chosen_on_the_command_line(box: Sandbox, cogbuild: Door) -> None:
    """``--zip-limit`` goes before the setting; a zip above it is refused and nothing of it is kept."""
    directory = box.model("bert", {"weights.bin": "w" * 5000})
    with zipfile.ZipFile(box.root / "bert.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(directory.iterdir()):
            archive.write(path, path.name)
    said = cogbuild("models", "add", box.root / "bert.zip", "--zip-limit", "4000")
    assert said.code == 2
    assert "give --zip-limit SIZE" in said.err
    assert cogbuild("models", "ls", "--json").json["models"] == []
    assert cogbuild("models", "add", box.root / "bert.zip", "--zip-limit", "lots").code == 2
    assert cogbuild("models", "add", box.root / "bert.zip", "--zip-limit", "6K").code == 0


@pytest.mark.parametrize("command", [("adapt",), ("status",), ("models", "ls"), ("artifacts", "ls")])
def test_a_repo_that_never_was_is_refused(box: Sandbox, cogbuild: Door, command: tuple[str, ...]) -> None:
    """A mistyped repo is not "nothing to do"; one that has models is fine."""
    box.adapter("one")
    box.add("a")
    said = cogbuild(*command, "--repo", "local/b")
    assert (said.out, said.code) == ("", 2)
    assert said.err == (
        "no model was ever in the repo local/b\nhint: list the models with `cogbuild models ls`\n"
    )
    assert cogbuild(*command, "--repo", "local/a").code == 0
