"""What becomes of artifacts when the settings name another place for them?"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from cogbuild.errors.state import ArtifactsElsewhere

if TYPE_CHECKING:
    from conftest import Sandbox
    from door import Door

pytest_plugins = ["door"]


@pytest.mark.slow
def test_another_place_without_the_artifacts_is_refused(box: Sandbox, cogbuild: Door) -> None:
    """Nothing is called fresh that is nowhere; moved there, it is; and so it is where the setting is changed back."""
    box.adapter("one")
    added = box.add("a")
    box.adapt()
    new = box.root / "store"
    box.configure(artifact_store=f"file://{new}")
    with pytest.raises(ArtifactsElsewhere) as refused:
        box.adapt()
    assert refused.value.title == "artifact_store was changed, and 1 of 1 artifacts are not there"
    os.utime(box.root / "site" / "cogbuild.yaml", (1_500_000_000, 1_500_000_000))  # old enough for any note
    for command in (["adapt", "--dry-run"], ["adapt"], ["adapt"], ["adapt"]):
        assert cogbuild(*command).code == 3
    doit = [sys.executable, "-m", "doit"]
    (box.root / "site" / "doit.cfg").write_text("[GLOBAL]\nloader = cogbuild\n")
    (box.root / "site" / "dodo.py").write_text("")
    for names in ([], [f"adapt:local/a@{added.model[:12]}:one"]):
        ended = subprocess.run(
            [*doit, *names],
            cwd=box.root / "site",
            env={**os.environ, **box.environ},
            capture_output=True,
            check=False,
        )
        assert (ended.returncode, b"artifact_store was changed" in ended.stdout + ended.stderr) == (
            3,
            True,
        ), names
    box.configure(artifact_store=None)
    assert box.adapt().results == {}
    box.configure(artifact_store=f"file://{new}")
    shutil.copytree(box.data / "artifacts", new, dirs_exist_ok=True)
    assert box.adapt().results == {}


def test_what_is_not_at_the_other_place_is_made_anew_on_request(box: Sandbox, cogbuild: Door) -> None:
    """`artifacts verify` notes what is gone, and the next run makes it."""
    box.adapter("one")
    box.add("a")
    box.adapt()
    box.configure(artifact_store=f"file://{box.root}/store")
    assert cogbuild("artifacts", "verify").code == 1
    assert box.adapt().ran == ["a one"]
    assert box.adapt().results == {}
