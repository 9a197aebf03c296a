"""What people declare, as plain frozen values: adapters, models, what a model wants, site settings.

The values live here and import nothing heavy, because a run with nothing to do reads them back from the database's
memo (``to_json``/``from_json``). Reading and checking the files is in ``spec.adapter``, ``spec.model`` and
``spec.site``, which bring pydantic and YAML and are imported only when a file is new.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from cogbuild.place import MODEL_FILE, SETTINGS_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ADAPTER_FILE",
    "COG_VARIABLES",
    "MODEL_FILE",
    "SETTINGS_FILE",
    "WISHES_FILE",
    "AdapterSpec",
    "Example",
    "ModelSource",
    "ModelSpec",
    "PythonSpec",
    "Requirement",
    "ServerSettings",
    "Settings",
    "Wishes",
    "from_json",
    "to_json",
]

ADAPTER_FILE = "cog-adapter.yaml"
WISHES_FILE = "cog-adapters.yaml"

#: The variables of the 2021 contract, in the order in which Cog set them.
COG_VARIABLES = (
    "COG_MODEL_PYTHON_MODULE",
    "COG_MODEL_CLASS",
    "COG_CPU_IMAGE",
    "COG_DOCKER_REGISTRY",
    "COG_HAS_DOCKER_REGISTRY",
    "COG_REPO_USER",
    "COG_REPO_NAME",
    "COG_MODEL_ID",
)


@dataclass(frozen=True)
class PythonSpec:
    """The isolated Python environment that an adapter asks for."""

    packages: tuple[str, ...] = ()  # requirement specifiers
    with_model: bool = False  # the model's own requirements join
    kit: bool = False  # cogbuild's small kit is importable and counts


@dataclass(frozen=True)
class Requirement:
    """Something that an adapter wants of the machine or the site: a setting, or one of some programs."""

    setting: str | None = None  # of ``Settings``
    programs: tuple[str, ...] = ()  # any of them will do
    package: str | None = None  # Debian's, that brings it
    purpose: str | None = None  # what is left out without it; None: the adapter can't work without it


@dataclass(frozen=True)
class AdapterSpec:
    """An adapter as declared in ``cog-adapter.yaml``; nothing here has touched the disk beyond that file."""

    name: str
    script: str  # path inside the adapter's directory
    description: str = ""
    api: int | None = None
    inputs: tuple[str, ...] = ("**",)  # gitignore-style patterns, "!" excludes, in order
    uses: tuple[str, ...] | None = None  # None: every COG_ variable of the contract
    examples: bool = False
    env_pass: tuple[str, ...] = ()
    env_hash: tuple[str, ...] = ()
    env_secret: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)  # name → JSON value
    python: PythonSpec | None = None
    needs: tuple[str, ...] = ()
    timeout: float | None = None  # seconds; None: no limit
    retries: int = 0
    large_writes: bool = False
    state: bool = False
    epoch: int = 1
    test: str | None = None  # path inside the adapter's directory
    requires: tuple[Requirement, ...] = ()

    def passes(self, variable: str) -> bool:
        """Whether the process gets *variable* of the contract."""
        return self.uses is None or variable in self.uses


@dataclass(frozen=True)
class Example:
    """One example of a model: inputs by name and, where known, the output that they give."""

    input: Mapping[str, Any]
    output: Any = None


@dataclass(frozen=True)
class ModelSpec:
    """What ``cog.yaml`` says of a model, in today's form or the form of 2021."""

    module: str  # dotted, e.g. "jazzcomposer.infer"
    cls: str  # e.g. "Predictor"
    file: str  # the reference's file, e.g. "jazzcomposer/infer.py"
    python_version: str | None = None
    requirements: tuple[str, ...] = ()  # specifier, URL or path, as pip takes them; a requirements file's too
    constraints: tuple[str, ...] = ()  # specifiers that bind only what is installed anyway (-c)
    pip_options: tuple[str, ...] = ()  # where to look and what to take: "--pre", "--find-links URL"
    system_packages: tuple[str, ...] = ()
    gpu: bool = False
    examples: tuple[Example, ...] = ()  # the form of 2021 keeps examples in cog.yaml


@dataclass(frozen=True)
class Wishes:
    """What a model wants of adapters (``cog-adapters.yaml``); seeds the settings of (repo, model)."""

    adapters: tuple[str, ...] | None = None  # None: every active adapter
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # adapter → param → JSON value
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True)
class ModelSource:
    """A live directory that the settings name (``models:``), linked and looked at on every run."""

    path: str  # relative to the settings file; may hold * and ?
    repo: str | None = None  # "user/name"; None: local/<directory name>
    requires: tuple[str, ...] = ()  # importable modules without which the directory is passed over


@dataclass(frozen=True)
class ServerSettings:
    """What a server takes and how long it waits (``server:``)."""

    upload_limit: int = 64 << 30  # bytes of one upload, as it is sent
    request_limit: int = 1 << 20  # bytes of every other request's body
    uploads: int = 32  # that are received at once; further ones wait for their turn
    patience: float = (
        60.0  # seconds that a client may be silent while it sends, or an upload waits for its turn
    )
    fetch: tuple[
        str, ...
    ] = ()  # scheme://host of artifacts that the server may fetch, beside what it published
    backfill: str = (
        "missing"  # what a new or changed adapter makes of models that are there: off, missing, stale
    )
    backfill_sample: int = 5  # models that are tried first
    backfill_failures: float = 0.2  # share of them that may fail for the rest to follow


@dataclass(frozen=True)
class Settings:
    """Site settings: ``cogbuild.yaml`` or ``[tool.cogbuild]``, then ``COGBUILD_…``, then options."""

    adapters: tuple[str, ...] = ()  # directories relative to the settings file, or "builtin:<name>"
    models: tuple[ModelSource, ...] = ()
    docker_registry: str = ""
    artifact_store: str | None = None  # None: the data directory's own artifacts/
    jobs: int | None = None  # None: as many as processors
    pass_env: tuple[str, ...] = (
        "DOCKER_*",
        "AWS_*",
        "GOOGLE_*",
        "AZURE_*",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "all_proxy",
    )
    workspace_memory: int = 2 << 30  # bytes that one run's writes may take in memory
    zip_limit: int = 64 << 30  # bytes that a zip may unpack to
    server: ServerSettings = field(default_factory=ServerSettings)


T = TypeVar("T")


def to_json(value: Any) -> str:
    """Return a declaration as JSON with sorted keys; the same declaration gives the same text."""
    return json.dumps(dataclasses.asdict(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def from_json(kind: type[T], text: str) -> T:
    """Return the declaration of class *kind* that ``to_json`` wrote."""
    return _revive(kind, json.loads(text))


def _revive(kind: type[T], raw: dict[str, Any]) -> T:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()
    }
    if kind is AdapterSpec and values["python"] is not None:
        values["python"] = _revive(PythonSpec, values["python"])
    if kind is AdapterSpec and "requires" in values:  # what an older cogbuild remembered has it not
        values["requires"] = tuple(_revive(Requirement, item) for item in values["requires"])
    if kind in (ModelSpec, Wishes):
        values["examples"] = tuple(_revive(Example, item) for item in values["examples"])
    if kind is Settings:
        values["models"] = tuple(_revive(ModelSource, item) for item in values["models"])
        if "server" in values:  # as above
            values["server"] = _revive(ServerSettings, values["server"])
    if kind is Example:
        values = raw
    return kind(**values)
