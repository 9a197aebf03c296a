#!/usr/bin/env python3
"""Put the Open Inference Protocol on the model's image and write the InferenceService that runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cogbuild_adapter import AdapterError, run
from cogbuild_adapter.images.open_inference import PORT, push_open_inference
from cogbuild_adapter.kubernetes import container, count, metadata, resource_param, write_resource

if TYPE_CHECKING:
    from pathlib import Path


def main() -> dict[str, str | Path]:
    about = metadata()
    served = container("kserve-container", PORT, about["name"])
    resource = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": about,
        "spec": {"predictor": {**_scale(), **_account(), "containers": [served]}},
    }
    # Last: everything that may be wrong with parameters has been looked at.
    served["image"] = image = push_open_inference()
    return {"image": image, "resource": write_resource("inference-service.yaml", resource)}


def _scale() -> dict[str, object]:
    least, most = count("min_replicas", 1), count("max_replicas", 0)
    if most and most < least:
        raise AdapterError(f"the parameter max_replicas is {most}, but min_replicas is {least}")
    return {"minReplicas": least, **({"maxReplicas": most} if most else {})}


def _account() -> dict[str, object]:
    account = resource_param("service_account")
    return {"serviceAccountName": account} if account else {}


if __name__ == "__main__":
    run(main)
