#!/usr/bin/env python3
"""Make the model's image for SageMaker and, with a role, the model there; README.md says what it does."""

from __future__ import annotations

import sagemaker_image as image
import sagemaker_settings as settings
from cogbuild_adapter import run


def main() -> str | dict[str, str]:
    wanted, target = settings.read(), image.target()
    region = settings.region_of(target.host) if wanted.role else ""  # before anything is fetched
    pushed = image.derived().push(target)
    if not wanted.role:
        return pushed
    from sagemaker_aws import SageMaker

    there, prefix = SageMaker(region), settings.prefix(wanted)
    name, model = there.model(prefix, pushed, wanted)
    made = {"model": model}
    if wanted.package_group:
        made["package"] = there.package(pushed, wanted)
    if wanted.endpoint != "none":
        made["endpoint-config"] = there.endpoint_config(prefix, name, wanted)
    return made if len(made) > 1 else model


if __name__ == "__main__":
    run(main)
