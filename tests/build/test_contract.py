"""The contract with an adapter: what it gets, what it may print, how it may end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import Sandbox

from cogbuild.engine import Status


def made(box: Sandbox, script: str, *, files: dict[str, str] | None = None, **keys: Any) -> str:
    """Run one adapter on one model and return what it published."""
    box.adapter("one", "#!/bin/sh\n" + script, **keys)
    box.add("a", files)
    return box.artifact(box.adapt(), "a one").read_text()


# -- what it gets -------------------------------------------------------------------------------------------------


def test_the_variables_of_2021_and_nothing_else_of_ours(box: Sandbox) -> None:
    """All eight are set, empty where they have no value; the rest of the environment is the short list."""
    box.environ |= {"AWS_REGION": "r", "SECRET_OF_MINE": "s", "LC_ALL": "C"}
    text = made(box, 'env | sort > "$COG_OUTPUT_DIR/e"; echo "$COG_OUTPUT_DIR/e"\n')
    found = dict(line.split("=", 1) for line in text.splitlines())
    assert {
        name: found[name]
        for name in sorted(found)
        if name.startswith("COG_") and "DIR" not in name and "FILE" not in name
    } == {
        "COG_CPU_IMAGE": "",
        "COG_DOCKER_REGISTRY": "",
        "COG_HAS_DOCKER_REGISTRY": "false",
        "COG_MODEL_CLASS": "Predictor",
        "COG_MODEL_ID": found["COG_MODEL_ID"],
        "COG_MODEL_PYTHON_MODULE": "predict",
        "COG_REPO_NAME": "a",
        "COG_REPO_USER": "local",
    }
    others = {name for name in found if not name.startswith("COG_")}
    assert others - {"PWD", "SHLVL", "_", "OLDPWD"} == {"AWS_REGION", "HOME", "LC_ALL", "PATH"}


def test_uses_narrows_the_variables(box: Sandbox) -> None:
    """Only the variables named under uses are passed."""
    text = made(box, 'env > "$COG_OUTPUT_DIR/e"; echo "$COG_OUTPUT_DIR/e"\n', uses=["COG_MODEL_CLASS"])
    assert "COG_MODEL_CLASS=Predictor" in text
    assert "COG_MODEL_ID" not in text


def test_params_examples_and_env_arrive(box: Sandbox) -> None:
    """Parameters, the examples' file, passed, hashed and secret variables reach the process."""
    box.environ |= {"HTTPS_X": "p", "CUDA_HOME": "h", "HF_TOKEN": "t"}
    script = 'echo "$COG_PARAM_OPSET $COG_PARAM_DEEP $HTTPS_X $CUDA_HOME $HF_TOKEN" > "$COG_OUTPUT_DIR/o"\n'
    script += 'cat "$COG_EXAMPLES_FILE" >> "$COG_OUTPUT_DIR/o"; echo "$COG_OUTPUT_DIR/o"\n'
    wishes = {"cog-adapters.yaml": "examples:\n- input: {text: é}\n  output: E\n"}
    keys: dict[str, Any] = {"params": {"opset": 18, "deep": {"a": [1]}}, "examples": True}
    env = {"pass": ["HTTPS_X"], "hash": ["CUDA_HOME"], "secret": ["HF_TOKEN"]}
    first, second = made(box, script, files=wishes, env=env, **keys).splitlines()
    assert first == '18 {"a": [1]} p h t'
    assert json.loads(second) == [{"input": {"text": "é"}, "output": "E"}]


def test_the_workspace_is_private_and_thrown_away(box: Sandbox) -> None:
    """It may write, remove and replace as it likes; the store and the next adapter see nothing of it."""
    script = box.counting(
        "one", 'rm cog.yaml; echo x > weights.bin; ls > "$COG_OUTPUT_DIR/l"; echo "$COG_OUTPUT_DIR/l"'
    )
    box.adapter("one", script)
    box.adapter(
        "two", box.counting("two", 'cat cog.yaml weights.bin > "$COG_OUTPUT_DIR/l"; echo "$COG_OUTPUT_DIR/l"')
    )
    box.add("a")
    run = box.adapt()
    assert box.artifact(run, "a one").read_text() == "predict.py\nweights.bin\n"
    assert box.artifact(run, "a two").read_text().endswith("Predictor\na")


def test_stderr_is_the_log_line_by_line(box: Sandbox) -> None:
    """Lines come while it runs, and the whole is kept in the attempt's log."""
    box.adapter("one", box.counting("one", "echo first >&2; echo second >&2; echo s3://bucket/x"))
    box.add("a")
    run = box.adapt()
    assert [line for line in run.log if line.startswith("a one")] == ["a one first", "a one second"]
    assert [path.read_text() for path in (box.data / "logs").iterdir()] == ["first\nsecond\n"]


def test_state_is_kept_between_runs(box: Sandbox) -> None:
    """COG_STATE_DIR is the same directory in every run of the adapter and never counts."""
    script = 'echo x >> "$COG_STATE_DIR/n"; wc -l < "$COG_STATE_DIR/n" > "$COG_OUTPUT_DIR/n"; echo "$COG_OUTPUT_DIR/n"\n'
    box.adapter("one", "#!/bin/sh\n" + script, state=True)
    box.add("a")
    box.add("b")
    run = box.adapt(jobs=2)
    assert sorted(box.artifact(run, f"{name} one").read_text().strip() for name in "ab") == ["1", "2"]


# -- what it prints -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "s3://bucket/key",
        "https://host/x?y=z",
        "host.example/name",
        "name:tag",
        "name@sha256:" + "0" * 64,
        "host:5000/a/b:1",
        "arn:aws:sagemaker:eu:1:model/x",
    ],
)
def test_uris_and_images_are_taken_as_they_are(box: Sandbox, line: str) -> None:
    """A scheme, or an image reference with a slash, colon or at sign, is the artifact's URI."""
    box.adapter("one", f"#!/bin/sh\necho '{line}'\n")
    box.add("a")
    run = box.adapt()
    assert run.results["a one"].uris == (line,)


def test_a_directory_is_published_whole(box: Sandbox) -> None:
    """A printed directory goes to the store with its executable bits and links."""
    script = 'd="$COG_OUTPUT_DIR/pkg"; mkdir -p "$d/in"; echo 1 > "$d/in/f"; chmod +x "$d/in/f"; ln -s in/f "$d/l"; echo "$d"\n'
    box.adapter("one", "#!/bin/sh\n" + script)
    box.add("a")
    run = box.adapt()
    at = box.artifact(run, "a one")
    assert at.name == "pkg"
    assert (at / "l").readlink().name == "f"
    assert (at / "in" / "f").stat().st_mode & 0o111


def test_a_file_uri_in_the_output_directory_is_published(box: Sandbox) -> None:
    """``file:`` with a path below COG_OUTPUT_DIR is the same as the path."""
    assert made(box, 'echo 1 > "$COG_OUTPUT_DIR/f"; echo "file://$COG_OUTPUT_DIR/f"\n') == "1\n"


def test_several_artifacts_have_names(box: Sandbox) -> None:
    """Lines of COG_ARTIFACTS_FILE become named artifacts; stdout stays empty."""
    script = """cd "$COG_OUTPUT_DIR"; echo e > e.onnx; echo d > d.onnx
printf '{"name": "encoder", "uri": "e.onnx", "media_type": "application/onnx"}\\n' >> "$COG_ARTIFACTS_FILE"
printf '{"name": "decoder", "uri": "d.onnx"}\\n{"name": "card", "uri": "https://x/y"}\\n' >> "$COG_ARTIFACTS_FILE"
"""
    box.adapter("one", "#!/bin/sh\n" + script)
    box.add("a")
    run = box.adapt()
    artifacts = run.results["a one"].artifacts
    assert [(item.name, item.media_type, item.published) for item in artifacts] == [
        ("encoder", "application/onnx", True),
        ("decoder", None, True),
        ("card", None, False),
    ]


REFERS = """cd "$COG_OUTPUT_DIR"; echo e > e.onnx; printf 'uri: {cog-artifact:encoder}\\n' > d.yaml; ln d.yaml other
printf '{"name": "card", "uri": "d.yaml", "refers": ["encoder"]}\\n{"name": "encoder", "uri": "e.onnx"}\\n' >> "$COG_ARTIFACTS_FILE"
"""


def test_an_artifact_names_another(box: Sandbox) -> None:
    """Where the other one ended up is filled in before it is kept; artifacts stay in the order of their lines."""
    box.adapter("one", "#!/bin/sh\n" + REFERS)
    box.add("a")
    card, encoder = box.adapt().results["a one"].artifacts
    assert (card.name, encoder.name) == ("card", "encoder")
    with box.project() as project:
        assert (project.objects.artifacts / card.uri).read_text() == f"uri: {project.uri(encoder)}\n"


@pytest.mark.parametrize(
    ("refers", "text", "reason"),
    [
        ('["decoder"]', "x", "it refers to decoder, which no line lists"),
        ('["card"]', "x", "it refers to card, which refers to others itself"),
        ('["encoder"]', "x", "it does not hold {cog-artifact:encoder}"),
        (
            '["encoder"]',
            "{cog-artifact:encoder} {cog-artifact:b}",
            "it holds {cog-artifact:b}, but `refers` does not name that",
        ),
        ('["encoder"]', "\\377", "it refers to others, so it has to be a text file of at most 1 MiB"),
    ],
)
def test_a_reference_that_leads_nowhere(box: Sandbox, refers: str, text: str, reason: str) -> None:
    """It is refused, with what the file holds and what the line says."""
    script = REFERS.replace('["encoder"]', refers).replace("uri: {cog-artifact:encoder}", text)
    assert error_of(box, script) == (
        "one wrote a line into $COG_ARTIFACTS_FILE that can't be read on local/a@ID\n"
        "  artifact  card\n"
        f"  reason    {reason}\n"
        'hint: each line is JSON such as {"name": "encoder", "uri": "encoder.onnx"}'
    )


def error_of(box: Sandbox, script: str, **keys: Any) -> str:
    """Run one adapter on one model and return its error, with what differs from run to run cut out."""
    box.adapter("one", "#!/bin/sh\n" + script, **keys)
    added = box.add("a")
    run = box.adapt()
    assert run.exit_code == 1
    text = run.error("a one").replace(added.model[:12], "ID")
    return "\n".join(line for line in text.splitlines() if not line.startswith("  log "))


def test_no_line(box: Sandbox) -> None:
    """An adapter that ends well and prints nothing has failed."""
    assert error_of(box, 'echo x > "$COG_OUTPUT_DIR/left"\n') == (
        "one ended well on local/a@ID but printed no artifact URI\n"
        "  wrote  left\n"
        "hint: print one line on stdout: a URI, or a path below $COG_OUTPUT_DIR"
    )


def test_two_lines(box: Sandbox) -> None:
    """More than one line is refused, and the first and the last are shown."""
    assert error_of(box, "echo building; echo s3://b/k\n") == (
        "one printed 2 lines on local/a@ID, one was expected\n"
        "  first  building\n"
        "  last   s3://b/k\n"
        "hint: print only the artifact's URI on stdout, and everything else on stderr"
    )


def test_not_a_uri(box: Sandbox) -> None:
    """A word is no artifact."""
    assert error_of(box, "echo done\n") == (
        "one printed something that is no artifact URI on local/a@ID\n"
        "  printed  done\n"
        "hint: print a path below $COG_OUTPUT_DIR, scheme:…, or an image reference such as host/name:tag"
    )


def test_a_path_in_the_workspace(box: Sandbox) -> None:
    """A file in the workspace is about to vanish, so naming it is refused, plain and as ``file:``."""
    first = error_of(box, 'echo x > made; echo "$PWD/made"\n')
    assert first.startswith(
        "one named a file in its workspace on local/a@ID, and the workspace is gone by now\n  printed  /"
    )
    assert first.endswith("hint: write the artifact into $COG_OUTPUT_DIR, or upload it and print where it is")
    assert error_of(box, 'echo x > made; echo "file://$PWD/made"\n').startswith(
        "one named a file in its workspace on"
    )


@pytest.mark.parametrize("line", ["dist/model.onnx", "./dist/model.onnx", "dist", "cog.yaml"])
def test_a_relative_path_in_the_workspace(box: Sandbox, line: str) -> None:
    """What could be read as an image is refused where it is a file of the workspace."""
    text = error_of(box, f"mkdir dist; echo x > dist/model.onnx; echo {line}\n")
    assert text.startswith(
        "one named a file in its workspace on local/a@ID, and the workspace is gone by now\n"
    )


def test_not_utf8(box: Sandbox) -> None:
    """Bytes that are no text are shown escaped."""
    assert error_of(box, "printf 's3://\\377\\n'\n") == (
        "one printed bytes that are not UTF-8 on local/a@ID\n  printed  s3://\\xff"
    )


def test_a_promised_file_that_is_not_there(box: Sandbox) -> None:
    """What it named is compared with what it wrote."""
    text = error_of(box, 'echo 1 > "$COG_OUTPUT_DIR/model.part"; echo "$COG_OUTPUT_DIR/model.onnx"\n')
    assert text.startswith("one ended well on local/a@ID but what it named is not there\n  printed  /")
    assert "\n  wrote    model.part\n" in text


def test_both_channels(box: Sandbox) -> None:
    """A line on stdout and lines in the file at once are refused."""
    script = 'printf \'{"name": "x", "uri": "s3://b/k"}\\n\' >> "$COG_ARTIFACTS_FILE"; echo s3://b/k\n'
    assert error_of(box, script).startswith(
        "one named artifacts on stdout and in $COG_ARTIFACTS_FILE on local/a@ID\n"
    )


def test_a_name_twice(box: Sandbox) -> None:
    """Two artifacts of one adapter can't share a name."""
    script = 'printf \'{"name": "x", "uri": "s3://b/k"}\\n{"name": "x", "uri": "s3://b/l"}\\n\' >> "$COG_ARTIFACTS_FILE"\n'
    assert error_of(box, script) == "one named the artifact x twice on local/a@ID\n  line  2"


def test_a_broken_list(box: Sandbox) -> None:
    """A line that is no such JSON is named by its number."""
    assert error_of(box, 'echo nonsense >> "$COG_ARTIFACTS_FILE"\n').startswith(
        "one wrote a line into $COG_ARTIFACTS_FILE that can't be read on local/a@ID\n  line    1\n"
    )


# -- how it ends --------------------------------------------------------------------------------------------------


def test_exit_100_with_api_is_not_applicable_and_not_asked_again(box: Sandbox) -> None:
    """The last line of stderr is the reason; the outcome holds until something changes."""
    box.adapter("one", box.counting("one", "echo trace >&2; echo no network was found >&2; exit 100"), api=1)
    box.add("a")
    run = box.adapt()
    assert run.status("a one") is Status.NOT_APPLICABLE
    assert run.results["a one"].reason == "no network was found"
    assert run.exit_code == 0
    assert box.adapt().ran == []


def test_exit_100_without_api_is_a_failure(box: Sandbox) -> None:
    """An adapter of 2021 that happens to exit with 100 has failed; a new one is told what it lacks."""
    error = error_of(box, "exit 100\n")
    assert error.startswith("one failed on local/a@ID after 0.")
    assert error.endswith(
        "\nhint: 100 says that an adapter does not apply to a model where its cog-adapter.yaml has api: 1"
    )


def test_plain_failure_signal_and_timeout_are_told_apart(box: Sandbox) -> None:
    """Each ending has its own words."""
    plain = error_of(box, "echo KeyError >&2; exit 3\n")
    assert plain.startswith("one failed on local/a@ID after 0.")
    assert plain.endswith("  status   3\n  it said  KeyError")
    assert error_of(box, "kill -SEGV $$\n").startswith("one was ended by SIGSEGV on local/a@ID after 0.")
    assert error_of(box, "sleep 60\n", timeout=0.3) == (
        "one took longer than 0.3 s on local/a@ID and was ended\n"
        "hint: give it more time with timeout: in its cog-adapter.yaml"
    )


def test_a_failed_pair_is_tried_again_and_undoes_nothing(box: Sandbox) -> None:
    """Another pair's success stands; the next run tries the failed one alone."""
    box.adapter("good")
    box.adapter("bad", box.counting("bad", "exit 1"))
    box.add("a")
    run = box.adapt()
    assert sorted(run.ran) == ["a bad", "a good"]
    assert box.adapt().ran == ["a bad"]


def test_fail_fast_begins_nothing_more(box: Sandbox) -> None:
    """With --fail-fast the first failure is the last thing that was begun."""
    box.adapter("bad", box.counting("bad", "exit 1"))
    box.add("a")
    box.add("b")
    assert box.adapt(fail_fast=True).ran == ["b bad"]


@pytest.mark.slow
def test_exit_75_is_tried_again_as_often_as_declared(box: Sandbox) -> None:
    """A temporary failure is retried with a pause; each try is an attempt."""
    script = 'n=$(cat "$COG_STATE_DIR/n" 2>/dev/null || echo 0); echo $((n+1)) > "$COG_STATE_DIR/n"\n[ "$n" -ge 1 ] || exit 75\necho s3://b/k'
    box.adapter("one", box.counting("one", script), retries=2, state=True)
    box.add("a")
    run = box.adapt()
    assert run.ran == ["a one", "a one"]
    assert run.status("a one") is Status.BUILT
    assert any("temporary failure (exit 75); trying again in 1 s" in line for line in run.log)


def test_files_that_change_under_the_run_record_nothing(box: Sandbox) -> None:
    """A live model that moved while the adapter ran: nothing is recorded, and the file is named."""
    directory = box.model("a")
    box.configure(models=[str(directory)])
    box.adapter("one", f"#!/bin/sh\necho moved > {directory}/weights.bin\necho s3://b/k\n")
    run = box.adapt()
    assert run.error("a one").endswith("  files  weights.bin\nhint: run it again when nothing writes there")
    assert box.look("a", "one").outcome is None


# -- tests of artifacts -------------------------------------------------------------------------------------------


def test_a_test_judges_before_anything_is_recorded(box: Sandbox) -> None:
    """The test gets the published URI; when it refuses, the pair has failed and there is no outcome."""
    box.adapter("one", test='#!/bin/sh\ncat "${COG_ARTIFACT_URI#file://}" >&2\nexit 1\n')
    box.add("a")
    run = box.adapt()
    assert run.results["a one"].error is not None
    assert run.error("a one").startswith("the test of one refused what it made of local/a@")
    assert "aone" in run.log[0]
    assert box.look("a", "one").outcome is None


def test_a_changed_test_runs_alone(box: Sandbox) -> None:
    """The script does not run again; when the new test refuses, what needs the artifact is blocked."""
    box.adapter("one", test="#!/bin/sh\nexit 0\n")
    box.adapter("upper", needs=["one"])
    box.add("a")
    assert box.adapt().ran == ["a one", "a upper"]
    box.adapter("one", test="#!/bin/sh\n: better\nexit 0\n")
    run = box.adapt()
    assert (run.ran, run.status("a one")) == ([], Status.TESTED)
    box.adapter("one", test="#!/bin/sh\nexit 1\n")
    run = box.adapt()
    assert run.status("a one") is Status.FAILED
    assert run.status("a upper") is Status.BLOCKED
    box.adapter("one", test="#!/bin/sh\nexit 0\n")
    run = box.adapt()
    assert run.ran == []
    assert run.status("a one") is Status.TESTED
    assert run.exit_code == 0
