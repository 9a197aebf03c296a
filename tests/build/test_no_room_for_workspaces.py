"""The disk is full when the first workspace is made, or a later one: the run says so and ends."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest
from conftest import Sandbox

from cogbuild.errors.state import DiskFull
from cogbuild.workspace import Workspace, Workspaces


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("jobs", [1, 2])
def test_no_room_for_a_workspace(box: Sandbox, monkeypatch: pytest.MonkeyPatch, jobs: int, at: int) -> None:
    """The worker that was to have it is given back, so that nobody waits for it; with room again all is built."""
    for name in ("one", "two"):
        box.adapter(name)
    box.add("a")
    opened = Workspaces.open
    asked: list[object] = []

    def full(spaces: Workspaces, *arguments: Any, **words: Any) -> Workspace:
        asked.append(spaces)
        if len(asked) > at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(spaces.directory))
        return opened(spaces, *arguments, **words)

    with monkeypatch.context() as patched:
        patched.setattr(Workspaces, "open", full)
        if at < jobs:
            with pytest.raises(DiskFull, match="the disk is full"):
                box.adapt(jobs=jobs)
        else:  # there is never a second one
            assert box.adapt(jobs=jobs).ran == ["a one", "a two"]
    assert sorted({*box.ran(), *box.adapt(jobs=jobs).ran}) == ["a one", "a two"]
    assert box.adapt().ran == []
