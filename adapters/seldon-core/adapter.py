#!/usr/bin/env python3
"""Make what Seldon Core serves the model from: version 2 a folder for MLServer, version 1 an image; and the resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cogbuild_adapter import AdapterError, Refers, artifact_reference, param, run
from cogbuild_adapter.kubernetes import (
    container,
    count,
    list_param,
    metadata,
    quantity,
    resource_param,
    write_resource,
)

if TYPE_CHECKING:
    from pathlib import Path

#: Where version 1 expects a model's container to listen.
_PORT = 9000


def main() -> dict[str, Path | Refers | str]:
    version = param("version", "v2")
    if version not in ("v1", "v2"):
        raise AdapterError(f"the parameter version is {version!r}, but it has to be v1 or v2")
    return _deployment() if version == "v1" else _model()


def _model() -> dict[str, Path | Refers | str]:
    from seldon_folder import check, write_folder

    about, memory, account = metadata(), quantity("memory"), resource_param("secret")
    _only_for("v1", "cpu")
    spec: dict[str, Any] = {
        "storageUri": artifact_reference("model"),
        "requirements": list_param("requirements", "mlserver,python"),
        "replicas": count("replicas", 1),
        **({"memory": memory} if memory else {}),
        **({"secretName": account} if account else {}),
    }
    resource = {"apiVersion": "mlops.seldon.io/v1alpha1", "kind": "Model", "metadata": about, "spec": spec}
    how = param("packages", "bundled")
    folder = write_folder(check(how), about["name"], bundled=how == "bundled")
    return {"model": folder, "resource": Refers(write_resource("model.yaml", resource), ("model",))}


def _deployment() -> dict[str, Path | Refers | str]:
    from cogbuild_adapter.images.open_inference import push_open_inference

    _only_for("v2", "secret")
    about = metadata()
    served = container(about["name"], _PORT, about["name"], port_name="http")
    predictor = {
        "name": "default",
        "replicas": count("replicas", 1),
        "graph": {"name": about["name"], "type": "MODEL"},
        "componentSpecs": [{"spec": {"containers": [served]}}],
    }
    resource = {
        "apiVersion": "machinelearning.seldon.io/v1",
        "kind": "SeldonDeployment",
        "metadata": about,
        "spec": {"name": about["name"], "protocol": "v2", "predictors": [predictor]},
    }
    # Last: everything that may be wrong with parameters has been looked at.
    served["image"] = image = push_open_inference()
    return {"image": image, "resource": write_resource("seldon-deployment.yaml", resource)}


def _only_for(version: str, name: str) -> None:
    if param(name, ""):
        raise AdapterError(f"the parameter {name} is for version {version} only")


if __name__ == "__main__":
    run(main)
