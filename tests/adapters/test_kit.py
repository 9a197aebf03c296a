"""What does the kit promise every Python adapter, whatever the model's code does?"""

from __future__ import annotations

import importlib
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from adapter_runs import KIT

if TYPE_CHECKING:
    from pathlib import Path


def _run(body: str, where: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run an adapter whose ``main`` has *body*; the kit is all there is beside the standard library."""
    indented = "".join(f"    {line}\n" for line in body.splitlines())
    script = where / "adapter.py"
    script.write_text(
        f"import os, sys\nfrom cogbuild_adapter import *\n\ndef main():\n{indented}\nrun(main)\n"
    )
    return subprocess.run(
        [sys.executable, "-S", script],
        env={"PYTHONPATH": str(KIT), **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_only_the_returned_path_reaches_stdout(tmp_path: Path) -> None:
    """Prints of Python code, of C libraries and of child processes go to the log."""
    done = _run(
        "print('python')\nos.write(1, b'c library\\n')\nos.system('echo child')\nsys.__stdout__.write('again\\n')\n"
        "return '/out/model.onnx'",
        tmp_path,
    )
    assert (done.returncode, done.stdout) == (0, "/out/model.onnx\n")
    assert set(done.stderr.split("\n")) == {"python", "c library", "child", "again", ""}


def test_nothing_is_printed_for_an_adapter_that_returns_nothing(tmp_path: Path) -> None:
    """An adapter that lists its artifacts in a file leaves stdout empty."""
    done = _run("return None", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_not_applicable_ends_with_100_and_its_reason_last(tmp_path: Path) -> None:
    """The reason is one line, the last, below the traceback of what led to it."""
    done = _run(
        "import atexit\natexit.register(print, 'bye')\n"
        "try:\n    {}['op']\nexcept KeyError as error:\n    raise NotApplicable('no\\nop') from error",
        tmp_path,
    )
    assert (done.returncode, done.stdout) == (100, "")
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("KeyError: 'op'\nno op\n")


def test_an_adapter_error_ends_with_1_and_its_sentence(tmp_path: Path) -> None:
    """What the user can put right is a failure, said in one sentence without a traceback."""
    done = _run("raise AdapterError('give it a name')", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "give it a name\n")


def test_a_bug_ends_with_1_and_a_traceback(tmp_path: Path) -> None:
    """An exception that nobody foresaw is a failure with its traceback."""
    done = _run("return 1 / 0", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_a_model_that_exits_has_not_given_an_artifact(tmp_path: Path) -> None:
    """A model that calls sys.exit(0) is a failure, not a success."""
    done = _run("sys.exit(0)", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "the model's code ended the process with sys.exit(0)\n"


def test_a_thread_of_the_model_holds_nothing_up(tmp_path: Path) -> None:
    """A thread that the model started and never ends does not keep the adapter alive."""
    start = time.monotonic()
    done = _run(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(30,)).start()\nreturn 'x:y'",
        tmp_path,
    )
    assert (done.returncode, done.stdout) == (0, "x:y\n")
    assert time.monotonic() - start < 15


@pytest.mark.parametrize(
    ("call", "given", "line"),
    [
        ("param('opset', 18)", None, "18"),
        ("param('opset', 18)", "20", "20"),
        ("param('half-size', False)", "true", "True"),
        ("param('scale', 1.0)", "0.5", "0.5"),
        ("param('network', 'a')", "", "''"),
    ],
)
def test_a_parameter_is_read_as_what_its_default_is(
    call: str, given: str | None, line: str, tmp_path: Path
) -> None:
    """Whole numbers, numbers, texts and yes/no come from COG_PARAM_ variables; absent means the default."""
    name = "COG_PARAM_" + call.split("'")[1].upper().replace("-", "_")
    done = _run(f"return repr({call})", tmp_path, **({} if given is None else {name: given}))
    assert done.stdout == f"{line}\n", done.stderr


def test_a_parameter_of_the_wrong_kind_is_refused_in_words(tmp_path: Path) -> None:
    """The message names the parameter, what it is and what it has to be."""
    done = _run("return str(param('opset', 18))", tmp_path, COG_PARAM_OPSET="new")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "the parameter opset is 'new', but it has to be a whole number\n"


def test_no_examples_is_said_with_the_way_out(tmp_path: Path) -> None:
    """An adapter that asks for examples of a model without any says where to give them."""
    (tmp_path / "examples.json").write_text("[]")
    done = _run("examples()", tmp_path, COG_EXAMPLES_FILE=str(tmp_path / "examples.json"))
    assert done.returncode == 1
    assert done.stderr == (
        "the model has no examples: give at least one under `examples:` in its cog-adapters.yaml, "
        "as `- input: {name: value}`\n"
    )


def test_the_artifact_of_a_test_is_found_by_its_uri(tmp_path: Path) -> None:
    """A file: URI becomes a path, its escapes undone; any other scheme is refused."""
    done = _run("return artifact_path()", tmp_path, COG_ARTIFACT_URI="file:///a%20b/model.onnx")
    assert done.stdout == "/a b/model.onnx\n"
    done = _run("return artifact_path()", tmp_path, COG_ARTIFACT_URI="s3://bucket/x")
    assert done.stderr == "COG_ARTIFACT_URI is 's3://bucket/x', but that can't be read on this machine\n"


def test_several_artifacts_are_returned_by_name(tmp_path: Path) -> None:
    """A dictionary becomes the lines of COG_ARTIFACTS_FILE, and stdout stays empty."""
    listed = tmp_path / "listed"
    done = _run(
        "return {'encoder': '/out/encoder.onnx', 'b': 'x:y'}", tmp_path, COG_ARTIFACTS_FILE=str(listed)
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert listed.read_text() == (
        '{"name": "encoder", "uri": "/out/encoder.onnx"}\n{"name": "b", "uri": "x:y"}\n'
    )


def test_a_test_finds_all_artifacts_by_name(tmp_path: Path) -> None:
    """Several artifacts stand in COG_ARTIFACTS_FILE; a single one has the empty name, listed or not."""
    listed = tmp_path / "listed"
    listed.write_text('{"name": "a", "uri": "file:///x/a%20b"}\n{"name": "b", "uri": "file:///b"}\n')
    shown = "return repr({name: str(path) for name, path in artifact_paths().items()})"
    done = _run(shown, tmp_path, COG_ARTIFACTS_FILE=str(listed), COG_ARTIFACT_URI="file:///x/a%20b")
    assert done.stdout == "{'a': '/x/a b', 'b': '/b'}\n"
    listed.write_text('{"uri": "file:///one"}\n')
    done = _run(shown, tmp_path, COG_ARTIFACTS_FILE=str(listed), COG_ARTIFACT_URI="file:///one")
    assert done.stdout == "{'': '/one'}\n"
    done = _run(shown, tmp_path, COG_ARTIFACT_URI="file:///one")
    assert done.stdout == "{'': '/one'}\n"


def test_what_another_adapter_made_is_found_by_name(tmp_path: Path) -> None:
    """Several needed artifacts are named as their files are, a single one is not named."""
    shown = "return repr({name: str(path) for name, path in needed_paths('onnx').items()})"
    one = {"COG_ARTIFACT_ONNX": "file:///x/model.onnx"}
    assert _run(shown, tmp_path, **one).stdout == "{'': '/x/model.onnx'}\n"
    several = {
        "COG_ARTIFACT_ONNX": "file:///x/net.a.onnx",
        "COG_ARTIFACT_ONNX_NET_A": "file:///x/net.a.onnx",
        "COG_ARTIFACT_ONNX_OTHER": "file:///y/other.onnx",
    }
    done = _run(shown, tmp_path, **several)
    assert done.stdout == "{'net.a': '/x/net.a.onnx', 'other': '/y/other.onnx'}\n"
    done = _run(shown, tmp_path)
    assert (done.returncode, done.stderr) == (
        1,
        "COG_ARTIFACT_ONNX is '', but that can't be read on this machine\n",
    )


def test_fidelity_is_kept_and_logged(tmp_path: Path) -> None:
    """Each artifact's largest difference is a line of JSON for cogbuild and a sentence in the log."""
    kept = tmp_path / "fidelity"
    body = (
        "seen = Differences()\nseen.absolute, seen.relative, seen.outputs = 1.25e-7, 3e-6, 4\n"
        "report_fidelity(seen, runtime='onnxruntime 1.2', examples=3)\n"
        "report_fidelity(seen, runtime='onnxruntime 1.2', examples=3, artifact='encoder')"
    )
    done = _run(body, tmp_path, COG_FIDELITY_FILE=str(kept))
    row = '"runtime": "onnxruntime 1.2", "absolute": 1.25e-07, "relative": 3e-06, "examples": 3, "outputs": 4}\n'
    assert kept.read_text() == f'{{"artifact": "", {row}{{"artifact": "encoder", {row}'
    sentence = "largest difference: absolute 1.2e-07, relative 3e-06, over 4 outputs of 3 examples, in onnxruntime 1.2\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"{sentence}encoder: {sentence}")
    done = _run(body, tmp_path)
    assert (done.returncode, done.stderr) == (0, f"{sentence}encoder: {sentence}")


def test_the_kits_directory_holds_nothing_that_could_hide_a_package() -> None:
    """What goes on PYTHONPATH is the kit alone: a directory called onnx beside it would pass for the package."""
    assert {entry.name for entry in KIT.iterdir() if entry.name != "__pycache__"} == {
        "cogbuild_adapter",
        "README.md",
    }


@pytest.mark.parametrize(
    ("said", "env"),
    [
        ("concurrency: {max: 4}\n", {"COG_MAX_CONCURRENCY": "4"}),
        (
            "concurrency: {max: 4}\nenvironment: [COG_MAX_CONCURRENCY=2, A=b=c]\n",
            {"COG_MAX_CONCURRENCY": "2", "A": "b=c"},
        ),
        ("build: {python_version: '3.11'}\n", {}),
    ],
)
def test_an_images_variables_follow_from_cog_yaml(
    said: str, env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that it lists, and how many predictions Cog's server makes at once."""
    monkeypatch.syspath_prepend(KIT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COG_MODEL_PYTHON_MODULE", "predict")
    monkeypatch.setenv("COG_MODEL_CLASS", "Predictor")
    (tmp_path / "cog.yaml").write_text(said)
    cog_yaml: Any = importlib.import_module("cogbuild_adapter.cog_yaml")
    assert cog_yaml.read().env == env


@pytest.mark.parametrize("said", ["4", "{max: true}", "{max: four}", "{max: 0}", "[4]"])
def test_concurrency_that_is_no_number_is_said(said: str, tmp_path: Path) -> None:
    """When the image is made, not when it starts."""
    (tmp_path / "cog.yaml").write_text(f"concurrency: {said}\n")
    done = subprocess.run(
        [sys.executable, "-c", "from cogbuild_adapter import run, cog_yaml\nrun(cog_yaml.read)"],
        env={"PYTHONPATH": str(KIT), "COG_MODEL_PYTHON_MODULE": "predict", "COG_MODEL_CLASS": "Predictor"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith(
        "concurrency of cog.yaml has to be {max: N}, a number from 1 on, not "
    )


def test_outputs_sent_as_json_are_compared(tmp_path: Path) -> None:
    """Numbers may be a little off, which is kept; all else, shape included, has to be equal."""
    near = _run(
        "seen = Differences()\n"
        "seen.check_json('example 1', {'a': [1.0, 2.0], 'b': 'x', 'n': None}, {'a': [1, 2.001], 'b': 'x', 'n': None})\n"
        "print(seen.outputs, f'{seen.absolute:.3f} {seen.relative:.4f}')",
        tmp_path,
    )
    assert (near.returncode, near.stderr) == (0, "1 0.001 0.0005\n")
    pairs: list[tuple[object, object]] = [(2.0, 2.1), ([1.0], [1.0, 1.0]), ({"a": 1}, {"b": 1}), (1.0, "1.0")]
    far = _run(
        f"for wanted, got in {pairs}:\n    try:\n        Differences().check_json('example 2', wanted, got)\n"
        "    except AdapterError as error:\n        print(error)",
        tmp_path,
    )
    assert far.stderr == "".join(f"example 2: the output is {got}, not {wanted}\n" for wanted, got in pairs)
