"""Resources against the published schemas of their kinds, where these lie beside the checkout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

#: Copies of facts, which are not part of the project: the ``openAPIV3Schema`` of each resource.
PLACE = Path(__file__).parents[3] / "shared" / "crds"
needs_crds = pytest.mark.skipif(not PLACE.is_dir(), reason=f"no published schemas of resources in {PLACE}")


def wrong_in(kind: str, resource: dict[str, Any]) -> list[str]:
    """Return what is not valid in *resource*; so are fields that Kubernetes would drop without a word."""
    from jsonschema import Draft7Validator

    schema = json.loads((PLACE / f"{kind}.json").read_text())
    # What every resource has, and the schemas leave open.
    text = {"type": "string"}
    texts = {"type": "object", "additionalProperties": text}
    schema["properties"]["metadata"] = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": text, "namespace": text, "annotations": texts, "labels": texts},
    }
    _closed(schema)
    return [error.message for error in Draft7Validator(schema).iter_errors(resource)]


def _closed(node: Any) -> None:
    """Refuse unknown fields in all objects below *node*, and take numbers or text where Kubernetes does."""
    if isinstance(node, list):
        for item in node:
            _closed(item)
    elif isinstance(node, dict):
        if node.get("x-kubernetes-int-or-string") is True:
            node.pop("type", None)
            node["anyOf"] = [{"type": "integer"}, {"type": "string"}]
        fields = node.get("properties")
        if isinstance(fields, dict) and not node.get("x-kubernetes-preserve-unknown-fields"):
            node.setdefault("additionalProperties", False)
        for value in node.values():
            _closed(value)
