"""The last line of a run counts each pair once, as what it is."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Sandbox


def _doit(box: Sandbox, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "doit", *arguments],
        cwd=box.root / "site",
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.slow
def test_pairs_that_doit_passes_over(box: Sandbox) -> None:
    """A fresh pair that was named is fresh; one that the user has ignored is neither that nor cancelled."""
    (box.root / "site/doit.cfg").write_text("[GLOBAL]\nloader = cogbuild\n")
    (box.root / "site/dodo.py").write_text("")
    box.adapter("one")
    box.adapter("two")
    box.add("a")
    assert _doit(box).splitlines()[-1] == "2 built"
    name = next(word for word in _doit(box, "list", "--all", "-q").split() if word.endswith(":one"))
    assert _doit(box, name).splitlines() == [f"-- {name}", "1 fresh"]
    _doit(box, "ignore", name)
    assert _doit(box, "-a").splitlines()[-1] == "1 built, 1 ignored"
    assert box.ran()[2:] == ["a two"]
