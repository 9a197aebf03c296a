"""``cogbuild init`` makes a project that works; ``cogbuild doctor`` says what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cogbuild.database.schema import FORMAT
from cogbuild.spec.site import parse_settings

if TYPE_CHECKING:
    from conftest import Sandbox
    from door import Door

pytest_plugins = ["door"]


def tree(root: Path) -> dict[str, str]:
    """Return the text of every file outside the data directory."""
    return {
        str(path.relative_to(root)): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".cogbuild" not in path.parts
    }


def test_a_fresh_project_builds(
    box: Sandbox, cogbuild: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made, given a model, `doit` builds it; and `init` said what it wrote and what comes next."""
    monkeypatch.chdir(tmp_path)
    said = cogbuild("init", "fresh")
    assert said.out == (
        f"made a project in {tmp_path}/fresh\n"
        "  cogbuild.yaml\n"
        "  dodo.py\n"
        "  doit.cfg\n"
        "  .gitignore\n"
        "  .cogbuild/\n"
        "next:\n"
        "  cd fresh\n"
        "  cogbuild models add PATH   a directory or zip with a cog.yaml\n"
        "  doit                       builds it; `cogbuild adapt` does the same\n"
    )
    assert (tmp_path / "fresh/.gitignore").read_text() == ".cogbuild/\n.doit.db*\n"
    monkeypatch.chdir("fresh")
    assert cogbuild("models", "add", box.model("a")).code == 0
    done = subprocess.run(
        [sys.executable, "-m", "doit"], cwd=tmp_path / "fresh", capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "1 built"
    assert done.stdout.splitlines()[1].endswith("/model.tar")


def test_every_commented_setting_is_one(cogbuild: Door, tmp_path: Path) -> None:
    """What the written settings offer in comments is read when the sign is taken away."""
    cogbuild("init", tmp_path / "fresh")
    file = tmp_path / "fresh/cogbuild.yaml"
    lines = [
        line.removeprefix("#") if line[1:2] not in (" ", "") or "- " in line else line
        for line in file.read_text().splitlines()
    ]
    settings = parse_settings("\n".join(lines).encode(), file)
    assert settings.adapters == ("builtin:archive",)
    assert [source.path for source in settings.models] == ["models/*", "../other"]
    assert (settings.jobs, settings.docker_registry) == (2, "registry.example/somebody")


@pytest.mark.parametrize("name", ["cogbuild.yaml", "dodo.py", "doit.cfg", ".cogbuild"])
def test_nothing_is_overwritten(cogbuild: Door, tmp_path: Path, name: str) -> None:
    """A file in the way is named, and nothing is written."""
    root = tmp_path / "taken"
    root.mkdir()
    (root / name).write_text("mine")
    said = cogbuild("init", root)
    assert said.err == (
        f"{root}/{name} is there already, so nothing was written\n"
        "hint: make the project in another directory, or move the file away\n"
    )
    assert (said.code, os.listdir(root), (root / name).read_text()) == (2, [name], "mine")


def test_a_pyproject_takes_the_configuration(cogbuild: Door, tmp_path: Path) -> None:
    """Where a pyproject.toml is, its own table is added; .gitignore gets the lines that it lacks."""
    (tmp_path / "p").mkdir()
    (tmp_path / "p/pyproject.toml").write_text('[project]\nname = "x"\n')
    (tmp_path / "p/.gitignore").write_text(".cogbuild/\n*.log")
    said = cogbuild("init", tmp_path / "p")
    assert "  pyproject.toml (added to)\n  .gitignore (added to)\n" in said.out
    found = tree(tmp_path / "p")
    assert found["pyproject.toml"] == '[project]\nname = "x"\n\n[tool.doit]\nloader = "cogbuild"\n'
    assert found[".gitignore"] == ".cogbuild/\n*.log\n.doit.db*\n"
    assert "doit.cfg" not in found


def test_a_doit_table_that_is_there_stays(cogbuild: Door, tmp_path: Path) -> None:
    """Then the configuration goes into a file of its own, which doit reads too."""
    (tmp_path / "p").mkdir()
    (tmp_path / "p/pyproject.toml").write_text("[tool.doit]\nverbosity = 1\n")
    cogbuild("init", tmp_path / "p")
    found = tree(tmp_path / "p")
    assert found["pyproject.toml"] == "[tool.doit]\nverbosity = 1\n"
    assert found["doit.cfg"] == "[GLOBAL]\nloader = cogbuild\n"


def test_the_doctor_finds_all_well(box: Sandbox, cogbuild: Door) -> None:
    """Every part is a line; exit code 0."""
    box.adapter("count")
    box.add("a")
    cogbuild("adapt")
    said = cogbuild("doctor")
    labels = [line.split("  ")[0] for line in said.out.splitlines()]
    assert said.code == 0
    assert [label for label in labels if label and not label.startswith("no ")] == [
        "python",
        "uv",
        "protection",
        "overlay",
        "project",
        "settings",
        "data",
        "free disk",
        "database",
        "cache",
        "locked",
        "adapters",
    ]
    assert "database    format 2, 1 model\ncache       format 1, 1 record\n" in said.out
    assert said.out.endswith("): ready\n")


def test_the_doctor_names_an_adapter_that_lacks_something(box: Sandbox, cogbuild: Door) -> None:
    """One adapter that can't be used is told of whole, the others are ready; cogbuild can still be used."""
    box.adapter("good")
    directory = box.adapter("bad", "#!/nowhere/interpreter\n")
    said = cogbuild("doctor")
    assert said.code == 0
    assert f"good ({box.root}/adapters/good): ready\n" in said.out
    assert said.out.endswith(
        "\nthe script of adapter bad names an interpreter that is not there\n"
        f"  script       {directory}/adapter.sh\n"
        "  interpreter  /nowhere/interpreter\n"
        "hint: install it, or correct the script's first line\n"
    )
    found = cogbuild("doctor", "--json").json
    assert [(item["named"], item["ready"]) for item in found["adapters"]] == [
        (f"{box.root}/adapters/good", True),
        (str(directory), False),
    ]


def test_the_doctor_says_what_makes_cogbuild_unusable(box: Sandbox, cogbuild: Door) -> None:
    """A database of a newer format is a trouble: exit code 3."""
    import sqlite3

    box.add("a")
    con = sqlite3.connect(box.data / "cog.db")
    con.execute("PRAGMA user_version=99")
    con.close()
    said = cogbuild("doctor")
    assert "this database was written by a newer cogbuild\n" in said.out
    assert said.code == 3
    found = cogbuild("doctor", "--json")
    assert (found.code, [item["error"] for item in found.json["troubles"]]) == (3, ["DatabaseTooNew"])
    con = sqlite3.connect(box.data / "cog.db")
    con.execute(f"PRAGMA user_version={FORMAT}")
    con.close()


def test_the_doctor_comes_to_any_directory(
    cogbuild: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside of a project it says what the machine gives."""
    (tmp_path / "nowhere").mkdir()
    monkeypatch.chdir(tmp_path / "nowhere")
    said = cogbuild("doctor")
    assert said.out.splitlines()[-1] == "project     none here: make one with `cogbuild init`"
    assert said.code == 0


# -- places that can't be ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "path", "option"),
    [
        (("init", "{file}/x"), "{file}/x", "`cogbuild init DIR`"),
        (("init", "/proc/x"), "/proc/x", "`cogbuild init DIR`"),
        (("adapters", "new", "mine", "{file}/x"), "{file}/x", "`cogbuild adapters new NAME DIR`"),
        (("server", "--port", "0", "--data-dir", "{file}/x"), "{file}/x", "--data-dir or COGBUILD_DATA_DIR"),
        (("--data-dir", "/proc/x", "models", "add", "{model}"), "/proc/x", "--data-dir or COGBUILD_DATA_DIR"),
    ],
)
def test_a_directory_below_a_file_is_told(
    box: Sandbox, cogbuild: Door, words: tuple[str, ...], path: str, option: str
) -> None:
    """A mistyped path is no bug: it is named, with the option that it came from."""
    names = {"file": str(box.root / "file"), "model": str(box.model("a"))}
    (box.root / "file").touch()
    said = cogbuild(*(word.format(**names) for word in words))
    reason = "No such file or directory" if path.startswith("/proc") else "Not a directory"
    assert (said.code, said.err) == (
        2,
        f"the directory {path.format(**names)} can't be made\n  reason  {reason}\nhint: name another place with {option}\n",
    )


@pytest.mark.parametrize("place", ["/proc/nope", "{file}/x", "{file}"])
def test_an_artifact_store_that_can_not_be_is_told(box: Sandbox, cogbuild: Door, place: str) -> None:
    """The setting is named, nothing is called a bug, and the work is done once it is put right."""
    file = box.root / "file"
    file.touch()
    box.adapter("count")
    box.add("a")
    box.configure(artifact_store=f"file://{place.format(file=file)}")
    said = cogbuild("adapt")
    assert said.code == 2
    assert f"the directory {place.format(file=file)} can't be made\n" in said.err
    assert said.err.endswith("hint: name another place with artifact_store: in the settings\n")
    box.configure(artifact_store=f"file://{box.root}/store")
    assert cogbuild("adapt").code == 0


@pytest.mark.parametrize("by", ["option", "variable"])
def test_a_name_that_no_directory_has_is_told_of_by_what_looks(
    tmp_path: Path, cogbuild: Door, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """It is not made either; what puts something in makes it, and says so where nothing else would show it."""
    monkeypatch.chdir(tmp_path)
    named: list[str] = ["--data-dir", "typo"] if by == "option" else []
    if by == "variable":
        monkeypatch.setenv("COGBUILD_DATA_DIR", "typo")
    before = os.listdir(tmp_path)
    for command in (
        "cache ls",
        "cache stats",
        "cache gc",
        "models ls",
        "status",
        "tokens ls",
        "artifacts ls",
    ):
        said = cogbuild(*named, *command.split())
        assert (said.code, said.out) == (2, ""), command
        assert said.err.startswith(f"there is no data directory {tmp_path}/typo\n"), command
    assert os.listdir(tmp_path) == before
    said = cogbuild(*named, "tokens", "new", "--repo", "a/b", "--can", "read")
    assert said.err.startswith(f"making the data directory {tmp_path}/typo\n")
    assert cogbuild(*named, "models", "ls").code == 0


def test_looking_into_the_cache_makes_no_data_directory(box: Sandbox, cogbuild: Door) -> None:
    """Settings may be there before anything was built."""
    box.configure()
    for command in ("ls", "stats", "verify"):
        assert cogbuild("cache", command).code == 0
    assert not box.data.exists()
