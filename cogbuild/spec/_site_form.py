"""The form of ``cogbuild.yaml`` and ``[tool.cogbuild]``; apart from ``site`` because it brings pydantic and YAML."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from cogbuild.errors.declarations import BadRepo, BrokenToml, NotAMapping
from cogbuild.spec import ModelSource, ServerSettings, Settings, _values
from cogbuild.spec._checked import Form, Items, checked, once_each
from cogbuild.spec._yaml import Document, read_text, read_yaml, shown
from cogbuild.spec.names import valid_repo
from cogbuild.spec.site import check_store

if TYPE_CHECKING:
    from pathlib import Path

    from cogbuild.spec._yaml import Place

__all__ = ["parse"]

_TABLE = "tool.cogbuild"


def _repo(value: str) -> str:
    try:
        valid_repo(value)
    except BadRepo:
        raise ValueError("user/name") from None
    return value


class _Model(Form):
    path: Annotated[str, AfterValidator(_values.model_path)]
    repo: Annotated[str, AfterValidator(_repo)] | None = None
    requires: Items[Annotated[str, AfterValidator(_values.module)]] = ()


Model = Annotated[_Model, BeforeValidator(lambda value: {"path": value} if isinstance(value, str) else value)]
Size = Annotated[int, BeforeValidator(_values.size)]


class _Server(Form):
    upload_limit: Size = ServerSettings.upload_limit
    request_limit: Size = ServerSettings.request_limit
    uploads: Annotated[int, BeforeValidator(_values.jobs)] = ServerSettings.uploads
    patience: Annotated[float, BeforeValidator(_values.duration)] = ServerSettings.patience
    fetch: Items[Annotated[str, AfterValidator(_values.origin)]] = ()
    backfill: Annotated[str, BeforeValidator(_values.backfill)] = ServerSettings.backfill
    backfill_sample: Annotated[int, BeforeValidator(_values.jobs)] = ServerSettings.backfill_sample
    backfill_failures: Annotated[float, BeforeValidator(_values.share)] = ServerSettings.backfill_failures


class _Settings(Form):
    adapters: Items[Annotated[str, AfterValidator(_values.adapter_entry)]] = ()
    models: Items[Model] = ()
    docker_registry: Annotated[str, AfterValidator(_values.registry)] = ""
    artifact_store: str | None = None
    jobs: Annotated[int | None, BeforeValidator(_values.jobs)] = None
    pass_env: Items[Annotated[str, AfterValidator(_values.pass_pattern)]] = Settings.pass_env
    workspace_memory: Size = Settings.workspace_memory
    zip_limit: Size = Settings.zip_limit
    server: Annotated[_Server, BeforeValidator(lambda value: {} if value is None else value)] = _Server()


def parse(data: bytes, path: Path) -> Settings:
    """Return the settings that *data* holds."""
    document = _read_toml(data, path) if path.name == "pyproject.toml" else read_yaml(data, path)
    form = checked(_Settings, document)
    once_each(document, "adapters")
    check_store(form.artifact_store, **document.where(("artifact_store",)))
    return Settings(
        adapters=form.adapters,
        models=tuple(ModelSource(m.path, m.repo, m.requires) for m in form.models),
        docker_registry=form.docker_registry,
        artifact_store=form.artifact_store,
        jobs=form.jobs,
        pass_env=form.pass_env,
        workspace_memory=form.workspace_memory,
        zip_limit=form.zip_limit,
        server=ServerSettings(**form.server.model_dump()),
    )


def _read_toml(data: bytes, path: Path) -> Document:
    text = read_text(data, path)
    try:
        table: Any = tomllib.loads(text).get("tool", {})
    except RecursionError:
        raise BrokenToml(file=path, problem="it nests too deeply") from None
    except ValueError as error:
        problem, _, place = str(error).partition(" (at line ")
        line = place.partition(",")[0]
        raise BrokenToml(file=path, line=line if line.isdigit() else None, problem=problem.lower()) from None
    value = table.get("cogbuild", {}) if isinstance(table, dict) else {}
    if not isinstance(value, dict):
        raise NotAMapping(file=path, found=shown(value))
    return Document(path, value, _toml_lines(text, value))


def _toml_lines(text: str, value: dict[str, Any]) -> dict[Place, int]:
    """Return the lines of the keys of the table; tomllib tells none, so they are looked for."""
    lines: dict[Place, int] = {}
    within = False
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[+\s*([^\]]+?)\s*\]", line):
            within = header[1] == _TABLE
            key = (
                header[1].removeprefix(_TABLE + ".").partition(".")[0] if header[1].startswith(_TABLE) else ""
            )
        else:
            key = line.partition("=")[0].strip().strip("\"'") if within else ""
        if key in value:
            lines.setdefault((key,), number)
    return lines
