"""What a site has that builds and runs images: a registry with a base image, an engine, and the kit's view of both."""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest
from adapter_runs import KIT, adapter_spec, environment_of, find_links, run_script
from uv import find_uv_bin

sys.path[:0] = [str(Path(__file__).parents[1] / "images"), str(KIT)]
engine: Any = importlib.import_module("engine")
registries: Any = importlib.import_module("registries")

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from adapter_runs import Ran

_NONE: Mapping[str, str] = MappingProxyType({})
#: What a test needs that has a site.
NEEDS = [registries.needs_registry, engine.needs_debootstrap, engine.needs_root]


@functools.cache
def _uv_cache() -> str:
    command = [find_uv_bin(), "cache", "dir"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@contextlib.contextmanager
def opened(place: Path) -> Iterator[Site]:
    """Run a registry with the base image in it, and set podman up."""
    images = importlib.import_module("cogbuild_adapter.images")
    with registries.serving(place / "registry") as registry:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COG_OUTPUT_DIR", str(place))
            base = engine.push_base(images, registry.host)
        podman = engine.Podman(place / "podman", registry.host)
        made = Site(registry.host, podman, images)
        made.trouble = podman.trouble(base)
        yield made
        if not made.trouble:
            podman.clean()


class Site:
    """What a site has: a registry and an engine; and the kit's own view of images."""

    def __init__(self, host: str, podman: Any, images: Any) -> None:
        self.host, self.podman, self.images = host, podman, images
        self.trouble = ""  # why podman can't run containers here
        self._cpu_runs: dict[Path, Ran] = {}

    def run(
        self,
        adapter: str,
        model: Path,
        scratch: Path,
        *,
        script: str | None = None,
        params: Mapping[str, object] = _NONE,
        **more: str,
    ) -> Ran:
        """Run *adapter*, or its test, on *model*."""
        spec = adapter_spec(adapter)
        env_dir = environment_of(adapter, model)
        env = {
            "COG_DOCKER_REGISTRY": self.host,
            "COG_HAS_DOCKER_REGISTRY": "true",
            "COG_REPO_USER": "Ada",
            "COG_REPO_NAME": model.name,
            "UV_CACHE_DIR": _uv_cache(),
            "PATH": f"{env_dir}/bin:{os.environ['PATH']}",
            **{name: os.environ[name] for name in spec.env_pass if name in os.environ},
            **({"UV_FIND_LINKS": links} if (links := find_links()) else {}),
            **self.podman.env,
        }
        return run_script(
            adapter, model, scratch, script=script, env_dir=env_dir, params=params, more={**env, **more}
        )

    def judge(self, adapter: str, model: Path, made: Ran, scratch: Path, **more: Any) -> Ran:
        """Run the test of *adapter* on several artifacts that it made, as cogbuild does after it has kept them."""
        rows = []
        for row in made.listed:
            is_file = row["uri"].startswith(str(made.output))
            rows.append({**row, "uri": Path(row["uri"]).as_uri() if is_file else row["uri"]})
        uris = {row["name"]: row["uri"] for row in rows}
        for row in made.listed:
            for name in row.get("refers", ()):
                file = Path(row["uri"])
                file.write_text(file.read_text().replace(f"{{cog-artifact:{name}}}", uris[name]))
        listed = scratch / f"listed-{made.output.parent.name}"
        listed.write_text("".join(json.dumps(row) + "\n" for row in rows))
        more["COG_ARTIFACTS_FILE"], more["COG_ARTIFACT_URI"] = str(listed), rows[0]["uri"]
        return self.run(adapter, model, scratch, script=adapter_spec(adapter).test, **more)

    def cpu_run(self, model: Path, scratch: Path) -> Ran:
        """Return how docker-cpu ended on *model*, where it ran once."""
        if model not in self._cpu_runs:
            self._cpu_runs[model] = self.run("docker-cpu", model, scratch)
        return self._cpu_runs[model]

    def cpu_image(self, model: Path, scratch: Path) -> str:
        """Return what docker-cpu makes of *model*, made once."""
        made = self.cpu_run(model, scratch)
        assert made.code == 0, made.log
        return made.stdout.strip()

    def cogbuild(self, project: Path, *command: str, **more: str) -> str:
        """Return what ``cogbuild COMMAND`` prints, with the site's settings."""
        env = {
            **os.environ,
            **self.podman.env,
            "COGBUILD_DOCKER_REGISTRY": self.host,
            "COGBUILD_DATA_DIR": str(project / ".cogbuild"),
            **more,
        }
        tool = [sys.executable, "-m", "cogbuild", *command]
        done = subprocess.run(tool, cwd=project, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr
