"""Registries for the tests of the kit's images, and the kit itself on the path."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import pytest
import registries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def images() -> Any:
    """The kit's module, as an adapter imports it."""
    pytest.importorskip("oras", reason="the package oras is not installed")
    sys.path.insert(0, str(registries.KIT))
    return importlib.import_module("cogbuild_adapter.images")


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody's home without logins; retries without waiting."""
    for name in (
        "COG_DOCKER_REGISTRY",
        "DOCKER_CONFIG",
        "REGISTRY_AUTH_FILE",
        "REGISTRY_USER",
        "REGISTRY_PASSWORD",
        "REGISTRY_PLAIN_HTTP",
    ):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(home / name.lower()))
    monkeypatch.setenv("COG_OUTPUT_DIR", str(tmp_path))
    return home


@pytest.fixture
def quickly(images: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask again at once where a registry is away."""
    monkeypatch.setattr(importlib.import_module("cogbuild_adapter.images.registry"), "_FIRST_PAUSE", 0.01)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[registries.DockerRegistry]:
    """A registry open to everybody."""
    with registries.serving(tmp_path / "registry") as running:
        yield running
