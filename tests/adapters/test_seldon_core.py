"""Does seldon-core make what MLServer, or a container, serves as Triton's client expects, and the resource for it?"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from adapter_runs import (
    ADAPTERS,
    EXAMPLE_NAMES,
    EXAMPLES,
    environment,
    needs_torch,
    write_model,
)
from adapters_table import keep_cell
from crds import PLACE, needs_crds, wrong_in
from sites import NEEDS, Site, registries
from test_kserve import SAID as KSERVE_SAID
from test_kserve import resource_of
from test_open_inference import asked, row
from test_serving import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adapter_runs import Ran

pytestmark = pytest.mark.slow
LANGUAGE = EXAMPLES / "text-language"
#: No registry and no engine: what version 2 needs of a site.
NOWHERE = Site("127.0.0.1:1", SimpleNamespace(env={}), None)


def folder_of(model: Path, scratch: Path, **params: object) -> Ran:
    """Return what the adapter makes of *model* for version 2."""
    made = NOWHERE.run("seldon-core", model, scratch, params=params)
    assert (made.code, made.stdout) == (0, ""), made.log
    return made


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[needs_torch] if "torch" in name else []) for name in EXAMPLE_NAMES],
)
def test_mlserver_serves_the_folder(name: str, tmp_path: Path) -> None:
    """Its own test starts MLServer, and Triton's client gets the examples' outputs."""
    # Copies of large packages prove nothing more.
    how = "bundled" if name == LANGUAGE.name else "server"
    made = folder_of(EXAMPLES / name, tmp_path, packages=how)
    judged = NOWHERE.judge("seldon-core", EXAMPLES / name, made, tmp_path, params={"packages": how})
    assert (judged.code, judged.stdout) == (0, ""), judged.log
    assert re.search(
        r"model: largest difference: .* over \d outputs of \d examples, in MLServer 1\.\d+\.\d+, asked by tritonclient 2\.",
        judged.log,
    ), judged.log
    keep_cell("seldon-core", name, {"fidelity": judged.fidelity})


KINDS = """
import time
from blake3 import blake3
from cog import BaseModel, BasePredictor, Input, Path

class Output(BaseModel):
    words: list[str]
    total: float
    loud: bool
    picture: Path
    facts: dict

class Predictor(BasePredictor):
    def predict(
        self,
        picture: Path,
        words: list[str] = Input(default=["a"]),
        times: int = Input(default=1, ge=0, le=3),
        loud: bool = Input(default=False),
    ) -> Output:
        if times == 3:
            raise ValueError("three is too many")
        time.sleep(0.1)
        made = Path("made.bin")
        made.write_bytes(picture.read_bytes() * times)
        return Output(words=words, total=times / 2, loud=loud, picture=made, facts={"n": [times], "sum": blake3(b"").hexdigest()[:4]})
"""


#: Asks MLServer over gRPC; its arguments are port and model.
OVER_GRPC = """
import sys
import grpc
from mlserver.grpc import dataplane_pb2 as plane, dataplane_pb2_grpc as calls

picture = plane.InferTensorContents(bytes_contents=[b"\\xff\\x00"])
tensor = plane.ModelInferRequest.InferInputTensor(name="picture", datatype="BYTES", shape=[1], contents=picture)
stub = calls.GRPCInferenceServiceStub(grpc.insecure_channel("127.0.0.1:" + sys.argv[1]))
answer = stub.ModelInfer(plane.ModelInferRequest(model_name=sys.argv[2], inputs=[tensor]), timeout=60)
print({item.name: list(item.contents.bytes_contents) for item in answer.outputs if item.datatype == "BYTES"})
"""


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the files below *folder*."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextlib.contextmanager
def mlserver(folder: Path, place: Path) -> Iterator[tuple[str, str]]:
    """Run an MLServer that has nothing but itself; yields the address of the folder's model, and gRPC's port."""
    ports = dict(zip(("HTTP", "GRPC", "METRICS"), (registries.free_port() for _ in range(3)), strict=True))
    env = {f"MLSERVER_{kind}_PORT": str(port) for kind, port in ports.items()}
    bare = environment("mlserver>=1.7.1,<2", "uvloop<0.22")
    name = json.loads((folder / "model-settings.json").read_text())["name"]
    process = subprocess.Popen(
        [str(bare / "bin" / "mlserver"), "start", str(folder)],
        cwd=place,
        env={**os.environ, **env, "MLSERVER_HOST": "127.0.0.1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{ports['HTTP']}/v2/models/{name}", str(ports["GRPC"])
    finally:
        process.terminate()
        process.wait(30)


def test_the_folder_brings_all_that_the_model_needs(tmp_path: Path) -> None:
    """In an MLServer without Cog and without the model's packages, every kind of value goes in and comes out.

    Made twice it has the same bytes; what is wrong has a code; requests that come at once wait for each other.
    """
    model = write_model(tmp_path / "kinds", KINDS)
    with open(model / "cog.yaml", "a") as file:  # a package with compiled code
        file.write("build: {python_packages: [blake3]}\n")
    made = folder_of(model, tmp_path)
    folder = made.output / "model"
    assert files_of(folder) == files_of(folder_of(model, tmp_path).output / "model")
    assert not [name for name, data in files_of(folder).items() if str(tmp_path).encode() in data]
    assert sorted(path.name[:12] for path in folder.iterdir()) == [
        "cog_runtime_",
        "model-settin",
        "packages",
        "requirements",
        "src",
    ]
    frozen = (folder / "requirements.txt").read_text()
    assert re.search(r"^blake3==1(.*\n)+cog==0\.23", frozen, re.MULTILINE)

    def infer(url: str, *rows: dict[str, Any]) -> tuple[int, Any]:
        picture = row("picture", "BYTES", ["/wA="], parameters={"content_type": "base64"})
        body = json.dumps({"id": "7", "inputs": [picture, *rows]}).encode()
        return asked(f"{url}/infer", body, **{"Content-Type": "application/json"})[:2]

    def up(url: str) -> bool:
        with contextlib.suppress(OSError):
            return asked(f"{url}/ready")[0] == 200
        return False

    bare = environment("mlserver>=1.7.1,<2", "uvloop<0.22")
    with mlserver(folder, tmp_path) as (url, port):
        until(lambda: up(url), 120)
        assert asked(url)[1]["outputs"][0] == {"name": "words", "datatype": "BYTES", "shape": [-1]}
        twice, loud = row("times", "INT32", [2]), row("loud", "BOOL", [True])
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: infer(url, twice, loud), range(4)))
        assert answers == [answers[0]] * 4
        code, answer = answers[0]
        assert (code, answer["id"], answer["model_version"]) == (200, "7", "0" * 12)
        found = {item["name"]: (item["datatype"], item["data"]) for item in answer["outputs"]}
        assert found == {
            "words": ("BYTES", ["a"]),
            "total": ("FP64", [1.0]),
            "loud": ("BOOL", [True]),
            "picture": ("BYTES", ["/wD/AA=="]),
            "facts": ("BYTES", ['{"n": [2], "sum": "af13"}']),
        }
        code, answer = infer(url, row("times", "FP32", [2.0]))
        assert code == 400
        assert answer["error"].endswith("the input times is FP32, but the model takes INT64")
        code, answer = infer(url, row("times", "INT64", [9]))
        assert (code, "times" in answer["error"]) == (400, True)
        code, answer = infer(url, row("times", "INT64", [3]))
        assert (code, answer["error"].endswith("three is too many")) == (500, True)
        command = [str(bare / "bin" / "python"), "-c", OVER_GRPC, port, url.rpartition("/")[2]]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        wanted = {"words": [b"a"], "picture": [b"/wA="], "facts": [b'{"n": [1], "sum": "af13"}']}
        assert said.stdout == f"{wanted}\n", said.stderr
    script = (
        "import sys; from importlib import import_module; import_module(sys.argv[1])._check_python('3.9')"
    )
    runtime = next(path.name for path in folder.glob("cog_runtime_*"))
    done = subprocess.run(
        [bare / "bin" / "python", "-c", script, f"{runtime}.runtime"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "the folder's packages are for Python 3.9, but MLServer runs in 3." in done.stderr


@needs_crds
def test_cogbuild_publishes_the_folder_and_the_model_names_it(tmp_path: Path) -> None:
    """`storageUri` is where the folder is kept; the resource is as its published schema wants it."""
    params = {
        "memory": "1Gi",
        "secret": "store",
        "replicas": "2",
        "namespace": "models",
        "packages": "server",
    }
    options = [
        part
        for name, value in params.items()
        for part in ("--param", f"seldon-core.{name}={json.dumps(value)}")
    ]
    NOWHERE.cogbuild(tmp_path, "models", "add", str(LANGUAGE), "--repo", "ada/language")
    shown = NOWHERE.cogbuild(tmp_path, "models", "ls", "--json")
    model = json.loads(shown)["models"][0]["model"]
    NOWHERE.cogbuild(tmp_path, "models", "set", model, *options)
    NOWHERE.cogbuild(tmp_path, "adapt", "--adapter-dir", str(ADAPTERS / "seldon-core"))
    made = {
        item["name"]: item["uri"]
        for pair in json.loads(NOWHERE.cogbuild(tmp_path, "artifacts", "ls", "--json"))["artifacts"]
        for item in pair["artifacts"]
    }
    resource = yaml.safe_load(Path(made["resource"].removeprefix("file://")).read_text())
    assert resource == {
        "apiVersion": "mlops.seldon.io/v1alpha1",
        "kind": "Model",
        "metadata": {
            "name": "ada-language",
            "namespace": "models",
            "annotations": {"run.cog/repo": "ada/language", "run.cog/model-id": model},
        },
        "spec": {
            "storageUri": made["model"],
            "requirements": ["mlserver", "python"],
            "replicas": 2,
            "memory": "1Gi",
            "secretName": "store",
        },
    }
    assert wrong_in("seldon-model-v1alpha1", resource) == []
    assert (Path(made["model"].removeprefix("file://")) / "model-settings.json").is_file()


@pytest.mark.skipif(
    any(mark.args[0] for mark in NEEDS),
    reason="; ".join(mark.kwargs["reason"] for mark in NEEDS if mark.args[0]) or "-",
)
def test_version_1_is_an_image(site: Site, podman: Any, tmp_path: Path) -> None:
    """The one that kserve uses, on the port that Seldon Core expects, and a SeldonDeployment that runs it."""
    cpu = site.cpu_image(LANGUAGE, tmp_path)
    params = {"version": "v1", "cpu": "500m", "name": "language"}
    made = site.run("seldon-core", LANGUAGE, tmp_path, params=params, COG_CPU_IMAGE=cpu)
    assert (made.code, made.stdout) == (0, ""), made.log
    image = made.listed[0]["uri"]
    assert image == site.run("kserve", LANGUAGE, tmp_path, COG_CPU_IMAGE=cpu).listed[0]["uri"]
    resource = resource_of(made, "seldon-deployment.yaml")
    if PLACE.is_dir():
        assert wrong_in("seldon-seldondeployment-v1", resource) == []
    (predictor,) = resource["spec"]["predictors"]
    (container,) = predictor["componentSpecs"][0]["spec"]["containers"]
    assert resource["spec"]["protocol"] == "v2"
    assert predictor["graph"] == {"name": "language", "type": "MODEL"}
    assert container["name"] == "language"
    assert (container["image"], container["ports"][0]) == (
        image,
        {"name": "http", "containerPort": 9000, "protocol": "TCP"},
    )
    judged = site.judge("seldon-core", LANGUAGE, made, tmp_path, params=params)
    assert (judged.code, judged.stdout) == (0, ""), judged.log
    assert "over 6 outputs of 3 examples, in podman, asked by tritonclient" in judged.log
    podman.forget()


SAID = {
    "version": "the parameter version is 'v3', but it has to be v1 or v2",
    "packages": "the parameter packages is 'no', but it has to be bundled or server",
    "cpu": "the parameter cpu is for version v1 only",
    "requirements": "the parameter requirements is 'a,,b', but it has to be words separated by commas",
    "secret": "the parameter secret is 'A b', but it has to be a name of lower-case letters, digits, dots and dashes",
    "replicas": "the parameter replicas is -1, but it has to be at least 0",
}
WRONG = {
    "version": "v3",
    "packages": "no",
    "cpu": "1",
    "requirements": "a,,b",
    "secret": "A b",
    "replicas": "-1",
}


@pytest.mark.parametrize("about", SAID)
def test_what_is_wrong_is_said_first(about: str, tmp_path: Path) -> None:
    """One sentence, before anything is made."""
    ran = NOWHERE.run("seldon-core", LANGUAGE, tmp_path, params={about: WRONG[about]})
    assert (ran.code, ran.stdout, ran.log) == (1, "", SAID[about] + "\n")


def test_version_1_needs_an_image(tmp_path: Path) -> None:
    """Without one, the way to it; a parameter for version 2 is refused."""
    ran = NOWHERE.run("seldon-core", LANGUAGE, tmp_path, params={"version": "v1"}, COG_CPU_IMAGE="")
    assert (ran.code, ran.log) == (1, KSERVE_SAID["image"] + "\n")
    ran = NOWHERE.run("seldon-core", LANGUAGE, tmp_path, params={"version": "v1", "secret": "a"})
    assert (ran.code, ran.log) == (1, "the parameter secret is for version v2 only\n")


def test_what_a_folder_cannot_bring_is_not_applicable(tmp_path: Path) -> None:
    """System packages and commands; the reason says what helps."""
    model = write_model(tmp_path / "model", KINDS)
    (model / "cog.yaml").write_text(
        "predict: predict.py:Predictor\nbuild: {system_packages: [ffmpeg, sox]}\n"
    )
    ran = NOWHERE.run("seldon-core", model, tmp_path)
    assert (ran.code, ran.stdout) == (100, "")
    assert ran.last_line == (
        "the model wants ffmpeg, sox, which a folder cannot bring: set the parameter packages to server and give "
        "MLServer an image that has it, or version to v1"
    )
