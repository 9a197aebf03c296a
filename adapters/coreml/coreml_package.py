"""Writes a Core ML package so that the same model gives the same bytes."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_CONVERSION_DATE = "com.github.apple.coremltools.conversion_date"
_AUTHOR = "com.apple.CoreML"


def write(spec: Any, weights: Path | None, target: Path, *, about: str) -> None:
    """Write *spec*, and the directory of its *weights*, as the package *target*.

    Apple's identifiers are random and its metadata has the day; here the identifiers follow from what they name.
    """
    metadata = spec.description.metadata
    metadata.shortDescription = about
    metadata.userDefined.pop(_CONVERSION_DATE, None)
    data = target / "Data" / _AUTHOR
    data.mkdir(parents=True)
    (data / "model.mlmodel").write_bytes(spec.SerializeToString(deterministic=True))
    items = [("model.mlmodel", "CoreML Model Specification")]
    if weights is not None and weights.is_dir():
        shutil.copytree(weights, data / "weights", copy_function=shutil.copyfile)
        items.append(("weights", "CoreML Model Weights"))
    rows = {_identifier(data / name): _row(name, description) for name, description in items}
    manifest = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": dict(sorted(rows.items())),
        "rootModelIdentifier": _identifier(data / "model.mlmodel"),
    }
    (target / "Manifest.json").write_text(json.dumps(manifest, indent=4) + "\n")


def _row(name: str, description: str) -> dict[str, str]:
    return {"author": _AUTHOR, "description": description, "name": name, "path": f"{_AUTHOR}/{name}"}


def _identifier(item: Path) -> str:
    """Return an identifier of the content of a file or directory."""
    seen = hashlib.sha256(item.name.encode())
    for file in sorted(item.rglob("*")) if item.is_dir() else [item]:
        if file.is_file():
            with file.open("rb") as opened:
                seen.update(hashlib.file_digest(opened, "sha256").digest())
    return str(uuid.UUID(bytes=seen.digest()[:16], version=5))
