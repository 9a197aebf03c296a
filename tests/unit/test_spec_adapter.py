"""What ``cog-adapter.yaml`` may say, and how it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from cogbuild.errors.declarations import DeclarationError
from cogbuild.spec import AdapterSpec, PythonSpec, Requirement
from cogbuild.spec.adapter import parse_adapter

FILE = Path("adapters/onnx/cog-adapter.yaml")
MINIMAL = "name: onnx\nscript: adapter.py\n"
WHERE = "\n  file  adapters/onnx/cog-adapter.yaml\n  line  {}"


def parse(text: str) -> AdapterSpec:
    return parse_adapter(text.encode(), FILE)


def refusal(text: str) -> str:
    with pytest.raises(DeclarationError) as caught:
        parse(text)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_adapter_of_2021_needs_name_and_script_only() -> None:
    """The two keys that Cog defined are enough; the rest has its defaults."""
    assert parse(MINIMAL) == AdapterSpec(name="onnx", script="adapter.py")


def test_every_key_is_read() -> None:
    """Each optional key of the contract arrives in the declaration."""
    spec = parse(
        """
name: onnx
script: ./bin/adapter.py
description: ONNX graph
api: 1
inputs: ["**", "!docs/**"]
uses: [COG_MODEL_PYTHON_MODULE]
examples: true
env: {pass: [HTTPS_PROXY], hash: [CUDA_HOME], secret: [HF_TOKEN]}
params: {opset: 18, input-shape: [1, 2], note: {a: null}}
python: {packages: [onnx, "skl2onnx>=1.17"], with_model: true, kit: true}
needs: [docker-cpu]
timeout: 1h30m
retries: 2
large_writes: true
state: true
epoch: 3
test: test.py
requires: [{setting: docker_registry}, {program: strace, package: strace}, {programs: [a, b], for: it is not run}]
"""
    )
    assert spec == AdapterSpec(
        name="onnx",
        script="bin/adapter.py",
        description="ONNX graph",
        api=1,
        inputs=("**", "!docs/**"),
        uses=("COG_MODEL_PYTHON_MODULE",),
        examples=True,
        env_pass=("HTTPS_PROXY",),
        env_hash=("CUDA_HOME",),
        env_secret=("HF_TOKEN",),
        params={"opset": 18, "input-shape": [1, 2], "note": {"a": None}},
        python=PythonSpec(("onnx", "skl2onnx>=1.17"), with_model=True, kit=True),
        needs=("docker-cpu",),
        timeout=5400.0,
        retries=2,
        large_writes=True,
        state=True,
        epoch=3,
        test="test.py",
        requires=(
            Requirement(setting="docker_registry"),
            Requirement(programs=("strace",), package="strace"),
            Requirement(programs=("a", "b"), purpose="it is not run"),
        ),
    )


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("30m", 1800), ("90s", 90), ("1h30m", 5400), ("45", 45), ("0.5", 0.5), ("2h5s", 7205)],
)
def test_timeout_is_a_time_or_a_number_of_seconds(written: str, seconds: float) -> None:
    """`30m`, `90s`, `1h30m` and plain seconds mean what they say."""
    assert parse(MINIMAL + f"timeout: {written}").timeout == seconds


@pytest.mark.parametrize("name", ["onnx", "core-ml.v2", "SageMaker", "2to3", "a" * 64])
def test_names_that_work(name: str) -> None:
    """Slugs work, and so do the capital letters of 2021 adapters."""
    assert parse(f"name: '{name}'\nscript: a").name == name


@pytest.mark.parametrize("name", ["a=b", "-x", "a b", "a/b", "", "a" * 65, "x\\n", "ü"])
def test_names_that_would_break_a_task_or_path_are_refused(name: str) -> None:
    """A name has to survive as a doit task, a directory and a variable."""
    assert "a name of at most 64 letters, digits, dots, dashes and underscores was expected" in refusal(
        f'name: "{name}"\nscript: a'
    )


@pytest.mark.parametrize("script", ["/bin/sh", "../x", "a/../../x", ".", "", "a/.."])
def test_script_outside_its_directory_is_refused(script: str) -> None:
    """What runs has to be below the adapter's directory, because that is what counts."""
    assert refusal(f"name: onnx\nscript: '{script}'") == (
        f"script is '{script}', the path of a file in the same directory was expected" + WHERE.format(2)
    )


REFUSALS = {
    "unknown key": (
        "name: onnx\nscirpt: adapter.py\n",
        (
            "scirpt is not a key that cogbuild knows\n  closest  script\n"
            "  file     adapters/onnx/cog-adapter.yaml\n  line     2"
        ),
    ),
    "unknown key inside": (
        MINIMAL + "env:\n  hash: [A]\n  secrets: [B]",
        (
            "env.secrets is not a key that cogbuild knows\n  closest  secret\n"
            "  file     adapters/onnx/cog-adapter.yaml\n  line     5"
        ),
    ),
    "unlike any key": (
        MINIMAL + "env: {xyz: 1}",
        (
            "env.xyz is not a key that cogbuild knows\n  known  pass, hash, secret\n"
            "  file   adapters/onnx/cog-adapter.yaml\n  line   3"
        ),
    ),
    "missing key": ("name: onnx\n", "script is missing\n  file  adapters/onnx/cog-adapter.yaml"),
    "key twice": (
        MINIMAL + "name: tvm",
        "name is given twice\n  file        adapters/onnx/cog-adapter.yaml\n  line        3\n  first line  1",
    ),
    "text for number": (
        MINIMAL + "epoch: abc",
        "epoch is 'abc', a whole number was expected" + WHERE.format(3),
    ),
    "fraction": (MINIMAL + "epoch: 1.5", "epoch is 1.5, a whole number was expected" + WHERE.format(3)),
    "yes for a number": (
        MINIMAL + "epoch: yes",
        "epoch is true, a whole number was expected" + WHERE.format(3),
    ),
    "number for text": ("name: 2021\nscript: a", "name is 2021, text was expected" + WHERE.format(1)),
    "list for text": ("name: [a]\nscript: a", "name is a list, text was expected" + WHERE.format(1)),
    "text for list": (MINIMAL + "inputs: '**'", "inputs is '**', a list was expected" + WHERE.format(3)),
    "text for yes or no": (
        MINIMAL + "state: 'yes'",
        "state is 'yes', true or false was expected" + WHERE.format(3),
    ),
    "nothing for mapping": (MINIMAL + "env:", "env is empty, a mapping was expected" + WHERE.format(3)),
    "item": (
        MINIMAL + "needs:\n- a\n- 1",
        "an item of needs is 1, text was expected" + WHERE.format(5),
    ),
    "timeout": (
        MINIMAL + "timeout: 30 minutes",
        "timeout is '30 minutes', a time such as 90s, 30m or 1h30m was expected" + WHERE.format(3),
    ),
    "endless timeout": (
        MINIMAL + "timeout: .inf",
        "timeout is '.inf', a time such as 90s, 30m or 1h30m was expected" + WHERE.format(3),
    ),
    "timeout in base sixty": (
        MINIMAL + "timeout: 1:30",
        "timeout is '1:30', a time such as 90s, 30m or 1h30m was expected" + WHERE.format(3),
    ),
    "retries": (
        MINIMAL + "retries: -1",
        "retries is -1, a whole number from 0 to 100 was expected" + WHERE.format(3),
    ),
    "api": (
        MINIMAL + "api: 2",
        "the adapter speaks api 2, this cogbuild knows api 1"
        + WHERE.format(3)
        + "\nhint: upgrade cogbuild, or use an older version of the adapter",
    ),
    "uses": (
        MINIMAL + "uses: [COG_MODEL]",
        (
            "COG_MODEL is not a variable that adapters can get\n  closest  COG_MODEL_ID\n"
            "  file     adapters/onnx/cog-adapter.yaml\n  line     3"
        ),
    ),
    "variable of the contract": (
        MINIMAL + "env: {pass: [COG_TOKEN]}",
        "an item of env.pass is 'COG_TOKEN', a variable that does not begin with COG_ was expected"
        + WHERE.format(3),
    ),
    "no variable": (
        MINIMAL + "env: {pass: ['A=B']}",
        "an item of env.pass is 'A=B', the name of an environment variable was expected" + WHERE.format(3),
    ),
    "variable of two kinds": (
        MINIMAL + "env: {pass: [A], secret: [A]}",
        "an item of env.secret is 'A', a variable that is not under pass too was expected" + WHERE.format(3),
    ),
    "pattern": (
        MINIMAL + "inputs: ['**', '']",
        "an item of inputs is '', a pattern such as **, *.py or !docs/** was expected" + WHERE.format(3),
    ),
    "broken pattern": (
        MINIMAL + "inputs: ['**', '!']",
        "an item of inputs is '!', a pattern such as **, *.py or !docs/** was expected" + WHERE.format(3),
    ),
    "exclusion first": (
        MINIMAL + "inputs: ['!docs/**']",
        "an item of inputs is '!docs/**', a pattern that takes files in, such as **, before those that leave some out "
        "was expected" + WHERE.format(3),
    ),
    "params name": (
        MINIMAL + "params: {'a b': 1}",
        "a name in params is 'a b', at most 64 letters, digits, dashes and underscores was expected"
        + WHERE.format(3),
    ),
    "params collide": (
        MINIMAL + "params:\n  in-size: 1\n  in_size: 2",
        "in-size and in_size in params would both become COG_PARAM_IN_SIZE"
        + WHERE.format(5)
        + "\nhint: rename one of them",
    ),
    "requirement": (
        MINIMAL + "python: {packages: ['onnx 1.17']}",
        "an item of python.packages is 'onnx 1.17', a requirement such as onnx or onnx>=1.17 was expected"
        + WHERE.format(3),
    ),
    "needs itself": (MINIMAL + "needs: [tvm, onnx]", "adapter onnx needs itself" + WHERE.format(3)),
    "needs twice": (MINIMAL + "needs:\n- tvm\n- tvm", "needs names tvm twice" + WHERE.format(5)),
    "needs collide": (
        MINIMAL + "needs: [a.b, a-b]",
        "a.b and a-b in needs would both become COG_ARTIFACT_A_B"
        + WHERE.format(3)
        + "\nhint: rename one of them",
    ),
    "test outside": (
        MINIMAL + "test: ../test.py",
        "test is '../test.py', the path of a file in the same directory was expected" + WHERE.format(3),
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusal_names_the_value_the_file_and_the_line(case: str) -> None:
    """Each thing that can be wrong has its own whole message."""
    text, message = REFUSALS[case]
    assert refusal(text) == message


def test_an_adapter_may_read_no_file_at_all() -> None:
    """An empty list of inputs is an adapter that works from its variables alone."""
    assert parse(MINIMAL + "inputs: []").inputs == ()


def test_numbers_that_json_cannot_hold_stay_as_written() -> None:
    """A parameter reaches the adapter with the text that the author wrote."""
    spec = parse(MINIMAL + "params: {a: 99999999999999999999999, b: .inf, c: 2021-01-01, d: 12:30}")
    assert spec.params == {"a": "99999999999999999999999", "b": ".inf", "c": "2021-01-01", "d": "12:30"}
