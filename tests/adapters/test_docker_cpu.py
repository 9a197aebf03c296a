"""Does docker-cpu make an image that serves the model as Cog does, the same one every time?"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import time
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest
from adapter_runs import ADAPTERS, EXAMPLES, KIT, environment_of, write_model
from adapters_table import keep_cell
from sites import NEEDS, engine

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sites import Site

pytestmark = [pytest.mark.slow, *NEEDS]
#: How long a model may take to be set up.
PATIENCE = 60.0
_NONE: Mapping[str, str] = MappingProxyType({})
needs_skopeo: pytest.MarkDecorator = engine.needs_skopeo
needs_umoci: pytest.MarkDecorator = engine.needs_umoci
PREDICT = """
from cog import BasePredictor, Input

class Predictor(BasePredictor):
    def predict(self, text: str) -> str:
        return open("/etc/made").read() + text
"""


def test_the_image_serves_the_model(site: Site, podman: Any, tmp_path: Path) -> None:
    """Made twice it has one digest; its own test pulls it, runs it, and gets the examples' outputs."""
    model = EXAMPLES / "text-language"
    made = site.run("docker-cpu", model, tmp_path)
    assert (made.code, made.stdout) == (0, site.cpu_run(model, tmp_path).stdout), made.log
    reference = made.stdout.strip()
    assert reference.startswith(f"{site.host}/ada/text-language@sha256:")
    judged = site.run("docker-cpu", model, tmp_path, script="test.py", COG_ARTIFACT_URI=reference)
    assert (judged.code, judged.stdout) == (0, ""), judged.log
    assert re.fullmatch(
        r"largest difference: .* over 3 outputs of 3 examples, in cog 0\.23\.\d+ in podman", judged.last_line
    )
    keep_cell("docker-cpu", model.name, {"fidelity": judged.fidelity})
    podman.forget()


@needs_skopeo
@needs_umoci
def test_the_image_serves_in_a_chroot(site: Site, tmp_path: Path) -> None:
    """Pulled by skopeo and unpacked by umoci, which nobody here wrote, it serves where no container can be run."""
    image = site.cpu_image(EXAMPLES / "text-language", tmp_path)
    example = {"text": "Where is the nearest station?"}
    with engine.in_chroot(image, tmp_path / "unpacked") as url:
        deadline = time.monotonic() + PATIENCE
        while engine.asked(f"{url}/health-check").get("status") != "READY":
            assert time.monotonic() < deadline, engine.asked(f"{url}/health-check")
            time.sleep(0.1)
        answer = engine.asked(f"{url}/predictions", {"input": example})
        assert answer["output"] == {"language": "en", "confidence": 1.0}
        refused = engine.asked(f"{url}/predictions", {"input": {"text": ""}})
        assert refused["code"] == 422


def test_nothing_in_the_image_names_the_machine_that_made_it(site: Site, tmp_path: Path) -> None:
    """Scripts of packages find their Python by name, and are listed with the digests they then have.

    Made again, with its packages installed elsewhere, it has the same digest.
    """
    model = EXAMPLES / "digits-sklearn"
    made = site.run("docker-cpu", model, tmp_path)
    assert (made.code, made.stdout) == (0, site.cpu_run(model, tmp_path).stdout), made.log
    image = site.images.fetch(made.stdout.strip())
    packages = json.loads(image.manifest)["layers"][1]["digest"]
    with io.BytesIO() as file:
        site.images.Repository(image.source).download(packages, 0, file)
        with tarfile.open(fileobj=file) as archive:
            small = {
                entry.name: archive.extractfile(entry).read()  # type: ignore[union-attr]  # it is a file
                for entry in archive
                if entry.isfile() and ("/bin/" in entry.name or entry.name.endswith("/RECORD"))
            }
    assert b"#!/usr/bin/env python\n" in next(
        data for name, data in small.items() if name.endswith("bin/f2py")
    )
    place = str(environment_of("docker-cpu", model)).encode()
    assert [name for name, data in small.items() if place in data or str(tmp_path).encode() in data] == []


def test_a_model_that_needs_commands_needs_an_engine(site: Site, podman: Any, tmp_path: Path) -> None:
    """Without one it is not applicable, with the way out; podman builds it, twice the same."""
    model = write_model(tmp_path / "model", PREDICT, '  - {input: {text: " it"}, output: "made\\n it"}\n')
    with open(model / "cog.yaml", "a") as file:
        file.write("build:\n  run: ['echo made >/etc/made']\nenvironment: ['A=a \"$b\"']\n")
    without = site.run("docker-cpu", model, tmp_path)
    assert (without.code, without.stdout) == (100, "")
    assert without.last_line == (
        "the model wants commands run when its image is built, which needs a container engine: "
        "set the parameter engine to docker or podman"
    )
    first, second = (site.run("docker-cpu", model, tmp_path, params={"engine": "podman"}) for _ in range(2))
    assert first.code == 0, first.log
    assert first.stdout == second.stdout
    reference = first.stdout.strip()
    judged = site.run("docker-cpu", model, tmp_path, script="test.py", COG_ARTIFACT_URI=reference)
    assert "over 1 outputs of 1 examples, in cog 0.23" in judged.last_line, judged.log
    image = site.images.fetch(reference)
    assert image.env["A"] == 'a "$b"'
    assert "\ncog==0.23" in image.labels["run.cog.pip_freeze"]


def test_what_is_missing_is_said_first(site: Site, tmp_path: Path) -> None:
    """No registry, no engine, no such engine: one sentence each, before anything is fetched."""
    model = EXAMPLES / "text-language"

    def said(params: Mapping[str, str] = _NONE, **more: str) -> str:
        ran = site.run("docker-cpu", model, tmp_path, params=params, **more)
        assert (ran.code, ran.stdout) == (1, "")
        assert ran.log == ran.last_line + "\n"
        return ran.last_line

    assert said(COG_DOCKER_REGISTRY="") == (
        "the site has no container registry: set docker_registry in cogbuild.yaml, "
        "or COGBUILD_DOCKER_REGISTRY, to HOST or HOST/path"
    )
    assert said({"engine": "lxc"}) == (
        "the parameter engine is 'lxc', but it has to be none, docker, podman or cog"
    )
    assert said({"engine": "podman"}, PATH=f"{environment_of('docker-cpu', model)}/bin") == (
        "podman was not found: install podman, or set the parameter engine to none"
    )
    assert said({"base": "nothing:1"}) == f"the registry has no image {site.host}/nothing:1"


def test_a_base_with_another_python_is_refused(site: Site, tmp_path: Path) -> None:
    """Packages for one version do not work in another."""
    base = site.images.derive(f"{site.host}/python:3.11-slim", env={"PYTHON_VERSION": "3.9.1"})
    base.push(f"{site.host}/python:old")
    ran = site.run("docker-cpu", EXAMPLES / "text-language", tmp_path, params={"base": "python:old"})
    assert ran.code == 1
    assert ran.last_line == (
        f"the base image {site.host}/python:old has Python 3.9.1, but the model's packages are for 3.11"
    )


def test_the_schema_says_what_the_predictor_takes(tmp_path: Path) -> None:
    """Types, defaults, limits and choices, in the form that Cog's builder writes."""
    model = write_model(
        tmp_path / "model",
        """
from typing import Optional
from cog import BasePredictor, Input, Path, ConcatenateIterator

class Predictor(BasePredictor):
    def predict(
        self,
        image: Path = Input(description="A picture"),
        scale: float = Input(default=1.5, ge=0, le=10),
        kind: str = Input(choices=["a", "b"], default="a"),
        seed: Optional[int] = Input(default=None),
        words: list[str] = Input(default=["x"]),
        code: str = Input(min_length=2, max_length=3, regex="^[a-z]+$"),
    ) -> ConcatenateIterator[str]:
        yield "x"
""",
    )
    env_dir = environment_of("docker-cpu", [])
    text = "import json; from cogbuild_adapter import schema; print('\\n' + json.dumps(schema.schema('predict.py:Predictor')['components']['schemas']))"
    done = subprocess.run(
        [f"{env_dir}/bin/python", "-B", "-c", text],
        cwd=model,
        env={"PYTHONPATH": str(KIT), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    schemas = json.loads(done.stdout.splitlines()[-1])
    assert schemas["Input"] == {
        "title": "Input",
        "type": "object",
        "required": ["image", "code"],
        "properties": {
            "image": {"x-order": 0, "title": "Image", "type": "string", "format": "uri", "description": "A picture"},
            "scale": {"x-order": 1, "title": "Scale", "type": "number", "default": 1.5, "minimum": 0, "maximum": 10},
            "kind": {"x-order": 2, "allOf": [{"$ref": "#/components/schemas/kind"}], "default": "a"},
            "seed": {"x-order": 3, "title": "Seed", "type": "integer", "nullable": True},
            "words": {"x-order": 4, "title": "Words", "type": "array", "items": {"type": "string"}, "default": ["x"]},
            "code": {"x-order": 5, "title": "Code", "type": "string", "minLength": 2, "maxLength": 3, "pattern": "^[a-z]+$"},
        },
    }  # fmt: skip
    assert schemas["kind"]["enum"] == ["a", "b"]
    assert schemas["Output"] == {
        "title": "Output",
        "type": "array",
        "items": {"type": "string"},
        "x-cog-array-type": "iterator",
        "x-cog-array-display": "concatenate",
    }


def test_cogbuild_gives_the_image_to_other_adapters(site: Site, podman: Any, tmp_path: Path) -> None:
    """The kit's own example puts a shim on the image that docker-cpu made and podman's service tried out."""
    shim = tmp_path / "shim"
    shim.mkdir()
    page = (KIT / "README.md").read_text().partition("An adapter that puts a shim")[2]
    (shim / "adapter.py").write_text(page.partition("```python\n")[2].partition("```")[0])
    (shim / "adapter.py").chmod(0o755)
    (shim / "shim.py").write_text("print('a shim')\n")
    variables = "COG_CPU_IMAGE, COG_DOCKER_REGISTRY, COG_REPO_USER, COG_REPO_NAME, COG_MODEL_ID"
    (shim / "cog-adapter.yaml").write_text(
        f"name: shim\nscript: adapter.py\nuses: [{variables}]\npython: {{packages: [oras], kit: true}}\n"
    )
    adapters = ["--adapter-dir", str(ADAPTERS / "docker-cpu"), "--adapter-dir", str(shim)]
    with podman.service() as service:
        site.cogbuild(tmp_path, "models", "add", str(EXAMPLES / "text-language"), DOCKER_HOST=service)
        said = site.cogbuild(tmp_path, "adapt", *adapters, DOCKER_HOST=service)
        assert "over 3 outputs of 3 examples, in cog 0.23" in said
        assert "2 fresh" in site.cogbuild(tmp_path, "adapt", *adapters, DOCKER_HOST=service)
        made = re.findall(rf"{site.host}/local/text-language-shim@sha256:[0-9a-f]{{64}}", said)
        assert podman.run("run", "--rm", made[0]) == "a shim\n"
        podman.forget()


def test_cogbuild_builds_with_a_service(site: Site, podman: Any, tmp_path: Path) -> None:
    """Where podman can't make containers itself, it does so through its service."""
    model = write_model(
        tmp_path / "model",
        PREDICT,
        '  - {input: {text: " it"}, output: "made\\n it"}\nparams: {docker-cpu: {engine: podman}}\n',
    )
    with open(model / "cog.yaml", "a") as file:
        # A command of its own: else it would be taken from what another test had built.
        file.write("build: {run: ['echo made >/etc/made # by a service']}\n")
    with podman.service() as service:
        site.cogbuild(tmp_path, "models", "add", str(model), DOCKER_HOST=service)
        said = site.cogbuild(
            tmp_path, "adapt", "--adapter-dir", str(ADAPTERS / "docker-cpu"), DOCKER_HOST=service
        )
        assert "over 1 outputs of 1 examples, in cog 0.23" in said
        podman.forget()


@pytest.mark.skipif(shutil.which("docker") is None, reason="docker's client is not installed")
def test_docker_builds_it_too(site: Site, podman: Any, tmp_path: Path) -> None:
    """Docker's own client, here against podman's service."""
    model = write_model(tmp_path / "model", PREDICT, '  - {input: {text: " it"}, output: "made\\n it"}\n')
    with open(model / "cog.yaml", "a") as file:
        # A command of its own: else it would be taken from what another test had built.
        file.write("build: {run: ['echo made >/etc/made # by docker']}\n")
    with podman.service() as service:
        settings = {"DOCKER_HOST": service, "DOCKER_BUILDKIT": "0"}
        made = site.run("docker-cpu", model, tmp_path, params={"engine": "docker"}, **settings)
        assert made.code == 0, made.log
        image = site.images.fetch(made.stdout.strip())
        assert image.settings["Cmd"] == ["python", "-m", "cog.server.http"]
        judged = site.run(
            "docker-cpu", model, tmp_path, script="test.py", COG_ARTIFACT_URI=made.stdout.strip(), **settings
        )
        assert "over 1 outputs of 1 examples" in judged.last_line, judged.log
        podman.forget()
