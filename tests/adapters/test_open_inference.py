"""Do tensors become a model's inputs and its output tensors again, in JSON and in binary, and is all else refused?"""

from __future__ import annotations

import base64
import contextlib
import importlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from adapter_runs import EXAMPLES, KIT, environment
from characters import CHARACTERS
from hypothesis import example, given
from hypothesis import strategies as st
from test_serving import STAND_IN, until

sys.path.append(str(KIT))
tensors: Any = importlib.import_module("cogbuild_adapter.serving.tensors")
wire: Any = importlib.import_module("cogbuild_adapter.serving.wire")

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = {"type": "string", "format": "uri"}
SCHEMA = {
    "components": {
        "schemas": {
            "Input": {
                "type": "object",
                "required": ["text"],
                "properties": {
                    "kind": {"x-order": 1, "allOf": [{"$ref": "#/components/schemas/kind"}], "default": "a"},
                    "text": {"x-order": 0, "type": "string"},
                    "times": {"x-order": 2, "type": "integer", "nullable": True},
                    "scale": {"x-order": 3, "anyOf": [{"type": "number"}, {"type": "null"}]},
                    "loud": {"x-order": 4, "type": "boolean"},
                    "image": {"x-order": 5, **FILE},
                    "pixels": {"x-order": 6, "type": "array", "items": {"type": "number"}},
                    "more": {"x-order": 7, "type": "object"},
                    "either": {"x-order": 8, "anyOf": [{"type": "string"}, {"type": "integer"}]},
                    "rows": {"x-order": 9, "type": "array", "items": {"type": "object"}},
                },
            },
            "kind": {"enum": ["a", "b"], "type": "string"},
            "Output": {
                "type": "object",
                "required": ["label"],
                "properties": {
                    "label": {"type": "string"},
                    "count": {"type": "integer"},
                    "score": {"type": "number"},
                    "good": {"type": "boolean"},
                    "picture": FILE,
                    "scores": {"type": "array", "items": {"type": "number"}},
                    "facts": {"type": "object"},
                },
            },
        }
    }
}
FACE = tensors.Interface(SCHEMA)


def face(output: dict[str, Any]) -> Any:
    """Return the interface of a model that takes nothing and gives *output*."""
    return tensors.Interface({"components": {"schemas": {"Input": {}, "Output": output}}})


def row(name: str, datatype: str, data: Any, shape: Any = None, **more: Any) -> dict[str, Any]:
    """Return an input in its JSON form."""
    return {"name": name, "datatype": datatype, "shape": shape or [1], "data": data, **more}


def read(*rows: dict[str, Any]) -> dict[str, Any]:
    """Return the model's inputs from a request in JSON, with a text where there is none."""
    given = [] if any(item["name"] == "text" for item in rows) else [row("text", "BYTES", ["x"])]
    body = json.dumps({"inputs": [*given, *rows]}).encode()
    found: dict[str, Any] = FACE.read(wire.read_request(body, None).tensors)
    return {name: value for name, value in found.items() if name != "text" or not given}


def test_the_model_is_described_as_tensors() -> None:
    """One tensor an input, in the model's order, one a field of the output."""
    described = FACE.metadata()
    assert [tuple(item.values()) for item in described["inputs"]] == [
        ("text", "BYTES", [1]),
        ("kind", "BYTES", [1]),
        ("times", "INT64", [1]),
        ("scale", "FP64", [1]),
        ("loud", "BOOL", [1]),
        ("image", "BYTES", [1]),
        ("pixels", "FP64", [-1]),
        ("more", "BYTES", [1]),
        ("either", "BYTES", [1]),
        ("rows", "BYTES", [1]),
    ]
    assert face({"type": "array", "items": {"type": "string"}}).metadata()["outputs"] == [
        {"name": "output", "datatype": "BYTES", "shape": [-1]}
    ]


def test_tensors_become_inputs() -> None:
    """Each datatype that means the same is taken, in any shape of as many values."""
    assert read(row("text", "BYTES", ["é"]), row("times", "UINT8", [3], [1, 1])) == {"text": "é", "times": 3}
    assert read(row("scale", "INT32", 2), row("loud", "BOOL", [1])) == {"scale": 2, "loud": True}
    assert read(row("pixels", "FP32", [[1.5, 2]], [1, 2])) == {"pixels": [1.5, 2]}
    assert read(row("pixels", "FP32", [], [0])) == {"pixels": []}
    assert read(row("more", "BYTES", ['{"a": [1]}']), row("either", "BYTES", ["7"])) == {
        "more": {"a": [1]},
        "either": 7,
    }
    assert read(row("rows", "BYTES", ['[{"a": 1}]'])) == {"rows": [{"a": 1}]}


def test_files_come_as_content_or_url() -> None:
    """A path of the server's machine is no file there, but content."""
    plain = "data:application/octet-stream;base64,"
    encoded = {"parameters": {"content_type": "base64"}}
    assert read(row("image", "BYTES", ["https://a/b"])) == {"image": "https://a/b"}
    assert read(row("image", "BYTES", ["data:,x"])) == {"image": "data:,x"}
    assert read(row("image", "BYTES", ["file:///etc/passwd"])) == {
        "image": plain + base64.b64encode(b"file:///etc/passwd").decode()
    }
    assert read(row("image", "BYTES", ["/wA="], **encoded)) == {"image": plain + "/wA="}
    assert read(row("text", "BYTES", ["w6k="], **encoded)) == {"text": "é"}


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([row("words", "BYTES", ["a"])], "the model has no input words: it takes text, kind, times, scale, loud, image, pixels, more, either, rows"),
        ([row("times", "FP32", [1.0])], "the input times is FP32, but the model takes INT64"),
        ([row("times", "INT64", ["1"])], "the input times holds '1', which is no INT64"),
        ([row("times", "INT64", [1, 2], [2])], "the input times has 2 values, but the model takes one"),
        ([row("times", "INT64", [1, 2], [3])], "the input times has the shape [3], but 2 values"),
        ([row("times", "INT64", [1], [-1])], "the input times has the shape [-1], but 1 values"),
        ([row("pixels", "FP32", [[1, 2], [3, 4]], [2, 2])], "the input pixels has the shape [2, 2], but the model takes a list"),
        ([row("scale", "FP64", [float("nan")])], "the input scale holds nan, which Cog's JSON cannot carry"),
        ([row("more", "BYTES", ["{"])], "the input more is no JSON"),
        ([row("image", "BYTES", ["?"], parameters={"content_type": "base64"})],
         "the input image has the content_type base64, but is no base64"),
        ([row("text", "BYTES", ["a"])] * 2, "the input text is given twice"),
        ([row("text", "STRING", ["a"])], "the input text has the datatype 'STRING', which the protocol does not have"),
        ([{"name": "text", "datatype": "BYTES", "shape": [1]}], "the input text has no data"),
        ([{"name": "text", "datatype": "BYTES", "shape": ["1"]}], "the shape of the input text is no list of whole numbers"),
        ([{"name": "text", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 9}}],
         "the input text has 9 bytes of binary data, but 0 are left"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(rows: list[dict[str, Any]], sentence: str) -> None:
    """One sentence says what was given and what would be taken."""
    with pytest.raises(tensors.Mismatch) as caught:
        read(*rows)
    assert str(caught.value) == sentence


def test_an_input_that_has_to_be_given_is_missed() -> None:
    """What has a default may be left out."""
    with pytest.raises(tensors.Mismatch, match=r"^the input text is missing$"):
        FACE.read([])
    with pytest.raises(tensors.Mismatch, match=r"^the model has no output sum: it gives label, count, "):
        FACE.check_wanted(["sum"])


OUTPUT = {
    "label": "é",
    "count": 3,
    "score": 1,
    "good": True,
    "picture": "data:image/png;base64,/wA=",
    "scores": [0.5, 2],
    "facts": {"a": [None]},
}


def test_outputs_become_tensors() -> None:
    """In JSON, bytes that are no text are base64 and say so; what is not asked for is left out."""
    body, size = wire.write_answer(
        wire.read_request(b'{"inputs": [], "id": "7"}', None), FACE.write(OUTPUT), {"model_name": "m"}
    )
    assert size is None
    answer = json.loads(body)
    assert (answer["id"], answer["model_name"]) == ("7", "m")
    assert {item["name"]: (item["datatype"], item["shape"], item["data"]) for item in answer["outputs"]} == {
        "label": ("BYTES", [1], ["é"]),
        "count": ("INT64", [1], [3]),
        "score": ("FP64", [1], [1.0]),
        "good": ("BOOL", [1], [True]),
        "picture": ("BYTES", [1], ["/wA="]),
        "scores": ("FP64", [2], [0.5, 2.0]),
        "facts": ("BYTES", [1], ['{"a": [null]}']),
    }
    assert answer["outputs"][4]["parameters"] == {"content_type": "base64"}
    few = wire.read_request(b'{"inputs": [], "outputs": [{"name": "count"}]}', None)
    assert [
        item["name"] for item in json.loads(wire.write_answer(few, FACE.write(OUTPUT), {})[0])["outputs"]
    ] == ["count"]
    assert [item.name for item in FACE.write({"label": "a", "count": None})] == ["label"]
    assert face({"type": "object"}).write({"a": 1})[0].data == [b'{"a": 1}']
    assert face(FILE).write("https://a/b")[0].data == [b"https://a/b"]
    assert face({"type": "string"}).write(None) == []


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("a", "the output is no object"),
        ({"count": 1}, "the output has no label"),
        ({"label": 1}, "the output label is 1, which is no string"),
        ({"label": "a", "count": 1 << 63}, "the output count is 9223372036854775808, which is no integer"),
        (
            {"label": "a", "picture": "data:;base64,x"},
            "the output picture is 'data:;base64,x', which is no file",
        ),
        ({"label": "a", "scores": 1}, "the output scores is no list"),
    ],
)
def test_an_output_that_is_not_as_declared_is_found_out(output: Any, sentence: str) -> None:
    """Better than a tensor that means something else."""
    with pytest.raises(tensors.Unfit) as caught:
        FACE.write(output)
    assert str(caught.value) == sentence


_NUMBERS = {
    "INT8": st.integers(-128, 127),
    "UINT64": st.integers(0, (1 << 64) - 1),
    "BOOL": st.booleans(),
    "FP32": st.floats(width=32, allow_nan=False),
    "FP64": st.floats(allow_nan=False),
    "BYTES": st.binary(max_size=9),
}


@given(
    st.sampled_from(sorted(_NUMBERS)).flatmap(lambda kind: st.tuples(st.just(kind), st.lists(_NUMBERS[kind])))
)
def test_binary_data_is_read_as_it_was_written(case: tuple[str, list[Any]]) -> None:
    """An answer in binary, sent back as a request, holds the same values."""
    kind, data = case
    given = tensors.Tensor("a", kind, (len(data),), data)
    asked = wire.read_request(b'{"inputs": [], "parameters": {"binary_data_output": true}}', None)
    body, size = wire.write_answer(asked, [given], {})
    head = json.loads(body[:size])
    document = json.dumps({"inputs": head["outputs"]}).encode()
    (back,) = wire.read_request(document + body[size:], str(len(document))).tensors
    assert (back.datatype, back.shape, back.data) == (kind, (len(data),), data)


def test_half_precision_is_read() -> None:
    """BF16 is the upper half of FP32; FP16 is its own."""
    for kind, data in (("BF16", b"\x80\x3f\x00\xc0"), ("FP16", b"\x00\x3c\x00\xc0")):
        head = json.dumps(
            {"inputs": [{"name": "a", "datatype": kind, "shape": [2], "parameters": {"binary_data_size": 4}}]}
        ).encode()
        assert wire.read_request(head + data, str(len(head))).tensors[0].data == [1.0, -2.0]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(CHARACTERS, max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "datatype", "shape", "data", "parameters", "x"]), inner, max_size=5
        )
    ),
    max_leaves=12,
)
_BODIES = st.binary(max_size=40) | st.builds(
    lambda inputs, outputs, rest: json.dumps({"inputs": inputs, "outputs": outputs}).encode() + rest,
    st.lists(
        st.fixed_dictionaries(
            {"name": st.sampled_from(["text", "times", "pixels"]), "datatype": st.sampled_from(["BYTES", "INT64"])},
            optional={"shape": _JSON | st.just([1]), "data": _JSON, "parameters": _JSON | st.just({"binary_data_size": 4})},
        ),
        max_size=3,
    )
    | _JSON,
    _JSON,
    st.binary(max_size=12),
)  # fmt: skip


@pytest.mark.slow
@given(_BODIES, st.none() | st.integers(-1, 200).map(str))
@example(b"[" * 100000, None)
@example(b'{"inputs": ' + b"9" * 5000 + b"}", None)
def test_no_body_does_more_than_be_refused(body: bytes, header: str | None) -> None:
    """Whatever is sent is inputs of the model, or a sentence."""
    with contextlib.suppress(tensors.Mismatch):
        request = wire.read_request(body, header)
        FACE.check_wanted(request.wanted)
        FACE.read(request.tensors)


@contextlib.contextmanager
def served(
    command: list[str] = STAND_IN, schema: str = "", cwd: Path | None = None, **env: str
) -> Iterator[str]:
    """The protocol above a Cog server, as it stands in an image; yields its address."""
    text = "import sys; from serving.open_inference import main; main(sys.argv[1], command=sys.argv[2:])"
    place = KIT / "cogbuild_adapter"
    process = subprocess.Popen(
        [sys.executable, "-c", text, schema, *command],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(place), "PORT": "0", "HOST": "127.0.0.1", **env},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    drain = threading.Thread(target=process.stderr.read)  # a full pipe would stop the server
    try:
        port = int(process.stderr.readline().split("port ")[1].split(",")[0])
        drain.start()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        assert process.wait(30) == 0
        drain.join(30)
        process.stderr.close()


def asked(url: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
    """Return code, body (read as JSON where it is that) and headers of an answer."""
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            code, data, said = answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        code, data, said = error.code, error.read(), dict(error.headers)
        error.close()
    with contextlib.suppress(ValueError):
        data = json.loads(data)
    return code, data, said


@pytest.mark.slow
def test_the_protocol_is_served_above_cog(tmp_path: Path) -> None:
    """Health, metadata and inference, in JSON and in binary; each mistake has its code."""
    text = {"type": "string"}
    takes = {"type": "object", "properties": dict.fromkeys(("fail", "refuse", "output"), text)}
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps({"components": {"schemas": {"Input": takes, "Output": text}}}))
    with served(schema=str(schema), MODEL_NAME="lang uage", STAND_IN_SETUP="0.3") as url:
        model = f"{url}/v2/models/lang%20uage"
        assert asked(f"{url}/v2/health/live")[0] == 200
        assert asked(f"{url}/v2/health/ready")[0] == 503
        assert asked(f"{model}/infer", b'{"inputs": []}')[0] == 503
        until(lambda: asked(f"{model}/ready")[0] == 200)
        assert asked(f"{url}/v2")[1]["extensions"] == ["binary_tensor_data"]
        described = asked(f"{model}/versions/1")[1]
        assert (described["name"], described["versions"], described["platform"]) == (
            "lang uage",
            ["1"],
            "cog",
        )
        body = json.dumps({"inputs": [row("output", "BYTES", ["a"])]}).encode()
        assert asked(f"{model}/infer", body)[:2] == (
            200,
            {
                "model_name": "lang uage",
                "model_version": "1",
                "outputs": [{"name": "output", "datatype": "BYTES", "shape": [1], "data": ["a"]}],
            },
        )
        head = json.dumps(
            {
                "inputs": [
                    {
                        "name": "output",
                        "datatype": "BYTES",
                        "shape": [1],
                        "parameters": {"binary_data_size": 5},
                    }
                ],
                "outputs": [{"name": "output", "parameters": {"binary_data": True}}],
            }
        ).encode()
        size = {"Inference-Header-Content-Length": str(len(head))}
        code, data, said = asked(f"{model}/infer", head + b"\1\0\0\0b", **size)
        assert (code, data[int(said["Inference-Header-Content-Length"]) :]) == (200, b"\1\0\0\0b")
        fails, refused = (
            json.dumps({"inputs": [row(name, "BYTES", ["no"])]}).encode() for name in ("fail", "refuse")
        )
        assert asked(f"{model}/infer", fails)[:2] == (500, {"error": "no"})
        assert asked(f"{model}/infer", refused)[:2] == (400, {"error": "text: no"})
        assert asked(f"{model}/infer", b"{")[:2] == (400, {"error": "the request is no JSON"})
        assert asked(f"{url}/v2/models/other")[:2] == (
            404,
            {"error": "the model here is lang uage, not other"},
        )
        assert asked(f"{model}/versions/2")[:2] == (404, {"error": "the version here is 1, not 2"})
        assert asked(f"{url}/v1")[:2] == (404, {"error": "there is no /v1"})
        assert asked(f"{model}/infer")[0] == asked(f"{model}/ready", b"{}")[0] == 405


@pytest.mark.slow
def test_a_client_that_has_gone_costs_no_prediction(tmp_path: Path) -> None:
    """It waited for a busy model and gave up: its turn passes at once to who still waits."""
    number, text = {"type": "number"}, {"type": "string"}
    takes = {"type": "object", "properties": {"sleep": number, "output": text}}
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps({"components": {"schemas": {"Input": takes, "Output": text}}}))

    def body(seconds: float) -> bytes:
        rows = [row("sleep", "FP64", [seconds]), row("output", "BYTES", ["a"])]
        return json.dumps({"inputs": rows}).encode()

    with served(schema=str(schema)) as url:
        until(lambda: asked(f"{url}/v2/health/ready")[0] == 200)
        infer = f"{url}/v2/models/model/infer"
        first = threading.Thread(target=asked, args=(infer, body(0.6)))
        first.start()
        time.sleep(0.2)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                urllib.request.urlopen(infer, body(3), timeout=0.05)
        began = time.monotonic()
        assert asked(infer, body(0))[0] == 200
        assert time.monotonic() - began < 2.5
        first.join()


#: Triton's client, four requests at once, in binary; prints the languages and how no text is refused.
CLIENT = """
import sys
from concurrent.futures import ThreadPoolExecutor
import numpy, tritonclient.http as triton

def ask(text):
    client = triton.InferenceServerClient(sys.argv[1], network_timeout=60)
    sent = triton.InferInput("text", [1], "BYTES")
    sent.set_data_from_numpy(numpy.array([text.encode()], dtype=object))
    return client.infer("model", [sent]).as_numpy("language").tolist()

with ThreadPoolExecutor(4) as pool:
    print(list(pool.map(ask, ["Where is the nearest station?"] * 4)))
try:
    ask("")
except triton.InferenceServerException as error:
    print(error.status(), error.message())
"""


@pytest.mark.slow
def test_tritons_client_is_understood_above_cogs_real_server(tmp_path: Path) -> None:
    """Requests that come at once all get their answer; what Cog refuses is the client's mistake."""
    python = environment("cog>=0.23,<0.24", "tritonclient[http]>=2.60") / "bin" / "python"
    model = tmp_path / "model"
    shutil.copytree(EXAMPLES / "text-language", model)
    write = "import json; from cogbuild_adapter.schema import schema; print(json.dumps(schema('predict.py:Predictor')))"
    env = {"PYTHONPATH": str(KIT), "PATH": f"{python.parent}:/usr/bin:/bin"}
    described = subprocess.run(
        [python, "-c", write], cwd=model, env=env, capture_output=True, check=True
    ).stdout
    (model / ".cog").mkdir()
    for file in (tmp_path / "schema.json", model / ".cog" / "openapi_schema.json"):
        file.write_bytes(described.splitlines()[-1])
    command = ["python", "-m", "cog.server.http", "--host", "127.0.0.1"]
    variables = {"COG_PREDICT_TYPE_STUB": "predict.py:Predictor", "PATH": env["PATH"]}
    with served(command, str(tmp_path / "schema.json"), cwd=model, **variables) as url:
        until(lambda: asked(f"{url}/v2/health/ready")[0] == 200, 60)
        done = subprocess.run(
            [python, "-c", CLIENT, url.removeprefix("http://")], capture_output=True, text=True, check=False
        )
    first, second = done.stdout.splitlines()
    assert first == str([["en"]] * 4).replace("'en'", "b'en'"), done.stderr
    assert second.startswith("400 ")
    assert "text" in second
