"""Site settings: the file, the variables that override it, and repo names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cogbuild.errors.declarations import BadRepo, DeclarationError
from cogbuild.spec import ModelSource, Settings
from cogbuild.spec.names import artifact_variable, param_variable, valid_repo
from cogbuild.spec.site import override, parse_settings

YAML = Path("cogbuild.yaml")
TOML = Path("site/pyproject.toml")


def refusal(text: str, path: Path = YAML) -> str:
    with pytest.raises(DeclarationError) as caught:
        parse_settings(text.encode(), path)
    return str(caught.value)


EXPECTED = Settings(
    adapters=("adapters/onnx", "builtin:archive"),
    models=(ModelSource("examples/*"), ModelSource("digits", "ann/digits", ("torch", "sklearn.svm"))),
    docker_registry="localhost:5000",
    artifact_store="file:///srv/artifacts",
    jobs=3,
    pass_env=("HTTP_PROXY", "CORP_*"),
    workspace_memory=500 << 20,
    zip_limit=2 << 30,
)


def test_settings_are_read_from_yaml() -> None:
    """Each key arrives; sizes are powers of 1024."""
    text = b"""
adapters: [adapters/onnx, "builtin:archive"]
models:
  - examples/*
  - {path: digits, repo: ann/digits, requires: [torch, sklearn.svm]}
docker_registry: localhost:5000/
artifact_store: file:///srv/artifacts
jobs: 3
pass_env: [HTTP_PROXY, CORP_*]
workspace_memory: 500M
zip_limit: 2G
"""
    assert parse_settings(text, YAML) == EXPECTED


def test_settings_are_read_from_pyproject() -> None:
    """The table `[tool.cogbuild]` has the same keys."""
    text = b"""
[project]
name = "x"
[tool.cogbuild]
adapters = ["adapters/onnx", "builtin:archive"]
docker_registry = "localhost:5000"
artifact_store = "file:///srv/artifacts"
jobs = 3
pass_env = ["HTTP_PROXY", "CORP_*"]
workspace_memory = 524288000
zip_limit = "2GiB"
[[tool.cogbuild.models]]
path = "examples/*"
[[tool.cogbuild.models]]
path = "digits"
repo = "ann/digits"
requires = ["torch", "sklearn.svm"]
"""
    assert parse_settings(text, TOML) == EXPECTED


@pytest.mark.parametrize(
    ("text", "path"), [("", YAML), ("# none", YAML), ("", TOML), ("[tool.doit]\n", TOML)]
)
def test_no_settings_are_the_defaults(text: str, path: Path) -> None:
    """A file that says nothing changes nothing."""
    assert parse_settings(text.encode(), path) == Settings()


REFUSALS = {
    "unknown": (
        "job: 1",
        "job is not a key that cogbuild knows\n  closest  jobs\n  file     {}\n  line     {}",
    ),
    "jobs": ("jobs: 0", "jobs is 0, a whole number from 1 to 9999 was expected\n  file  {}\n  line  {}"),
    "size": (
        "zip_limit: '-2G'",
        "zip_limit is '-2G', a size such as 500M, 2G or a number of bytes was expected\n  file  {}\n  line  {}",
    ),
    "adapters": ("adapters: '.'", "adapters is '.', a list was expected\n  file  {}\n  line  {}"),
    "builtin": (
        "adapters: ['builtin:']",
        "an item of adapters is 'builtin:', a directory or builtin:<name> was expected\n  file  {}\n  line  {}",
    ),
    "twice": ("adapters: [a, a]", "adapters names a twice\n  file  {}\n  line  {}"),
    "model": (
        "models: [1]",
        "an item of models is 1, a mapping was expected\n  file  {}\n  line  {}",
    ),
    "model key": (
        "models: [{{path: a, require: [b]}}]",
        "models.require is not a key that cogbuild knows\n  closest  requires\n  file     {}\n  line     {}",
    ),
    "model path": ("models: [{{repo: a/b}}]", "models.path is missing\n  file  {}\n  line  {}"),
    "repo": (
        "models: [{{path: a, repo: digits}}]",
        "models.repo is 'digits', user/name was expected\n  file  {}\n  line  {}",
    ),
    "module": (
        "models: [{{path: a, requires: ['torch>2']}}]",
        "an item of models.requires is 'torch>2', the name of a Python module was expected\n  file  {}\n  line  {}",
    ),
    "registry": (
        "docker_registry: http://localhost:5000",
        (
            "docker_registry is 'http://localhost:5000', a registry such as localhost:5000 or localhost:5000/team was "
            "expected\n  file  {}\n  line  {}"
        ),
    ),
    "store": (
        "artifact_store: s3://user:word@bucket/x",
        (
            "artifacts can't be kept in 's3://user:word@bucket/x'\n  file  {}\n  line  {}\n"
            "hint: name a directory or a bucket: file:///srv/artifacts, s3://bucket/prefix, gs://…, az://container/…"
        ),
    ),
    "pass": (
        "pass_env: ['A B']",
        (
            "an item of pass_env is 'A B', the name of an environment variable, with * and ? for any letters was expected"
            "\n  file  {}\n  line  {}"
        ),
    ),
    "contract": (
        "pass_env: [COG_X]",
        "an item of pass_env is 'COG_X', a variable that does not begin with COG_ was expected\n  file  {}\n  line  {}",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusal_names_the_setting_the_file_and_the_line(case: str) -> None:
    """Each thing that can be wrong has its own whole message."""
    text, message = REFUSALS[case]
    text = text.replace("{{", "{").replace("}}", "}")
    assert refusal("docker_registry: ''\n" * (case != "registry") + text) == message.format(
        "cogbuild.yaml", 2 if case != "registry" else 1
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[tool.cogbuild\n",
            (
                "site/pyproject.toml is not TOML that can be read\n  line     1\n"
                "  problem  expected ']' at the end of a table declaration"
            ),
        ),
        (
            "[tool]\ncogbuild = 1\n",
            "site/pyproject.toml holds 1 where keys with values were expected",
        ),
        (
            "[tool.x]\njobs = 0\n[tool.cogbuild]\nzip_limit = 1\njobs = 0\n",
            "jobs is 0, a whole number from 1 to 9999 was expected\n  file  site/pyproject.toml\n  line  5",
        ),
        (
            "[tool.cogbuild]\n[[tool.cogbuild.models]]\npath = 'a'\nrepos = 'b'\n",
            (
                "models.repos is not a key that cogbuild knows\n  closest  repo\n"
                "  file     site/pyproject.toml\n  line     2"
            ),
        ),
        (
            "[tool.cogbuild]\njobs = 2021-01-01\n",
            "jobs is 2021-01-01, a whole number from 1 to 9999 was expected\n  file  site/pyproject.toml\n  line  2",
        ),
        (
            "a = " + "[" * 5000,
            "site/pyproject.toml is not TOML that can be read\n  problem  it nests too deeply",
        ),
    ],
)
def test_pyproject_is_refused_with_its_line_too(text: str, message: str) -> None:
    """The lines of a TOML file are found although its parser tells none."""
    assert refusal(text, TOML) == message


def test_variables_override_the_file() -> None:
    """Each `COGBUILD_…` variable replaces its setting; lists are split as their kind demands."""
    environ = {
        "COGBUILD_ADAPTERS": "adapters/onnx:builtin:archive",
        "COGBUILD_DOCKER_REGISTRY": "localhost:5000",
        "COGBUILD_ARTIFACT_STORE": "file:///srv/artifacts",
        "COGBUILD_JOBS": "3",
        "COGBUILD_PASS_ENV": "HTTP_PROXY, CORP_*",
        "COGBUILD_WORKSPACE_MEMORY": "500M",
        "COGBUILD_ZIP_LIMIT": "2147483648",
        "COGBUILD_DATA_DIR": "/elsewhere",
    }
    assert override(Settings(models=EXPECTED.models, jobs=1), environ) == EXPECTED


def test_empty_variables_mean_something_only_where_empty_does() -> None:
    """An empty registry is no registry and an empty store is the own one; other empty variables are not set."""
    environ = dict.fromkeys(
        ("COGBUILD_JOBS", "COGBUILD_ADAPTERS", "COGBUILD_ARTIFACT_STORE", "COGBUILD_DOCKER_REGISTRY"), ""
    )
    changed = override(EXPECTED, environ)
    assert (changed.jobs, changed.adapters) == (EXPECTED.jobs, EXPECTED.adapters)
    assert (changed.artifact_store, changed.docker_registry) == (None, "")


def test_nothing_set_changes_nothing() -> None:
    """Without variables the settings are the very same object."""
    assert override(EXPECTED, {"PATH": "/bin"}) is EXPECTED


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("COGBUILD_JOBS", "many", "COGBUILD_JOBS is 'many', a whole number from 1 to 9999 was expected"),
        (
            "COGBUILD_ZIP_LIMIT",
            "9" * 40,
            f"COGBUILD_ZIP_LIMIT is '{'9' * 40}', a size such as 500M, 2G or a number of bytes was expected",
        ),
        (
            "COGBUILD_ARTIFACT_STORE",
            "s3://bucket/a/../b",
            (
                "artifacts can't be kept in 's3://bucket/a/../b'\n"
                "  variable  COGBUILD_ARTIFACT_STORE\n"
                "hint: name a directory or a bucket: file:///srv/artifacts, s3://bucket/prefix, gs://…, az://container/…"
            ),
        ),
        (
            "COGBUILD_PASS_ENV",
            "A,B C",
            (
                "COGBUILD_PASS_ENV is 'A,B C', the name of an environment variable, with * and ? for any letters was "
                "expected"
            ),
        ),
    ],
)
def test_variable_that_cannot_be_read_is_named(variable: str, value: str, message: str) -> None:
    """A bad value is refused under the variable's name."""
    with pytest.raises(DeclarationError) as caught:
        override(Settings(), {variable: value})
    assert str(caught.value) == message


def test_overriding_brings_no_parser() -> None:
    """A run with nothing to do overrides settings without pydantic and YAML."""
    code = (
        "import sys; from cogbuild.spec import Settings; from cogbuild.spec.site import override;"
        "override(Settings(), {'COGBUILD_JOBS': '2'});"
        "sys.exit(' '.join({'pydantic', 'yaml', 'packaging', 'pathspec'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "\n")


@pytest.mark.parametrize("repo", ["ann/digits", "2/x", "A.b-c_d/E.f"])
def test_repos_that_work(repo: str) -> None:
    """A repo is two names with a slash between them."""
    assert "/".join(valid_repo(repo)) == repo


@pytest.mark.parametrize(
    "repo", ["digits", "a/b/c", "/b", "a/", "../b", "a/.", "a b/c", "a/b\n", "", "a" * 200 + "/b"]
)
def test_anything_else_is_no_repo(repo: str) -> None:
    """The message shows what was given."""
    with pytest.raises(BadRepo) as caught:
        valid_repo(repo)
    assert str(caught.value) == (
        f"{repo!r} is not a repo: user/name was expected\n"
        "hint: both parts are letters, digits, dots, dashes and underscores, and begin with a letter or digit"
    )


def test_names_become_variables() -> None:
    """What a shell can't name is an underscore, and letters are capitals."""
    assert param_variable("input-size_2") == "COG_PARAM_INPUT_SIZE_2"
    assert artifact_variable("docker-cpu.v2") == "COG_ARTIFACT_DOCKER_CPU_V2"
