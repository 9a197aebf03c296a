#!/usr/bin/env python3
"""Run the pushed image as the InferenceService says, and ask it by Triton's client, in JSON and in binary."""

from __future__ import annotations

from cogbuild_adapter import artifact_uris, examples, run
from cogbuild_adapter.images.open_inference_check import check_image
from cogbuild_adapter.kubernetes import read_resource


def main() -> None:
    (container,) = read_resource()["spec"]["predictor"]["containers"]
    check_image(artifact_uris()["image"], container, examples())


if __name__ == "__main__":
    run(main)
