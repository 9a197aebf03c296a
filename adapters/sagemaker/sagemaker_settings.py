"""The adapter's parameters, checked before any work: SageMaker itself would refuse late, and its stand-ins not at all."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import Any

from cogbuild_adapter import AdapterError, param

_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]{1,512}", re.ASCII)
_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_OBJECT = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\s]*)?")
_INSTANCE = re.compile(r"ml\.[a-z0-9-]+\.[a-z0-9]+")
_VARIABLE = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_ECR = re.compile(r"\d{12}\.dkr\.ecr(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
_APPROVALS = ("PendingManualApproval", "Approved", "Rejected")
_ENDPOINTS = ("none", "plain", "serverless", "async")
_LONGEST_NAME = 63
_MOST_VARIABLES, _LONGEST_VALUE = 100, 1024
#: Those that are about what is made at AWS.
_FOR_A_ROLE = ("name", "model_data", "package_group", "async_output")


@dataclass(frozen=True)
class Settings:
    """What is wanted at AWS. Without a role: nothing."""

    role: str
    name: str  # what names there begin with; empty: repo and model
    env: dict[str, str]
    model_data: str
    package_group: str
    approval: str
    endpoint: str
    instance_type: str
    instance_count: int
    memory_mb: int
    concurrency: int
    async_output: str
    startup_timeout: int


def read() -> Settings:
    """Return the parameters; ``AdapterError`` names the first that cannot be."""
    found = Settings(
        role=param("role", ""),
        name=param("name", ""),
        env=_env(),
        model_data=param("model_data", ""),
        package_group=param("package_group", ""),
        approval=param("approval", "PendingManualApproval"),
        endpoint=param("endpoint", "none"),
        instance_type=param("instance_type", "ml.m5.large"),
        instance_count=param("instance_count", 1),
        memory_mb=param("memory_mb", 2048),
        concurrency=param("concurrency", 5),
        async_output=param("async_output", ""),
        startup_timeout=param("startup_timeout", 0),
    )
    _check_forms(found)
    _check_numbers(found)
    if not found.role:
        given = [name for name in _FOR_A_ROLE if getattr(found, name)]
        given += ["endpoint"] if found.endpoint != "none" else []
        given += ["env"] if found.env else []
        if given:
            raise AdapterError(
                f"the parameter {given[0]} is for a model at SageMaker, which needs the parameter role: "
                "arn:aws:iam::ACCOUNT:role/NAME"
            )
    if (found.endpoint == "async") != bool(found.async_output):
        raise AdapterError(
            "the parameter async_output, s3://BUCKET/PREFIX, is needed by the endpoint async and by no other"
        )
    return found


def region_of(host: str) -> str:
    """Return the region of an image's registry, which has to be one that SageMaker takes images from."""
    found = _ECR.fullmatch(host)
    if not found:
        raise AdapterError(
            f"SageMaker takes images from ECR only, and the site's registry is {host}: set docker_registry to "
            "ACCOUNT.dkr.ecr.REGION.amazonaws.com, or leave out the parameter role"
        )
    return found[1]


def prefix(settings: Settings) -> str:
    """Return what the names of this model's things at SageMaker begin with."""
    if settings.name:
        return settings.name
    repo = re.sub(r"[^a-zA-Z0-9]+", "-", f"{os.environ['COG_REPO_USER']}-{os.environ['COG_REPO_NAME']}")
    return f"{repo.strip('-')[:30].rstrip('-')}-{os.environ['COG_MODEL_ID'][:12]}"


def _env() -> dict[str, str]:
    text = param("env", "{}")
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise _wrong("env", text, "an object of names and values, such as {LOG_LEVEL: debug}")
    values = {name: value if isinstance(value, str) else json.dumps(value) for name, value in found.items()}
    if len(values) > _MOST_VARIABLES:
        raise AdapterError(
            f"the parameter env has {len(values)} variables, and SageMaker takes {_MOST_VARIABLES}"
        )
    for name, value in values.items():
        if not _VARIABLE.fullmatch(name) or len(name) > _LONGEST_VALUE:
            raise AdapterError(f"the parameter env has the name {name!r}, which no variable can have")
        if len(value) > _LONGEST_VALUE:
            raise AdapterError(f"in the parameter env, {name} has more than {_LONGEST_VALUE} characters")
    return values


def _check_forms(found: Settings) -> None:
    shortest = _LONGEST_NAME - len("-serverless-01234567")
    for name, form, wanted in (
        ("role", _ROLE, "arn:aws:iam::ACCOUNT:role/NAME"),
        ("name", _NAME, "letters, digits and dashes between them"),
        ("package_group", _NAME, "letters, digits and dashes between them"),
        ("model_data", _OBJECT, "s3://BUCKET/KEY.tar.gz, or s3://BUCKET/PREFIX/"),
        ("async_output", _OBJECT, "s3://BUCKET/PREFIX"),
        ("instance_type", _INSTANCE, "a type such as ml.m5.large"),
    ):
        value = getattr(found, name)
        if (value or name == "instance_type") and not form.fullmatch(value):
            raise _wrong(name, value, wanted)
    if len(found.name) > shortest:
        raise _wrong("name", found.name, f"at most {shortest} characters")
    if found.model_data and not found.model_data.endswith((".tar.gz", "/")):
        raise _wrong("model_data", found.model_data, "s3://BUCKET/KEY.tar.gz, or s3://BUCKET/PREFIX/")
    for name, choices in (("approval", _APPROVALS), ("endpoint", _ENDPOINTS)):
        if getattr(found, name) not in choices:
            raise _wrong(name, getattr(found, name), f"{', '.join(choices[:-1])} or {choices[-1]}")


def _check_numbers(found: Settings) -> None:
    if found.instance_count < 1:
        raise _wrong("instance_count", found.instance_count, "1 or more")
    if found.memory_mb not in range(1024, 6145, 1024):
        raise _wrong("memory_mb", found.memory_mb, "1024, 2048, 3072, 4096, 5120 or 6144")
    if found.concurrency not in range(1, 201):
        raise _wrong("concurrency", found.concurrency, "from 1 to 200")
    if found.startup_timeout and found.startup_timeout not in range(60, 3601):
        raise _wrong("startup_timeout", found.startup_timeout, "from 60 to 3600 seconds, or 0")


def _wrong(name: str, value: Any, wanted: str) -> AdapterError:
    return AdapterError(f"the parameter {name} is {value!r}, but it has to be {wanted}")
