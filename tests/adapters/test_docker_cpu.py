"""Does docker-cpu make an image that serves the model as Cog does, the same one every time?"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from adapter_runs import EXAMPLES, KIT, adapter_spec, environment_of, run_script

sys.path[:0] = [str(Path(__file__).parents[1] / "images"), str(KIT)]
engine: Any = importlib.import_module("engine")
registries: Any = importlib.import_module("registries")

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adapter_runs import Ran

pytestmark = [
    pytest.mark.slow,
    registries.needs_registry,
    engine.needs_podman,
    engine.needs_runc,
    engine.needs_debootstrap,
    engine.needs_root,
]
MODELS = ["text-language", "digits-sklearn"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A registry that holds the base image, and podman."""
    place = tmp_path_factory.mktemp("site")
    pytest.importorskip("oras", reason="the package oras is not installed")
    images = importlib.import_module("cogbuild_adapter.images")
    with registries.serving(place / "registry") as registry:
        os.environ["COG_OUTPUT_DIR"] = str(place)
        engine.push_base(images, registry.host)
        del os.environ["COG_OUTPUT_DIR"]
        podman = engine.Podman(place / "podman", registry.host)
        yield Site(registry.host, podman, images)
        podman.clean()


class Site:
    """What a site has: a registry and an engine; and the kit's own view of images."""

    def __init__(self, host: str, podman: Any, images: Any) -> None:
        self.host, self.podman, self.images = host, podman, images

    def run(self, model: Path, scratch: Path, *, script: str | None = None, **more: str) -> Ran:
        """Run the adapter, or its test, on *model*."""
        env = {
            "COG_DOCKER_REGISTRY": self.host,
            "COG_HAS_DOCKER_REGISTRY": "true",
            "COG_REPO_USER": "Ada",
            "COG_REPO_NAME": model.name,
            "PATH": f"{environment_of('docker-cpu', model)}/bin:{os.environ['PATH']}",
            **{name: os.environ[name] for name in adapter_spec("docker-cpu").env_pass if name in os.environ},
            **self.podman.env,
        }
        env_dir = environment_of("docker-cpu", model)
        return run_script("docker-cpu", model, scratch, script=script, env_dir=env_dir, more={**env, **more})


@pytest.mark.parametrize("name", MODELS)
def test_the_image_serves_the_model(name: str, site: Site, tmp_path: Path) -> None:
    """Made twice it has one digest; its own test pulls it, runs it, and gets the examples' outputs."""
    first, second = (site.run(EXAMPLES / name, tmp_path) for _ in range(2))
    assert (first.code, second.code) == (0, 0), first.log + second.log
    assert first.stdout == second.stdout
    reference = first.stdout.strip()
    assert reference.startswith(f"{site.host}/ada/{name}@sha256:")
    judged = site.run(EXAMPLES / name, tmp_path, script="test.py", COG_ARTIFACT_URI=reference)
    assert (judged.code, judged.stdout) == (0, ""), judged.log
    assert "served by podman: " in judged.last_line
    site.podman.run("rmi", "--force", reference)
