"""The command line, driven in this process as a shell would drive it, over the sandbox."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from cogbuild.cli import main

if TYPE_CHECKING:
    from conftest import Sandbox


@dataclass(frozen=True)
class Said:
    """What a command printed and how it ended."""

    out: str
    err: str
    code: int

    @property
    def json(self) -> Any:
        """Stdout as JSON."""
        return json.loads(self.out)

    @property
    def text(self) -> str:
        """Stdout with what differs from run to run replaced: IDs, digests, times, the sandbox's path."""
        return settled(self.out)


def settled(text: str) -> str:
    """Replace what differs from run to run."""
    text = re.sub(r"file://\S*/artifacts/../[0-9a-f]{62}", "file:///STORE", text)
    text = re.sub(r"\b[0-9a-f]{18}\b", "ATTEMPT", text)
    text = re.sub(r"\b[0-9a-f]{40}\b", "ID40", text)
    text = re.sub(r"\b[0-9a-f]{12}\b", "ID", text)
    text = re.sub(r"\b\d+\.\d s\b", "T s", text)
    return re.sub(r"\b\d+ (s|min) ago\b", "now", text)


class Door:
    """Runs ``cogbuild`` in the sandbox's project."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capfd = capfd

    def __call__(self, *arguments: object) -> Said:
        """Run one command."""
        self._monkeypatch.setattr(sys, "argv", ["cogbuild", *map(str, arguments)])
        self._capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = self._capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return Said(out, err, ended.value.code)


@pytest.fixture
def cogbuild(box: Sandbox, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Door:
    """The command line, in the sandbox's project, 80 columns wide."""
    monkeypatch.chdir(box.root / "site")
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("NO_COLOR", "COGBUILD_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    return Door(monkeypatch, capfd)
