"""Does sagemaker make an image that SageMaker could run, and the model, package and configurations there?"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import tarfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from adapter_runs import ADAPTERS, EXAMPLES, environment, environment_of, write_model
from adapters_table import keep_cell
from aws import ACCOUNT, ECR, KEYS, REGION, ROLE, named_as_ecr, sagemaker
from sites import NEEDS, registries
from test_sagemaker_shim import PNG, PREDICTOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adapter_runs import Ran
    from sites import Site

pytestmark = [pytest.mark.slow, *NEEDS]
LANGUAGE = EXAMPLES / "text-language"
QUESTION = {"text": "Where is the nearest station?"}
ANSWER = {"language": "en", "confidence": 1.0}


@pytest.fixture(scope="module")
def image(site: Site, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image of an example model."""
    place = tmp_path_factory.mktemp("image")
    made = site.run("sagemaker", LANGUAGE, place, COG_CPU_IMAGE=site.cpu_image(LANGUAGE, place))
    assert made.code == 0, made.log
    return made.stdout.strip()


def test_the_image_keeps_the_contract(image: str, site: Site, podman: Any, tmp_path: Path) -> None:
    """Made twice it has one digest; its own test runs it and gets the examples' outputs."""
    again = site.run("sagemaker", LANGUAGE, tmp_path, COG_CPU_IMAGE=site.cpu_image(LANGUAGE, tmp_path))
    assert again.stdout.strip() == image
    assert re.fullmatch(rf"{site.host}/ada/text-language@sha256:[0-9a-f]{{64}}", image)
    made = site.images.fetch(image)
    assert made.settings["Entrypoint"] == ["python", "-I", "-S", "/opt/cogbuild/sagemaker"]
    assert made.settings["Cmd"] == ["serve"]
    assert "8080/tcp" in made.settings["ExposedPorts"]
    judged = site.run("sagemaker", LANGUAGE, tmp_path, script="test.py", COG_ARTIFACT_URI=image)
    assert (judged.code, judged.stdout) == (0, ""), judged.log
    assert re.fullmatch(
        r"largest difference: .* over 3 outputs of 3 examples, in cog 0\.23\.\d+ behind /invocations in podman",
        judged.last_line,
    )
    keep_cell("sagemaker", LANGUAGE.name, {"fidelity": judged.fidelity})


def asked(url: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """Return code and body of an answer; nothing where none comes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, named), timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read()
    except OSError:
        return 0, b""


def test_a_container_behaves_as_sagemaker_wants(
    site: Site, podman: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starting, at work in parallel, with files, failing, with a mounted model, and asked to end."""
    (tmp_path / "ml").mkdir()
    (tmp_path / "ml/word").write_text("new")
    (tmp_path / "ml/factor").write_text("2")
    slow = PREDICTOR.replace("        self.word", "        time.sleep(1)\n        self.word")
    model = write_model(tmp_path / "model", slow)
    (model / "word").write_text("old")
    made = site.run("sagemaker", model, tmp_path, COG_CPU_IMAGE=site.cpu_image(model, tmp_path))
    assert made.code == 0, made.log
    running = importlib.import_module("cogbuild_adapter.images.running")
    for name, value in podman.env.items():
        monkeypatch.setenv(name, value)
    with running.running(
        ["podman"],
        made.stdout.strip(),
        port_variable="SAGEMAKER_BIND_TO_PORT",
        command=["serve"],
        mounts={"/opt/ml/model": tmp_path / "ml"},
    ) as container:
        invocations = f"{container.url}/invocations"
        seen: list[int] = []
        while not seen or seen[-1] != 200:
            seen.append(asked(f"{container.url}/ping")[0])
            assert len(seen) < 600
            time.sleep(0.05)
        assert [code for number, code in enumerate(seen) if code not in seen[:number]] == [0, 503, 200]
        png = {"Content_Type": "image/png", "Accept": "image/png"}
        assert asked(invocations, PNG, **png) == (200, PNG * 2 + b"new")
        fail = {"X_Amzn_SageMaker_Custom_Attributes": '{"note": "fail"}'}
        code, said = asked(invocations, PNG, **png, **fail)
        assert (code, json.loads(said)["error"].rpartition(": ")[2]) == (500, "no luck")
        takes = {"X_Amzn_SageMaker_Custom_Attributes": '{"seconds": 0.3}'}
        answers: list[int] = []
        threads = [
            threading.Thread(target=lambda: answers.append(asked(invocations, PNG, **png, **takes)[0]))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        began = time.monotonic()
        assert container.stop(30) == 0
        assert time.monotonic() - began < 30
        for thread in threads:
            thread.join()
        assert answers == [200] * 4


LOCAL_MODE = """
import json, sys
from sagemaker.deserializers import JSONDeserializer
from sagemaker.local import LocalSession
from sagemaker.model import Model
from sagemaker.predictor import Predictor
from sagemaker.serializers import JSONSerializer

image, data, place, port, role, question = sys.argv[1:]
quiet = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}
session = LocalSession(sagemaker_config=quiet)
session.config = {"local": {"local_code": True, "serving_port": int(port), "container_root": place}}
model = Model(image, model_data=f"file://{data}", role=role, sagemaker_session=session, predictor_cls=Predictor)
predictor = model.deploy(
    1, "local", serializer=JSONSerializer(), deserializer=JSONDeserializer(), wait=False
)
try:
    answer = predictor.predict(json.loads(question))
finally:
    predictor.delete_endpoint()
print("answer", json.dumps(answer))
"""


@pytest.mark.skipif(shutil.which("docker") is None, reason="docker's client is not installed")
@pytest.mark.skipif(
    shutil.which("docker-compose") is None, reason="docker-compose is not installed (Debian: docker-compose)"
)
def test_sagemakers_own_sdk_deploys_it_locally(image: str, podman: Any, tmp_path: Path) -> None:
    """``instance_type="local"`` runs the image by docker-compose, here over podman's socket, and gets a prediction."""
    (tmp_path / "place").mkdir()
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz"):
        pass  # the SDK wants one; the model's own weights are in the image
    port = str(registries.free_port())
    places = [str(tmp_path / "model.tar.gz"), str(tmp_path / "place")]
    arguments = [image, *places, port, ROLE, json.dumps(QUESTION)]
    with podman.service() as service:
        env = {**os.environ, **podman.env, **KEYS, "DOCKER_HOST": service, "AWS_DEFAULT_REGION": REGION}
        done = subprocess.run(
            [environment("sagemaker<3") / "bin/python", "-c", LOCAL_MODE, *arguments],
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    said = [line.partition("answer ")[2] for line in done.stdout.splitlines() if line.startswith("answer ")]
    assert len(said) == 1, done.stdout + done.stderr
    assert json.loads(said[0]) == {"status": "succeeded", "output": ANSWER}


@pytest.fixture(scope="module")
def aws(site: Site, image: str) -> Iterator[dict[str, Any]]:
    """SageMaker on loopback, and the site's registry under ECR's name; the variables for an adapter, and a client."""
    with sagemaker() as (url, client), named_as_ecr(site.host) as ecr:
        env = {**KEYS, **ecr, "AWS_ENDPOINT_URL": url}
        yield {"env": env, "client": client, "image": image.replace(site.host, ECR)}


def at_aws(site: Site, scratch: Path, aws: dict[str, Any], **params: object) -> Ran:
    """Run the adapter where the site's registry is ECR."""
    cpu = site.cpu_image(LANGUAGE, scratch).replace(site.host, ECR)
    return site.run(
        "sagemaker", LANGUAGE, scratch, params={"role": ROLE, **params}, **aws["env"], COG_CPU_IMAGE=cpu
    )


def test_with_a_role_the_model_is_made_once(site: Site, aws: dict[str, Any], tmp_path: Path) -> None:
    """By the image's digest; a second run finds it; what has its name and is another thing is not touched."""
    first, second = (at_aws(site, tmp_path, aws) for _ in range(2))
    assert (first.code, second.code) == (0, 0), first.log + second.log
    assert first.stdout == second.stdout
    arn = first.stdout.strip()
    name = arn.rpartition("/")[2]
    assert re.fullmatch(
        rf"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model/Ada-text-language-0{{12}}-[0-9a-f]{{8}}", arn
    )
    assert second.last_line == f"the model {name} is there already"
    kept = aws["client"].describe_model(ModelName=name)
    assert kept["ExecutionRoleArn"] == ROLE
    assert kept["PrimaryContainer"] == {"Image": aws["image"], "Mode": "SingleModel", "Environment": {}}
    assert len(aws["client"].list_models()["Models"]) == 1
    # Without an engine its test looks whether the registry has the image that the model names.
    judged = site.run(
        "sagemaker",
        LANGUAGE,
        tmp_path,
        script="test.py",
        **aws["env"],
        COG_ARTIFACT_URI=arn,
        PATH=f"{environment_of('sagemaker', LANGUAGE)}/bin",
    )
    assert judged.code == 0, judged.log
    assert judged.last_line == "no podman or docker can be used here: the image was looked at and not run"

    aws["client"].delete_model(ModelName=name)
    other = {"Image": "other", "Mode": "SingleModel", "Environment": {}}
    aws["client"].create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=other)
    refused = at_aws(site, tmp_path, aws)
    assert (refused.code, refused.stdout) == (1, "")
    assert refused.last_line == (
        f"SageMaker has a model {name} with another PrimaryContainer: delete it there"
    )
    aws["client"].delete_model(ModelName=name)


def test_packages_and_endpoint_configurations_are_made(
    site: Site, aws: dict[str, Any], tmp_path: Path
) -> None:
    """Serverless, asynchronous and on instances, each with what it needs; a package gets one version for one content."""
    client = aws["client"]
    wanted = {
        "name": "lang",
        "env": json.dumps({"LEVEL": "debug", "N": 3}),
        "model_data": "s3://bucket/weights/",
        "package_group": "languages",
        "approval": "Approved",
        "endpoint": "serverless",
        "memory_mb": 4096,
        "concurrency": 7,
    }
    first, second = (at_aws(site, tmp_path, aws, **wanted) for _ in range(2))
    assert (first.code, first.stdout) == (0, ""), first.log
    assert first.listed == second.listed
    made = {row["name"]: row["uri"] for row in first.listed}
    assert list(made) == ["model", "package", "endpoint-config"]
    container = client.describe_model(ModelName=made["model"].rpartition("/")[2])["PrimaryContainer"]
    assert container["Environment"] == {"LEVEL": "debug", "N": "3"}
    assert container["ModelDataSource"]["S3DataSource"]["S3Uri"] == "s3://bucket/weights/"
    (version,) = client.list_model_packages(ModelPackageGroupName="languages")["ModelPackageSummaryList"]
    assert version["ModelPackageArn"] == made["package"]
    assert version["ModelApprovalStatus"] == "Approved"
    package = client.describe_model_package(ModelPackageName=made["package"])
    assert package["InferenceSpecification"]["Containers"][0]["Image"] == aws["image"]

    def variant(made: Ran) -> tuple[str, dict[str, Any], dict[str, Any]]:
        assert made.code == 0, made.log
        (arn,) = [row["uri"] for row in made.listed if row["name"] == "endpoint-config"]
        found = client.describe_endpoint_config(EndpointConfigName=arn.rpartition("/")[2])
        (one,) = found["ProductionVariants"]
        return arn.rpartition("/")[2], one, found.get("AsyncInferenceConfig", {})

    name, one, _ = variant(first)
    assert re.fullmatch(r"lang-serverless-[0-9a-f]{8}", name)
    assert one["ServerlessConfig"] == {"MemorySizeInMB": 4096, "MaxConcurrency": 7}
    assert one["ModelName"] == made["model"].rpartition("/")[2]
    instances = {"instance_type": "ml.c5.xlarge", "instance_count": 2, "startup_timeout": 600}
    name, one, kind = variant(at_aws(site, tmp_path, aws, endpoint="plain", **instances))
    assert re.fullmatch(r"Ada-text-language-0{12}-plain-[0-9a-f]{8}", name)
    assert (one["InstanceType"], one["InitialInstanceCount"], kind) == ("ml.c5.xlarge", 2, {})
    assert one["ContainerStartupHealthCheckTimeoutInSeconds"] == 600
    where = {"endpoint": "async", "async_output": "s3://bucket/out"}
    _, one, kind = variant(at_aws(site, tmp_path, aws, **where))
    assert kind["OutputConfig"]["S3OutputPath"] == "s3://bucket/out"
    assert kind["ClientConfig"]["MaxConcurrentInvocationsPerInstance"] == 5


def test_what_is_wrong_is_said(site: Site, aws: dict[str, Any], tmp_path: Path) -> None:
    """Without keys, with a registry that is not ECR, without a CPU image, with one that is no model's."""
    model, cpu = LANGUAGE, site.cpu_image(LANGUAGE, tmp_path)

    def said(params: dict[str, str] | None = None, **more: str) -> str:
        ran = site.run("sagemaker", model, tmp_path, params=params or {}, **{"COG_CPU_IMAGE": cpu, **more})
        assert (ran.code, ran.stdout) == (1, "")
        return ran.last_line

    assert said({"role": ROLE}) == (
        f"SageMaker takes images from ECR only, and the site's registry is {site.host}: set docker_registry to "
        "ACCOUNT.dkr.ecr.REGION.amazonaws.com, or leave out the parameter role"
    )
    assert said(COG_CPU_IMAGE="") == (
        "the model has no CPU image: add builtin:docker-cpu to adapters: in cogbuild.yaml, "
        "or give the image with `cogbuild models add --cpu-image`"
    )
    base = f"{site.host}/python:3.11-slim"
    assert said(COG_CPU_IMAGE=base) == (
        f"{base} is no image that Cog or docker-cpu made: it has no label run.cog.version"
    )
    assert said({"role": "Serves"}) == (
        "the parameter role is 'Serves', but it has to be arn:aws:iam::ACCOUNT:role/NAME"
    )
    nobody = {**aws["env"], "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    assert said({"role": ROLE}, **nobody, COG_CPU_IMAGE=cpu.replace(site.host, ECR)) == (
        "SageMaker cannot be asked for DescribeModel: Unable to locate credentials"
    )


def test_cogbuild_makes_it_after_the_cpu_image(site: Site, podman: Any, tmp_path: Path) -> None:
    """As a user has it: two names in a command, and the image's test over podman's service."""
    adapters = [f"--adapter-dir={ADAPTERS / name}" for name in ("docker-cpu", "sagemaker")]
    with podman.service() as service:
        site.cogbuild(tmp_path, "models", "add", str(LANGUAGE))
        said = site.cogbuild(tmp_path, "adapt", *adapters, DOCKER_HOST=service)
        assert "over 3 outputs of 3 examples, in cog 0.23.1 behind /invocations in podman" in said
        assert "2 fresh" in site.cogbuild(tmp_path, "adapt", *adapters, DOCKER_HOST=service)


def test_cogbuild_records_what_is_at_aws(site: Site, aws: dict[str, Any], tmp_path: Path) -> None:
    """ARNs are artifacts as images are: shown and found again; ``verify`` says that it cannot look."""
    (tmp_path / "cogbuild.yaml").write_text("adapters: [builtin:sagemaker]\n")
    model = shutil.copytree(LANGUAGE, tmp_path / "model")
    with open(model / "cog-adapters.yaml", "a") as file:
        params = {"role": ROLE, "endpoint": "serverless", "env": {"LEVEL": "debug"}}
        file.write(f"params: {json.dumps({'sagemaker': params})}\n")
    cpu = site.cpu_image(LANGUAGE, tmp_path).replace(site.host, ECR)
    env = {**aws["env"], "COGBUILD_DOCKER_REGISTRY": ECR}
    site.cogbuild(tmp_path, "models", "add", str(model), "--cpu-image", cpu, **env)
    said = site.cogbuild(tmp_path, "adapt", **env)
    for name, kind in (("model", "model"), ("endpoint-config", "endpoint-config")):
        assert re.search(
            rf"^  {name}: arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/local-model-\w", said, re.MULTILINE
        )
    assert "1 fresh" in site.cogbuild(tmp_path, "adapt", **env)
    assert "2 not checked" in site.cogbuild(tmp_path, "artifacts", "verify", **env)
