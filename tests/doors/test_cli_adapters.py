"""``cogbuild adapters``: listed, made, checked, tried and locked."""

from __future__ import annotations

import os
import re
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cogbuild.adapters import builtins
from cogbuild.scaffold import LANGUAGES

if TYPE_CHECKING:
    from conftest import Sandbox
    from door import Door

pytest_plugins = ["door"]


def kept(box: Sandbox) -> set[str]:
    """Return what the data directory holds, but for the database, the cache and empty directories of work."""
    return {
        str(path.relative_to(box.data))
        for path in box.data.rglob("*")
        if path.is_file() and not path.name.startswith(("cog.db", "cache.db"))
    }


# -- ls ---------------------------------------------------------------------------------------------------------------


def test_active_ones_come_first_with_what_they_made(
    box: Sandbox, cogbuild: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where from, what for, what they need; shipped ones that are not active stand below."""
    monkeypatch.setenv("COLUMNS", "300")
    box.adapter("one", description="Counts", needs=["docker-cpu"])
    box.adapter("docker-cpu", box.counting("docker-cpu", "echo registry.local/m/a:1"))
    box.add("a")
    box.adapt()
    text = cogbuild("adapters", "ls").out
    assert text.splitlines()[:4] == [
        f"one  {box.root}/adapters/one  1 pair made",
        "  Counts",
        "  needs docker-cpu",
        f"docker-cpu  {box.root}/adapters/docker-cpu  1 pair made",
    ]
    rest = text.splitlines()[4:]
    assert rest[:3] == [
        "not active",
        "  archive  builtin:archive",
        "    A reproducible tar of the model's files",
    ]
    assert "  onnx  builtin:onnx" in rest


def test_a_shipped_adapter_that_is_active_is_listed_once(box: Sandbox, cogbuild: Door) -> None:
    """Under the name that the settings give it."""
    box.configure(adapters=["builtin:archive"])
    names = [line.split()[0] for line in cogbuild("adapters", "ls").out.splitlines() if "builtin:" in line]
    assert names[0] == "archive"
    assert names.count("archive") == 1


def test_broken_ones_do_not_hide_the_others(
    box: Sandbox, cogbuild: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each says in one line what is wrong with it, and the listing is no failure."""
    monkeypatch.setenv("COLUMNS", "300")
    box.adapter("good")
    broken = box.adapter("broken")
    (broken / "cog-adapter.yaml").write_text("name: broken\nscirpt: adapter.sh\n")
    twin = box.adapter("twin")
    (twin / "cog-adapter.yaml").write_text("name: good\nscript: adapter.sh\n")
    box.adapter("lonely", needs=["nobody"])
    box.configure(adapters=[*box.settings["adapters"], "nowhere", "builtin:nothing"])
    said = cogbuild("adapters", "ls")
    lines = said.out[: said.out.index("not active")].splitlines()
    at = box.root / "adapters"
    assert lines[:2] == [f"good  {at}/good", f"broken  {at}/broken"]
    assert lines[2].startswith("  can't be used: ")
    assert "scirpt" in lines[2]
    assert lines[3:] == [
        f"good  {at}/twin",
        f"  can't be used: two adapters are called good; first {at}/good; second {at}/twin",
        f"lonely  {at}/lonely",
        "  needs nobody",
        (
            "  can't be used: adapter lonely needs nobody, and no active adapter is called so; "
            f"declared in {at}/lonely/cog-adapter.yaml"
        ),
        "?  nowhere",
        f"  can't be used: there is no adapter directory {box.root}/site/nowhere",
        "?  builtin:nothing",
        f"  can't be used: cogbuild ships no adapter called nothing; shipped {', '.join(builtins())}",
    ]
    assert said.code == 0


def test_adapters_as_json(box: Sandbox, cogbuild: Door) -> None:
    """Every key is there, also where it says nothing."""
    box.adapter("one", python={"packages": ["six"], "with_model": True})
    found = cogbuild("adapters", "ls", "--json").json
    assert found["active"] == [
        {
            "name": "one",
            "source": f"{box.root}/adapters/one",
            "directory": f"{box.root}/adapters/one",
            "description": "",
            "needs": [],
            "python": {"packages": ["six"], "with_model": True, "kit": False},
            "pairs": 0,
            "error": None,
            "lacks": [],
        }
    ]
    assert {"archive", "onnx"} <= {row["name"] for row in found["available"]}


def test_no_adapter_is_active(box: Sandbox, cogbuild: Door) -> None:
    """The listing says how to have one."""
    assert cogbuild("adapters", "ls").out.splitlines()[0] == (
        "no adapter is active; name some under adapters: in cogbuild.yaml, e.g. builtin:archive"
    )


# -- new --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_a_new_adapter_works_and_passes_the_check(box: Sandbox, cogbuild: Door, language: str) -> None:
    """It builds as it is."""
    script = LANGUAGES[language][0]
    said = cogbuild("adapters", "new", "mine", "--lang", language)
    assert said.out == (
        f"mine/cog-adapter.yaml\nmine/{script}\n"
        "try it with `cogbuild adapters check mine`, then name mine under adapters: in cogbuild.yaml\n"
    )
    said = cogbuild("adapters", "check", "mine", "--quick")
    assert said.err == ""
    assert said.out.splitlines()[-1] == "mine keeps the contract: the second run made the same bytes"
    box.configure(adapters=["mine"])
    box.add("a")
    assert box.adapt().exit_code == 0


def test_new_never_writes_over_anything(box: Sandbox, cogbuild: Door) -> None:
    """A directory that holds something is refused; an empty one will do."""
    place = box.root / "site" / "mine"
    place.mkdir()
    (place / "notes").write_text("mine")
    said = cogbuild("adapters", "new", "mine")
    assert (said.err, said.code) == (
        (
            "mine is there already, and something is in it\n"
            "hint: name another: `cogbuild adapters new mine DIR`\n"
        ),
        2,
    )
    assert os.listdir(place) == ["notes"]
    (box.root / "site" / "other").mkdir()
    assert cogbuild("adapters", "new", "mine", "other").code == 0


def test_a_name_that_can_not_be(cogbuild: Door) -> None:
    """Names end up in task names and paths."""
    said = cogbuild("adapters", "new", "a/b")
    assert (said.err, said.code) == (
        (
            "a/b can't be the name of an adapter\n"
            "hint: use at most 64 letters, digits, dots, dashes and underscores, the first a letter or digit\n"
        ),
        2,
    )


# -- check ------------------------------------------------------------------------------------------------------------


def check(
    box: Sandbox, cogbuild: Door, script: str, *options: str, slow: bool = False, **keys: Any
) -> tuple[str, str, int]:
    """Check an adapter that runs *script*, with ``--quick`` but where it is *slow*; return stderr and stdout with the tiny model's ID replaced, and the code."""
    directory = box.adapter("mine", f"#!/bin/sh\n{script}\n", activate=False, **keys)
    said = cogbuild("adapters", "check", directory, *options, *([] if slow else ["--quick"]))
    return re.sub("tiny@[0-9a-f]{12}", "tiny", said.err), said.text, said.code


def test_a_check_says_where_the_bytes_differ(box: Sandbox, cogbuild: Door) -> None:
    """The same input has to give the same bytes: the file, its sizes and the first byte are named."""
    err, out, code = check(
        box, cogbuild, "(echo same; echo $COG_OUTPUT_DIR) > $COG_OUTPUT_DIR/x; echo $COG_OUTPUT_DIR/x"
    )
    lines = err.splitlines()
    assert lines[0] == "mine made something else when it ran again on local/tiny"
    assert lines[1] == "  file              x"
    assert re.fullmatch(r"  size              \d+ bytes(, then \d+)?", lines[2])
    assert re.fullmatch(r"  first difference  byte \d+", lines[3])
    assert lines[4].startswith("hint: leave out times, random names")
    assert (out.count("built  "), code) == (2, 1)


@pytest.mark.slow
def test_a_check_finds_what_depends_on_the_time(box: Sandbox, cogbuild: Door) -> None:
    """Two runs in the same second would hide it, so the second waits for another time."""
    err, _, code = check(box, cogbuild, "date +%s > $COG_OUTPUT_DIR/x; echo $COG_OUTPUT_DIR/x", slow=True)
    assert err.splitlines()[0] == "mine made something else when it ran again on local/tiny"
    assert code == 1


def test_a_check_names_the_files_of_a_directory_that_differ(box: Sandbox, cogbuild: Door) -> None:
    """Those that differ, not those that are the same."""
    err, _, code = check(
        box,
        cogbuild,
        "d=$COG_OUTPUT_DIR/pkg; mkdir $d; echo a > $d/same; echo $d > $d/other; echo $d",
    )
    assert err.splitlines()[1:3] == ["  directory  pkg", "  files      other"]
    assert code == 1


def test_a_check_compares_uris(box: Sandbox, cogbuild: Door) -> None:
    """What is uploaded elsewhere has to have the same name again."""
    err, _, code = check(box, cogbuild, "echo https://host/same")
    assert (err, code) == ("", 0)
    err, _, code = check(box, cogbuild, "echo https://host/${COG_OUTPUT_DIR##*-}")
    assert re.findall(r"  (first|second) +https://host/\S+", err) == ["first", "second"]
    assert code == 1


@pytest.mark.parametrize(
    ("script", "headline"),
    [
        ("echo https://host/x; echo https://host/y", "mine printed 2 lines on local/tiny, one was expected"),
        ("true", "mine ended well on local/tiny but printed no artifact URI"),
        ("echo hello", "mine printed something that is no artifact URI on local/tiny"),
        (
            "echo $PWD/cog.yaml",
            "mine named a file in its workspace on local/tiny, and the workspace is gone by now",
        ),
        ("exit 100", "mine failed on local/tiny after T s"),
    ],
)
def test_a_check_says_what_is_printed_wrongly(
    box: Sandbox, cogbuild: Door, script: str, headline: str
) -> None:
    """With the errors of a build, and no second run."""
    err, out, code = check(box, cogbuild, script)
    assert re.sub(r"\d\.\d s", "T s", err.splitlines()[0]) == headline
    assert "log" not in err
    assert (out, code) == ("failed  T s\n", 1)


def test_a_check_shows_the_log_of_what_failed(box: Sandbox, cogbuild: Door) -> None:
    """The adapter's own words, marked as its own, before the error."""
    err, _, code = check(box, cogbuild, "echo one >&2; echo two >&2; exit 3")
    assert re.sub(r"\d\.\d s", "T s", err) == (
        "| one\n| two\nmine failed on local/tiny after T s\n  status   3\n  it said  two\n"
    )
    assert code == 1


def test_a_check_runs_the_test_too(box: Sandbox, cogbuild: Door) -> None:
    """What the adapter's own test refuses breaks the contract."""
    err, _, code = check(
        box, cogbuild, "echo https://host/x", test="#!/bin/sh\necho 'off by 3' >&2; exit 1\n"
    )
    assert "the test of mine refused what it made of local/tiny\n" in err
    assert "  it said  off by 3\n" in err
    assert code == 1


def test_a_check_accepts_what_does_not_apply(box: Sandbox, cogbuild: Door) -> None:
    """Twice the same reason is an answer."""
    err, out, code = check(box, cogbuild, "echo 'only for tensors' >&2; exit 100", api=1)
    assert (err, code) == ("", 0)
    assert out.splitlines()[-1] == "mine keeps the contract: the second run said the same"


def test_a_check_refuses_a_wrong_declaration(box: Sandbox, cogbuild: Door) -> None:
    """Before anything runs, with the file and the line."""
    directory = box.adapter("mine", activate=False)
    (directory / "cog-adapter.yaml").write_text("name: mine\nscript: adapter.py\n")
    said = cogbuild("adapters", "check", directory)
    assert said.err.splitlines()[0] == "adapter mine names a file that is not there"
    assert said.code == 2


def test_a_check_without_what_is_needed_does_not_run(box: Sandbox, cogbuild: Door) -> None:
    """The tiny model has no images; a real one may."""
    err, out, code = check(box, cogbuild, "exit 1", needs=["docker-cpu"])
    assert (err, out, code) == (
        "",
        (
            f"the declaration in {box.root}/adapters/mine is right\n"
            "not run: it needs docker-cpu; name a model for which that is made with --model ID\n"
        ),
        0,
    )


def test_a_check_on_a_model_gets_what_it_needs(box: Sandbox, cogbuild: Door) -> None:
    """The needed artifact is there and can be read; where it is not made yet, that is said."""
    box.adapter("base")
    model = box.add("a").model
    script = 'cat "${COG_ARTIFACT_BASE#file://}" > $COG_OUTPUT_DIR/x; echo $COG_OUTPUT_DIR/x'
    err, _, code = check(box, cogbuild, script, "--model", model, needs=["base"])
    assert (err, code) == (
        (
            f"adapter mine can't be tried on local/a@{model[:12]}: what it needs is not there\n"
            f"  it  waits for base\nhint: make it first, e.g. with `cogbuild adapt --model {model[:12]}`\n"
        ),
        1,
    )
    box.adapt()
    before = kept(box)
    err, out, code = check(box, cogbuild, script, "--model", model, needs=["base"])
    assert (err, code) == ("", 0)
    assert "  x  6 B  " in out
    assert kept(box) == before


def test_a_check_as_json(box: Sandbox, cogbuild: Door) -> None:
    """Runs and problems by name."""
    directory = box.adapter("mine", "#!/bin/sh\necho hello\n", activate=False)
    said = cogbuild("adapters", "check", directory, "--json")
    found = said.json
    assert set(found) == {"adapter", "directory", "model", "runs", "problems", "undeclared", "note"}
    assert [run["status"] for run in found["runs"]] == ["failed"]
    assert [item["error"] for item in found["problems"]] == ["ArtifactLineUnreadable"]
    assert said.code == 1


def test_a_shipped_adapter_is_checked_by_its_name(box: Sandbox, cogbuild: Door) -> None:
    """``builtin:`` works where a directory does."""
    said = cogbuild("adapters", "check", "builtin:archive", "--quick")
    assert (said.err, said.code) == ("", 0)
    assert said.out.splitlines()[-1] == "archive keeps the contract: the second run made the same bytes"


def test_a_check_needs_no_project(
    tmp_path: Path, box: Sandbox, cogbuild: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter can be written anywhere."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    cogbuild("adapters", "new", "mine", "--lang", "sh")
    assert cogbuild("adapters", "check", "mine", "--quick").code == 0
    assert os.listdir() == ["mine"]


def test_the_adapters_of_the_manual_keep_the_contract(box: Sandbox, cogbuild: Door) -> None:
    """Both complete adapters of docs/adapters.md, as they stand there."""
    page = (Path(__file__).parents[2] / "docs" / "adapters.md").read_text()
    blocks = re.findall(r"```(yaml|python|sh)\n(.*?)```", page, re.DOTALL)
    complete = [
        (text, script)
        for (kind, text), (_, script) in pairwise(blocks)
        if kind == "yaml" and "script:" in text
    ]
    names = []
    for declaration, script in complete:
        found = dict(re.findall(r"^(\w+): (\S+)$", declaration, re.MULTILINE))
        directory = box.root / found["name"]
        directory.mkdir()
        (directory / "cog-adapter.yaml").write_text(declaration)
        box.script(directory / found["script"], script)
        assert cogbuild("adapters", "check", directory, "--quick").code == 0
        names.append(found["name"])
    assert names == ["size", "sums"]


# -- test -------------------------------------------------------------------------------------------------------------


def test_a_try_shows_the_log_and_records_nothing(box: Sandbox, cogbuild: Door) -> None:
    """Lines as they come, then what was made; the project is as it was."""
    model = box.add("a").model
    directory = box.adapter(
        "mine",
        box.counting("mine", "echo working >&2; cat weights.bin > $COG_OUTPUT_DIR/x; echo $COG_OUTPUT_DIR/x"),
        activate=False,
        test='#!/bin/sh\ntest -s "${COG_ARTIFACT_URI#file://}" && echo tested >&2\n',
    )
    before = kept(box)
    said = cogbuild("adapters", "test", directory, "--model", model[:8])
    assert (said.err, said.text, said.code) == ("| working\n| tested\n", "built  T s\n  x  1 B  ID\n", 0)
    assert (
        kept(box) - before == {path for path in kept(box) if path.startswith(("models/", "work/"))} - before
    )
    with box.project() as project:
        for table in ("attempts", "outcomes", "pending"):
            assert project.con.execute(f"SELECT COUNT(*) FROM {table}").fetchone() == (0,)
        assert list(project.cache.keys()) == []
    assert box.ran() == ["a mine"]


def test_a_try_takes_the_place_of_an_active_adapter_of_its_name(box: Sandbox, cogbuild: Door) -> None:
    """A new edition of an adapter can be tried before it replaces the old one."""
    box.adapter("one")
    model = box.add("a").model
    directory = box.root / "edition"
    directory.mkdir()
    (directory / "cog-adapter.yaml").write_text("name: one\nscript: adapter.sh\n")
    box.script(directory / "adapter.sh", "#!/bin/sh\necho https://host/new\n")
    said = cogbuild("adapters", "test", directory, "--model", model)
    assert (said.err, said.text, said.code) == ("", "built  T s\n  https://host/new\n", 0)


def test_a_try_that_fails(box: Sandbox, cogbuild: Door) -> None:
    """The error of a build, and exit code 1."""
    model = box.add("a").model
    directory = box.adapter("mine", "#!/bin/sh\necho oops >&2\nexit 4\n", activate=False)
    said = cogbuild("adapters", "test", directory, "--model", model)
    assert re.sub(r"\d\.\d s", "T s", said.err) == (
        f"| oops\nmine failed on local/a@{model[:12]} after T s\n  status   4\n  it said  oops\n"
    )
    assert said.code == 1
    found = cogbuild("adapters", "test", directory, "--model", model, "--json").json
    assert (found["status"], found["error"]["error"]) == ("failed", "AdapterExited")


# -- lock -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of wheels that stands for the package index."""
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_"))]:
        monkeypatch.delenv(name)
    place = tmp_path / "wheels"
    place.mkdir()
    monkeypatch.setenv("UV_FIND_LINKS", str(place))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    return place


def wheel(place: Path, name: str, version: str) -> None:
    """Put a package without modules into the directory."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(place / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


@pytest.mark.slow
def test_locks_are_made_ahead_stay_and_move_on_request(box: Sandbox, cogbuild: Door, wheels: Path) -> None:
    """A newer package changes nothing until --upgrade; then what moved is said, and the pairs are built again."""
    wheel(wheels, "alpha", "1.0")
    box.adapter("one", python={"packages": ["alpha"]})
    box.adapter("plain")
    box.add("a")
    box.add("b")
    python = r"python \d+\.\d+\.\d+"
    said = cogbuild("adapters", "lock")
    assert re.fullmatch(rf"one  2 pairs  new: {python}, 1 package\n", said.out)
    assert sorted(box.adapt().ran) == ["a one", "a plain", "b one", "b plain"]
    wheel(wheels, "alpha", "2.0")
    said = cogbuild("adapters", "lock")
    assert re.fullmatch(rf"one  2 pairs  unchanged: {python}, 1 package\n", said.out)
    assert box.adapt().results == {}
    said = cogbuild("adapters", "lock", "--upgrade", "one")
    assert re.fullmatch(rf"one  2 pairs  changed: {python}, 1 package\n  alpha  1.0 → 2.0\n", said.out)
    assert said.code == 0
    assert sorted(box.adapt().ran) == ["a one", "b one"]
    said = cogbuild("adapters", "lock", "--upgrade", "--json")
    (row,) = said.json["locks"]
    assert set(row) == {"adapters", "pairs", "state", "python", "digest", "requirements", "moved", "error"}
    assert (row["state"], row["moved"], row["requirements"]) == ("unchanged", [], ["alpha"])
    assert box.adapt().results == {}


def test_locks_are_written_out(box: Sandbox, cogbuild: Door, wheels: Path) -> None:
    """As requirements files with hashes, one a lock."""
    wheel(wheels, "alpha", "1.0")
    box.adapter("one", python={"packages": ["alpha"]})
    box.add("a")
    said = cogbuild("adapters", "lock", "--export", box.root / "locks")
    (path,) = (box.root / "locks").iterdir()
    assert said.out.splitlines()[-1] == f"wrote {path}"
    assert re.fullmatch(r"one-[0-9a-f]{12}\.txt", path.name)
    first, pin, *_ = path.read_text().splitlines()
    assert re.fullmatch(r"# python \S+, for one", first)
    assert pin == "alpha==1.0 \\"


def test_what_can_not_be_resolved_is_said_and_the_rest_is_done(
    box: Sandbox, cogbuild: Door, wheels: Path
) -> None:
    """One adapter's packages are not to be had; another's are locked all the same."""
    wheel(wheels, "alpha", "1.0")
    box.adapter("bad", python={"packages": ["alpha>3"]})
    box.adapter("good", python={"packages": ["alpha"]})
    model = box.add("a").model
    said = cogbuild("adapters", "lock")
    assert [line.split(":")[0] for line in said.out.splitlines()] == [
        "bad  1 pair  failed",
        "good  1 pair  new",
    ]
    assert f"no set of packages meets what adapter bad for local/a@{model[:12]} asks for\n" in said.err
    assert said.code == 2


def test_nothing_to_lock(box: Sandbox, cogbuild: Door) -> None:
    """No adapter declares packages; an unknown one is refused."""
    box.adapter("one")
    assert cogbuild("adapters", "lock").out == "no adapter here declares packages for any model\n"
    said = cogbuild("adapters", "lock", "onee")
    assert (said.err, said.code) == (
        (
            "no adapter is called onee\n  closest  one\n  active   one\n"
            "hint: list them with `cogbuild adapters ls`\n"
        ),
        2,
    )
