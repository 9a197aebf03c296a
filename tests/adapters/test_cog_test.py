"""The model's test in the model's image, where an engine can run it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from adapter_runs import ADAPTERS, EXAMPLES
from sites import NEEDS

if TYPE_CHECKING:
    from pathlib import Path

    from sites import Site

pytestmark = [pytest.mark.slow, *NEEDS]


def test_examples_are_predicted_in_the_image_that_docker_cpu_made(
    site: Site, podman: Any, tmp_path: Path
) -> None:
    """With an engine and an image the report says that it was the image, and what its inputs are."""
    adapters = [f"--adapter-dir={ADAPTERS / name}" for name in ("docker-cpu", "cog-test")]
    with podman.service() as service:
        site.cogbuild(tmp_path, "models", "add", str(EXAMPLES / "text-language"))
        site.cogbuild(tmp_path, "adapt", *adapters, DOCKER_HOST=service)
        podman.forget()
    (report,) = (tmp_path / ".cogbuild" / "artifacts").rglob("test.json")
    said = json.loads(report.read_text())
    assert said["runtime"] == "the image, in podman"
    assert (said["examples"], said["compared"]) == (3, 3)
    assert set(said["run_arguments"]) == {"text", "among"}
