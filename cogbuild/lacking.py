"""What an adapter wants of the machine and the site (``requires:``) and does not find there, said before work begins."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, NamedTuple

from cogbuild.errors.adapters import AdapterLacks

if TYPE_CHECKING:
    from cogbuild.project import Project
    from cogbuild.spec import AdapterSpec, Requirement

__all__ = ["Lack", "check", "lacks"]

_SETTINGS = {
    "docker_registry": "no container registry: set docker_registry in cogbuild.yaml, or COGBUILD_DOCKER_REGISTRY",
    "artifact_store": "no artifact store: set artifact_store in cogbuild.yaml, or COGBUILD_ARTIFACT_STORE",
}


class Lack(NamedTuple):
    """One thing that is not there."""

    what: str  # and how to get it
    without: str | None  # what is left out; None: the adapter can't work

    @property
    def text(self) -> str:
        """All of it in one line."""
        return f"{self.what}; without it {self.without}" if self.without else self.what


def lacks(project: Project, spec: AdapterSpec) -> list[Lack]:
    """Return what *spec* wants and does not find, what it can't work without first."""
    found = [Lack(what, item.purpose) for item in spec.requires if (what := _lacking(project, item))]
    return sorted(found, key=lambda item: item.without is not None)


def check(project: Project, spec: AdapterSpec, model: str) -> None:
    """Refuse to begin what could only fail. Raises ``AdapterLacks``."""
    if spec.requires and (missing := [item.what for item in lacks(project, spec) if item.without is None]):
        raise AdapterLacks(adapter=spec.name, model=model, lacks="\n".join(missing))


def _lacking(project: Project, item: Requirement) -> str | None:
    if item.setting is not None:
        return None if getattr(project.settings, item.setting) else _SETTINGS[item.setting]
    path = project.environ.get("PATH")
    if any(shutil.which(program, path=path) for program in item.programs):
        return None
    package = f" (Debian: {item.package})" if item.package else ""
    return f"{' or '.join(item.programs)} is not installed{package}"
