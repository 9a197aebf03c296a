"""Resources for Kubernetes: names, parameters that stand in them, and YAML. Writing it needs PyYAML."""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING, Any

from cogbuild_adapter.contract import AdapterError, artifact_path, output_path, param

if TYPE_CHECKING:
    from pathlib import Path

#: Platforms make longer names of these, such as `<name>-predictor`, and a label has 63 characters.
_LONGEST = 50
_NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
_RESOURCE = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?")


def metadata() -> dict[str, Any]:
    """Return a resource's metadata: the parameters `name` and `namespace`, and which model this is.

    Without a name it is that of the repo, so a new version of the model takes the place of the one before.
    """
    repo = f"{os.environ['COG_REPO_USER']}/{os.environ['COG_REPO_NAME']}"
    name = _name_param("name") or resource_name(repo)
    namespace = _name_param("namespace")
    return {
        "name": name,
        **({"namespace": namespace} if namespace else {}),
        "annotations": {"run.cog/repo": repo, "run.cog/model-id": os.environ["COG_MODEL_ID"]},
    }


def resource_name(repo: str) -> str:
    """Return a name that Kubernetes takes for the repo ``user/name``; another repo has another one."""
    plain = re.sub(r"[^a-z0-9]+", "-", repo.lower()).strip("-")
    if plain.replace("-", "/", 1) == repo and len(plain) <= _LONGEST and _NAME.fullmatch(plain):
        return plain
    mark = hashlib.sha256(repo.encode()).hexdigest()[:8]
    if not plain[:1].isalpha():
        plain = f"m-{plain}".rstrip("-")
    return f"{plain[: _LONGEST - 9].rstrip('-')}-{mark}"


def resource_param(name: str) -> str:
    """Return the parameter *name*, which names another resource, or nothing."""
    text = param(name, "")
    if text and not _RESOURCE.fullmatch(text):
        raise AdapterError(
            f"the parameter {name} is {text!r}, but it has to be a name of lower-case letters, digits, dots and dashes"
        )
    return text


def list_param(name: str, default: str) -> list[str]:
    """Return the parameter *name*, words separated by commas."""
    text = param(name, default)
    words = [word.strip() for word in text.split(",")]
    if not all(_WORD.fullmatch(word) for word in words):
        raise AdapterError(f"the parameter {name} is {text!r}, but it has to be words separated by commas")
    return words


def _name_param(name: str) -> str:
    text = param(name, "")
    if text and (len(text) > _LONGEST or not _NAME.fullmatch(text)):
        raise AdapterError(
            f"the parameter {name} is {text!r}, but it has to be at most {_LONGEST} lower-case letters, digits and "
            "dashes, with a letter first and no dash last"
        )
    return text


def quantity(name: str) -> str:
    """Return the parameter *name*, an amount such as ``500m`` or ``2Gi``, or nothing."""
    text = param(name, "")
    if text and not _QUANTITY.fullmatch(text):
        raise AdapterError(
            f"the parameter {name} is {text!r}, but it has to be an amount as Kubernetes writes it, "
            "such as 500m, 2 or 4Gi"
        )
    return text


def count(name: str, default: int, least: int = 0) -> int:
    """Return the parameter *name*, a whole number of at least *least*."""
    number = param(name, default)
    if number < least:
        raise AdapterError(f"the parameter {name} is {number}, but it has to be at least {least}")
    return number


def container(name: str, port: int, model: str, *, port_name: str = "") -> dict[str, Any]:
    """Return a container, its image still to be filled in, that serves *model* over the Open Inference Protocol.

    The parameters `cpu` and `memory` are what it asks for and may use.
    """
    amounts = {key: amount for key in ("cpu", "memory") if (amount := quantity(key))}
    named = {"name": port_name} if port_name else {}
    probes = {
        f"{kind}Probe": {"httpGet": {"path": f"/v2/health/{path}", "port": port}, "periodSeconds": seconds}
        for kind, path, seconds in (("readiness", "ready", 5), ("liveness", "live", 10))
    }
    variables = {"MODEL_NAME": model, "PORT": str(port), "PROTOCOL": "v2"}
    return {
        "name": name,
        "image": "",
        "env": [{"name": key, "value": value} for key, value in variables.items()],
        "ports": [{**named, "containerPort": port, "protocol": "TCP"}],
        **probes,
        **({"resources": {"requests": amounts, "limits": dict(amounts)}} if amounts else {}),
    }


def write_resource(file: str, resource: dict[str, Any]) -> Path:
    """Write *resource* as YAML into the artifact *file*."""
    import yaml

    target = output_path(file)
    # No anchors: people read this.
    dumper = type("Plain", (yaml.SafeDumper,), {"ignore_aliases": lambda *_: True})
    text = yaml.dump(resource, Dumper=dumper, sort_keys=False, allow_unicode=True, width=1000)
    target.write_text(text, encoding="utf-8")
    return target


def read_resource() -> dict[str, Any]:
    """Return, in a ``test:``, the artifact that is called ``resource``."""
    import yaml

    return yaml.safe_load(artifact_path("resource").read_text(encoding="utf-8"))
