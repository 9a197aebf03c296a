"""A model and an adapter as people wrote them in 2021 work unchanged."""

from __future__ import annotations

from conftest import Sandbox

MODEL = """environment:
  python_version: "3.8"
  python_packages:
    - torch==1.8.1
model: "jazz/infer.py:JazzModel"
examples:
  - input: {notes: "c d e"}
    output: "c e g"
"""
SCRIPT = """#!/usr/bin/env python3
import os
import subprocess
import sys

module, cls = os.environ["COG_MODEL_PYTHON_MODULE"], os.environ["COG_MODEL_CLASS"]
image = os.environ["COG_CPU_IMAGE"]
registry = os.environ["COG_DOCKER_REGISTRY"] if os.environ["COG_HAS_DOCKER_REGISTRY"] == "true" else "none"
tag = f"{registry}/{os.environ['COG_REPO_USER']}/{os.environ['COG_REPO_NAME']}:{os.environ['COG_MODEL_ID']}-wrapped"
with open("Wrapper.py", "w") as file:
    file.write(f"from {module} import {cls} as Model\\n")
with open("Dockerfile.wrapped", "w") as file:
    file.write(f"FROM {image}\\nCOPY Wrapper.py .\\n")
os.rename("weights.bin", "renamed.bin")
print(subprocess.check_output(["cat", "Wrapper.py", "Dockerfile.wrapped"]).decode(), file=sys.stderr)
sys.stderr.write("Pushing\\n")
print(tag)
"""


def test_a_model_and_an_adapter_of_2021_work_unchanged(box: Sandbox) -> None:
    """It writes into the model's root, runs tools, logs to stderr and prints one line: the image it pushed."""
    box.configure(docker_registry="registry.example:5000")
    box.adapter("docker-cpu", "#!/bin/sh\necho registry.example:5000/andreas/jazz:cpu\n")
    box.adapter("wrapped", SCRIPT)
    added = box.add(
        "jazz", {"cog.yaml": MODEL, "jazz/infer.py": "class JazzModel:\n    pass\n"}, repo="andreas/jazz"
    )
    run = box.adapt()
    assert run.results["jazz wrapped"].uris == (f"registry.example:5000/andreas/jazz:{added.model}-wrapped",)
    assert "jazz wrapped from jazz.infer import JazzModel as Model" in run.log
    assert "jazz wrapped FROM registry.example:5000/andreas/jazz:cpu" in run.log
    assert run.exit_code == 0
    assert box.adapt().results == {}
