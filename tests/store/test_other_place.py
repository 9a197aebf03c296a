"""What becomes of artifacts when the settings name another place for them?"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from cogbuild.errors.state import ArtifactsElsewhere

if TYPE_CHECKING:
    from conftest import Sandbox
    from door import Door

pytest_plugins = ["door"]


def test_another_place_without_the_artifacts_is_refused(box: Sandbox, cogbuild: Door) -> None:
    """Nothing is called fresh that is nowhere; moved there, it is; and so it is where the setting is changed back."""
    box.adapter("one")
    box.add("a")
    box.adapt()
    new = box.root / "store"
    box.configure(artifact_store=f"file://{new}")
    with pytest.raises(ArtifactsElsewhere) as refused:
        box.adapt()
    assert refused.value.title == "artifact_store was changed, and 1 of 1 artifacts are not there"
    assert cogbuild("adapt", "--dry-run").code == cogbuild("adapt").code == 3
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
