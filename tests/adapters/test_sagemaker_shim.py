"""Does what stands in SageMaker's image answer as SageMaker asks, with the standard library alone?"""

from __future__ import annotations

import base64
import contextlib
import http.client
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from adapter_runs import ADAPTERS, KIT, environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SHIM = ADAPTERS / "sagemaker" / "shim"
STAND_IN = Path(__file__).with_name("cog_stand_in.py")
sys.path.append(str(SHIM))
bodies: Any = importlib.import_module("sagemaker_bodies")
model_dir: Any = importlib.import_module("sagemaker_model_dir")

FIELDS = {
    "note": {"type": "string", "x-order": 0},
    "image": {"type": "string", "format": "uri", "x-order": 2},
    "scale": {"type": "number", "x-order": 1},
}
PNG = b"\x89PNG\r\n\x1a\n\0"
DATA_URI = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


def schema_of(*names: str, **output: str) -> dict[str, Any]:
    """Return a schema with some of FIELDS as inputs."""
    fields = {name: FIELDS[name] for name in names}
    return {"components": {"schemas": {"Input": {"properties": fields}, "Output": output}}}


@dataclass
class Served:
    """A running shim."""

    process: subprocess.Popen[str]
    url: str
    log: Path

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes, str]:
        """Return code, body and media type of an answer."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"{self.url}{path}", body, named)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read(), answer.headers["Content-Type"]
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read(), refusal.headers["Content-Type"]

    def invoke(self, body: bytes, kind: str = "application/json", **headers: str) -> tuple[int, Any]:
        """Return code and JSON of a prediction."""
        code, data, _ = self.ask("/invocations", body, Content_Type=kind, **headers)
        return code, json.loads(data)

    def ping(self) -> int:
        return self.ask("/ping")[0]

    def wait(self) -> None:
        deadline = time.monotonic() + 60
        while self.ping() != 200:
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)


def assembled(place: Path) -> Path:
    """Lay the shim out as it lies in the image."""
    at = shutil.copytree(SHIM, place / "shim", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(KIT / "cogbuild_adapter" / "serving", at / "serving")
    return at


@contextlib.contextmanager
def serving(place: Path, *, cog: bool = False, **env: str) -> Iterator[Served]:
    """Run the shim in the directory *place*, over the stand-in for Cog's server or, with *cog*, over the real one."""
    shim, log = assembled(place), place / "log"
    packages = place / "packages" / "cog" / "server"
    if not cog:
        packages.mkdir(parents=True)
        shutil.copy(STAND_IN, packages / "http.py")
        (packages / "__init__.py").touch()
        (packages.parent / "__init__.py").touch()
    settings = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(place / "packages"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "SAGEMAKER_BIND_TO_PORT": "0",
        "SM_MODEL_DIR": str(place / "ml"),
        **env,
    }
    (place / "src").mkdir(exist_ok=True)
    with log.open("w") as file:
        process = subprocess.Popen(
            ["python", "-I", "-S", shim, "serve"], cwd=place / "src", env=settings, stderr=file, text=True
        )
    try:
        deadline = time.monotonic() + 30
        while "serving on port" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        port = log.read_text().split("serving on port ")[1].split(",")[0]
        yield Served(process, f"http://127.0.0.1:{port}", log)
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_the_shim_keeps_sagemakers_contract(tmp_path: Path) -> None:
    """503 while the model is set up, then 200; who finds it busy waits; what fails is 5xx, what is refused 4xx.

    What nobody waits for any more is not predicted.
    """
    with serving(tmp_path, STAND_IN_SETUP="0.7") as shim:
        assert shim.ping() == 503
        assert shim.invoke(b"{}")[0] == 503
        shim.wait()
        answers: list[Any] = []
        threads = [
            threading.Thread(
                target=lambda n=n: answers.append(shim.invoke(b'{"sleep": 0.02, "output": %d}' % n))
            )
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers, key=str) == [(200, {"status": "succeeded", "output": n}) for n in range(8)]
        assert shim.invoke(b'{"input": {"text": "a"}}')[1]["output"] == {"text": "a"}
        assert shim.invoke(b'{"fail": "no such word"}') == (
            500,
            {"status": "failed", "error": "no such word"},
        )
        assert shim.invoke(b'{"refuse": "too short"}') == (
            422,
            {"status": "failed", "error": "text: too short"},
        )
        assert shim.invoke(b"{")[0] == 400
        assert shim.ask("/predictions", b"{}")[0] == 404
        assert shim.ask("/")[0] == 404
        assert json.loads(shim.ask("/execution-parameters")[1]) == {
            "MaxConcurrentTransforms": 1,
            "BatchStrategy": "SINGLE_RECORD",
            "MaxPayloadInMB": 6,
        }
        _leaves_while_waiting(shim, b'{"end": 3}')
        assert shim.invoke(b'{"output": 7}')[1]["output"] == 7
        assert shim.invoke(b'{"end": 3}')[0] == 503
        assert shim.process.wait(10) == 1


def _leaves_while_waiting(shim: Served, body: bytes) -> None:
    """Ask for a prediction and go away before its turn, behind a slower one."""
    slow = threading.Thread(target=shim.invoke, args=(b'{"sleep": 0.4}',))
    slow.start()
    time.sleep(0.1)
    door = http.client.HTTPConnection(shim.url.removeprefix("http://"), timeout=10)
    door.request("POST", "/invocations", body)
    door.close()
    slow.join()


def test_a_file_comes_and_goes_as_it_is(tmp_path: Path) -> None:
    """A body with the type of a file is the model's file input, and a file is sent where one is wanted."""
    described = tmp_path / "src" / ".cog" / "openapi_schema.json"
    described.parent.mkdir(parents=True)
    described.write_text(json.dumps(schema_of("note", "image", "scale")))
    with serving(tmp_path) as shim:
        shim.wait()
        code, answer = shim.invoke(PNG, "image/png", X_Amzn_SageMaker_Custom_Attributes='{"scale": 2}')
        assert (code, answer["output"]) == (200, {"image": DATA_URI, "scale": 2})
        wanted = json.dumps({"output": DATA_URI}).encode()
        for accept in ("image/png", "image/*", "application/octet-stream"):
            answer = shim.ask("/invocations", wanted, Content_Type="application/json", Accept=accept)
            assert answer == (200, PNG, "image/png")
        assert shim.ask("/invocations", wanted, Content_Type="application/json", Accept="image/jpeg") == (
            406,
            b'{"status": "failed", "error": "the output can be sent as JSON or image/png, not as image/jpeg"}\n',
            "application/json",
        )


@pytest.mark.parametrize(
    ("body", "kind", "inputs"),
    [
        (b'{"text": "a"}', "application/json", {"text": "a"}),
        (b'{"text": "a"}', None, {"text": "a"}),
        (b'{"input": {"text": "a"}, "id": "7"}', "application/json; charset=utf-8", {"text": "a"}),
        (b'{"input": {"a": 1}, "scale": 2}', "application/vnd.x+json", {"input": {"a": 1}, "scale": 2}),
        (b'{"input": "a"}', "application/jsonlines", {"input": "a"}),
        (b"a,b", "text/csv", {"image": "data:text/csv;base64,YSxi"}),
        (b"\0", "Application/Octet-Stream", {"image": "data:application/octet-stream;base64,AA=="}),
    ],
)  # fmt: skip
def test_a_body_is_the_models_inputs(body: bytes, kind: str | None, inputs: Mapping[str, Any]) -> None:
    """JSON is the inputs by name, bare or as Cog's server takes them; anything else is the first file."""
    assert bodies.inputs_of(body, kind, None, schema_of("note", "image")) == inputs


def test_text_is_a_string_where_the_model_takes_no_file() -> None:
    """In UTF-8, with the other inputs from the custom attributes; attributes of somebody else are left alone."""
    only = schema_of("scale", "note")
    assert bodies.inputs_of("é".encode(), "text/plain", '{"scale": 1}', only) == {"note": "é", "scale": 1}
    assert bodies.inputs_of(b"a", "text/plain", "trace=7", only) == {"note": "a"}
    assert bodies.inputs_of(b"a", "text/plain", "[1]", only) == {"note": "a"}


@pytest.mark.parametrize(
    ("body", "kind", "code", "why"),
    [
        (b"[1]", "application/json", 400, 'the body has to be an object: {"input": {…}}, or the inputs by name'),
        (b"{", "application/json", 400, "the body is no JSON: Expecting property name"),
        (b"\xff", "text/plain", 400, "the body is no text in UTF-8: 'utf-8' codec can't decode"),
        (b"", "image/png", 415, "the model takes no input that image/png could be: send application/json"),
        (b"a=b", "application/x-www-form-urlencoded", 415, "application/x-www-form-urlencoded is not taken: "),
    ],
)  # fmt: skip
def test_what_cannot_be_inputs_is_refused(body: bytes, kind: str, code: int, why: str) -> None:
    """With a code that is the client's and the reason."""
    with pytest.raises(bodies.Refused) as refused:
        bodies.inputs_of(body, kind, None, schema_of("note"))
    assert refused.value.code == code
    assert str(refused.value).startswith(why)
    with pytest.raises(bodies.Refused):
        bodies.inputs_of(b"\0", "image/png", None, None)


def test_an_output_has_the_form_that_is_liked_best() -> None:
    """JSON unless something else is asked for; a file's or a text's bytes where they are."""

    def sent(output: Any, accept: str | None, **schema: str) -> tuple[bytes, str]:
        made: tuple[bytes, str] = bodies.written(output, accept, schema_of(**schema))
        return made

    as_json = b'{"status": "succeeded", "output": "a"}\n'
    assert sent("a", None) == sent("a", "*/*") == (as_json, "application/json")
    assert sent("a", "application/jsonlines") == (as_json, "application/jsonlines")
    assert sent("a", "text/html;q=0.5, text/*;q=0.9") == (b"a", "text/plain; charset=utf-8")
    assert sent("a", "text/plain;q=0.1, application/json") == (as_json, "application/json")
    assert sent([DATA_URI], "image/png") == (PNG, "image/png")
    concatenate = {"x-cog-array-display": "concatenate"}
    assert sent(["a", "b"], "text/plain", **concatenate) == (b"ab", "text/plain; charset=utf-8")
    assert sent("data:;base64,AA==", "application/octet-stream") == (b"\0", "application/octet-stream")
    for output, accept in ((["a", "b"], "text/plain"), ({"a": 1}, "image/png"), ("a", "*/*;q=0")):
        with pytest.raises(bodies.Refused, match="the output can be sent as JSON"):
            sent(output, accept)


def test_files_beside_the_image_stand_in_for_the_models_own(tmp_path: Path) -> None:
    """Also those that the image does not have; Cog's own directory stays; twice is as once."""
    beside, model = tmp_path / "ml", tmp_path / "src"
    for at, text in (("weights.bin", "new"), ("sub/more.bin", "more"), (".cog/openapi_schema.json", "no")):
        (beside / at).parent.mkdir(parents=True, exist_ok=True)
        (beside / at).write_text(text)
    (model / ".cog").mkdir(parents=True)
    (model / "weights.bin").write_text("old")
    (model / ".cog/openapi_schema.json").write_text("yes")
    for _ in range(2):
        assert model_dir.take_over(beside, model) == 2
    assert (model / "weights.bin").read_text() == "new"
    assert (model / "sub/more.bin").read_text() == "more"
    assert (model / ".cog/openapi_schema.json").read_text() == "yes"
    assert model_dir.take_over(tmp_path / "nothing", model) == 0
    (model / "taken").mkdir()
    (beside / "taken").touch()
    with pytest.raises(FileExistsError):
        model_dir.take_over(beside, model)


def test_the_image_only_serves(tmp_path: Path) -> None:
    """Another argument, a port that is none and a file in a directory's place end it with one sentence."""
    shim, beside = assembled(tmp_path), tmp_path / "ml"

    def said(*arguments: str, **env: str) -> str:
        done = subprocess.run(
            [sys.executable, "-I", "-S", shim, *arguments],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "SM_MODEL_DIR": str(beside), **env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        return done.stderr

    assert said("train") == "this image only serves: its argument is `serve`, not 'train'\n"
    assert said(SAGEMAKER_BIND_TO_PORT="x") == (
        "SAGEMAKER_BIND_TO_PORT is 'x', but it has to be a port's number\n"
    )
    beside.mkdir()
    (beside / "shim").touch()
    assert said().startswith(f"what is in {beside} cannot be put beside the model: [Errno 17]")


PREDICTOR = """
import time
from cog import BasePredictor, Input, Path

class Predictor(BasePredictor):
    def setup(self, weights: str = None):
        self.factor = int(open(f"{weights}/factor").read()) if weights else 1
        self.word = open("word").read()

    def predict(self, note: str = Input(default=""), image: Path = Input(description="A picture"),
                seconds: float = Input(default=0, le=20)) -> Path:
        if note == "fail":
            raise RuntimeError("no luck")
        time.sleep(seconds)
        made = Path("made.png")
        made.write_bytes(open(image, "rb").read() * self.factor + self.word.encode())
        return made
"""


@pytest.mark.slow
def test_cogs_own_server_stands_below(tmp_path: Path) -> None:
    """Files in and out, a failing prediction, weights from beside the image, and an end that waits for what runs."""
    source, beside = tmp_path / "src", tmp_path / "ml"
    (source / ".cog").mkdir(parents=True)
    beside.mkdir()
    (source / "predict.py").write_text(PREDICTOR)
    (source / "word").write_text("old")
    (beside / "word").write_text("new")
    (beside / "factor").write_text("2")
    python = environment("cog>=0.23,<0.24", "PyYAML") / "bin"
    text = "import json; from cogbuild_adapter.schema import schema; print('\\n' + json.dumps(schema('predict.py:Predictor')))"
    made = subprocess.run(
        [python / "python", "-c", text],
        cwd=source,
        env={"PYTHONPATH": str(KIT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    (source / ".cog/openapi_schema.json").write_text(made.stdout.splitlines()[-1])
    env = {"PATH": f"{python}:{os.environ['PATH']}", "COG_PREDICT_TYPE_STUB": "predict.py:Predictor"}
    with serving(tmp_path, cog=True, **env) as shim:
        assert shim.ping() == 503
        shim.wait()
        for accept in ("image/png", "application/octet-stream"):
            answer = shim.ask("/invocations", PNG, Content_Type="image/png", Accept=accept)
            assert answer == (200, PNG * 2 + b"new", "image/png"), shim.log.read_text()
        code, failed = shim.invoke(json.dumps({"image": DATA_URI, "note": "fail"}).encode())
        assert (code, failed["error"].rpartition(": ")[2]) == (500, "no luck")
        code, refused = shim.invoke(json.dumps({"image": DATA_URI, "seconds": 21}).encode())
        assert (code, refused["error"]) == (422, "seconds: 21 is greater than the maximum of 20.0")
        answers: list[int] = []

        def slow() -> None:
            answers.append(shim.invoke(json.dumps({"image": DATA_URI, "seconds": 0.4}).encode())[0])

        threads = [threading.Thread(target=slow) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        shim.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert answers == [200] * 3
        assert shim.process.wait(30) == 0
