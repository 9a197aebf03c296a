"""Does a large layer stay on disk?"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from image_fixtures import at_home, images, quickly, registry  # noqa: F401 - pytest finds fixtures by name
from registries import KIT, DockerRegistry, needs_registry

if TYPE_CHECKING:
    from pathlib import Path

#: The long form: COGBUILD_TEST_LAYER_GB=10 takes 30 GB of disk and some minutes.
GIGABYTES = int(os.environ.get("COGBUILD_TEST_LAYER_GB", "1"))
_SCRIPT = """
import resource, sys
from pathlib import Path
from cogbuild_adapter.images import derive, empty, layer

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

derive(empty(), [layer({"/src/small": Path(sys.argv[1]).parent / "small"})]).push(sys.argv[2] + "/ada/small")
before = peak()
print(derive(empty(), [layer({"/src/weights": Path(sys.argv[1])})]).push(sys.argv[2] + "/ada/big"))
print(peak() - before)
"""


@pytest.mark.slow
@needs_registry
def test_memory_does_not_grow_with_a_layer(images: Any, registry: DockerRegistry, tmp_path: Path) -> None:
    """A gigabyte, or as many as are asked for, is packed and sent in some tens of megabytes."""
    weights, noise = tmp_path / "weights", os.urandom(4 << 20)
    (tmp_path / "small").write_bytes(noise * 16)
    with open(weights, "wb") as file:
        file.writelines(noise for _ in range(GIGABYTES << 8))
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, weights, registry.host],
        env={**os.environ, "PYTHONPATH": str(KIT), "COG_OUTPUT_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    name, grown = done.stdout.splitlines()[-2:]
    assert images.fetch(name).missing() == []
    assert int(grown) < 64, f"{grown} MiB more\n{done.stdout}"
    print(done.stdout)
    weights.unlink()
