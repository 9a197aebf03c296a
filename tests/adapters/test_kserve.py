"""Does kserve make an image that Triton's client understands, and an InferenceService that runs it?"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from adapter_runs import EXAMPLES, environment_of, run_script
from adapters_table import keep_cell
from crds import needs_crds, wrong_in
from sites import NEEDS

if TYPE_CHECKING:
    from pathlib import Path

    from sites import Site

pytestmark = [pytest.mark.slow, *NEEDS]
KIND = "kserve-inferenceservice-v1beta1"
LANGUAGE = EXAMPLES / "text-language"


def resource_of(made: Any, file: str = "inference-service.yaml") -> dict[str, Any]:
    """Return the resource that a run wrote."""
    found: dict[str, Any] = yaml.safe_load((made.output / file).read_text())
    return found


@pytest.fixture
def made(site: Site, tmp_path: Path) -> Any:
    """What the adapter makes of an example model."""
    ran = site.run("kserve", LANGUAGE, tmp_path, COG_CPU_IMAGE=site.cpu_image(LANGUAGE, tmp_path))
    assert (ran.code, ran.stdout) == (0, ""), ran.log
    return ran


def test_the_image_serves_the_protocol(site: Site, podman: Any, tmp_path: Path) -> None:
    """Made twice it has one digest; its test runs it and gets the examples' outputs, in JSON and in binary."""
    cpu = site.cpu_image(LANGUAGE, tmp_path)
    made, again = (site.run("kserve", LANGUAGE, tmp_path, COG_CPU_IMAGE=cpu) for _ in range(2))
    assert (made.code, made.stdout) == (0, ""), made.log
    image = made.listed[0]
    assert image["uri"] == again.listed[0]["uri"]
    assert image["uri"].startswith(f"{site.host}/ada/text-language-open-inference@sha256:")
    assert resource_of(made) == resource_of(again)
    judged = site.judge("kserve", LANGUAGE, made, tmp_path)
    assert (judged.code, judged.stdout) == (0, ""), judged.log
    assert re.search(
        r"image: largest difference: .* over 6 outputs of 3 examples, in podman, asked by tritonclient 2\.\d+",
        judged.log,
    ), judged.log
    keep_cell("kserve", LANGUAGE.name, {"fidelity": judged.fidelity})
    podman.forget()


@needs_crds
def test_the_resource_is_one(made: Any, site: Site, tmp_path: Path) -> None:
    """As its published schema wants it, without and with everything that can be set."""
    image = made.listed[0]["uri"]
    resource = resource_of(made)
    assert wrong_in(KIND, resource) == []
    assert resource["metadata"]["name"] == "ada-text-language-d6a36b21"
    (container,) = resource["spec"]["predictor"]["containers"]
    assert container["image"] == image
    params = {"name": "lang", "namespace": "models", "cpu": "500m", "memory": "1Gi", "max_replicas": 3}
    full = site.run(
        "kserve",
        LANGUAGE,
        tmp_path,
        params={**params, "min_replicas": 0, "service_account": "reader"},
        COG_CPU_IMAGE=site.cpu_image(LANGUAGE, tmp_path),
    )
    assert full.listed[0]["uri"] == image
    assert wrong_in(KIND, resource_of(full)) == []
    assert resource_of(full)["spec"]["predictor"] == {
        "minReplicas": 0,
        "maxReplicas": 3,
        "serviceAccountName": "reader",
        "containers": [
            {
                "name": "kserve-container",
                "image": image,
                "env": [
                    {"name": "MODEL_NAME", "value": "lang"},
                    {"name": "PORT", "value": "8080"},
                    {"name": "PROTOCOL", "value": "v2"},
                ],
                "ports": [{"containerPort": 8080, "protocol": "TCP"}],
                "readinessProbe": {
                    "httpGet": {"path": "/v2/health/ready", "port": 8080},
                    "periodSeconds": 5,
                },
                "livenessProbe": {
                    "httpGet": {"path": "/v2/health/live", "port": 8080},
                    "periodSeconds": 10,
                },
                "resources": {
                    "requests": {"cpu": "500m", "memory": "1Gi"},
                    "limits": {"cpu": "500m", "memory": "1Gi"},
                },
            }
        ],
    }
    mistyped = json.loads(json.dumps(resource).replace('"image"', '"imagee"'))
    assert wrong_in(KIND, mistyped) == ["Additional properties are not allowed ('imagee' was unexpected)"]


def test_an_image_without_a_schema_is_refused(site: Site, tmp_path: Path) -> None:
    """Nobody could know what the model takes."""
    name = f"{site.host}/python:3.11-slim"
    ran = site.run("kserve", LANGUAGE, tmp_path, COG_CPU_IMAGE=name)
    assert ran.code == 1
    assert ran.last_line == (
        f"the image {name} has no label run.cog.openapi_schema, which says what the model takes: "
        "let docker-cpu or `cog build` make it"
    )


SAID = {
    "image": "the model has no CPU image: add builtin:docker-cpu to adapters: in cogbuild.yaml, "
    "or give the image with `cogbuild models add --cpu-image`",
    "name": "the parameter name is 'Lang_1', but it has to be at most 50 lower-case letters, "
    "digits and dashes, with a letter first and no dash last",
    "memory": "the parameter memory is '2 GB', but it has to be an amount as Kubernetes "
    "writes it, such as 500m, 2 or 4Gi",
    "min_replicas": "the parameter min_replicas is -1, but it has to be at least 0",
    "max_replicas": "the parameter max_replicas is 2, but min_replicas is 3",
}


@pytest.mark.parametrize(
    ("about", "params"),
    [
        ("image", {}),
        ("name", {"name": "Lang_1"}),
        ("memory", {"memory": "2 GB"}),
        ("min_replicas", {"min_replicas": "-1"}),
        ("max_replicas", {"min_replicas": 3, "max_replicas": 2}),
    ],
)
def test_what_is_wrong_is_said_first(about: str, params: dict[str, Any], tmp_path: Path) -> None:
    """One sentence, before anything is fetched."""
    given = {
        "COG_CPU_IMAGE": "" if about == "image" else "a/b:1",
        "COG_DOCKER_REGISTRY": "127.0.0.1:1",
        "COG_REPO_USER": "a",
        "COG_REPO_NAME": "b",
    }
    env_dir = environment_of("kserve", [])
    ran = run_script("kserve", LANGUAGE, tmp_path, env_dir=env_dir, params=params, more=given)
    assert (ran.code, ran.stdout, ran.log) == (1, "", SAID[about] + "\n")
