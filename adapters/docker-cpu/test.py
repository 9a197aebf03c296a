#!/usr/bin/env python3
"""Check the pushed image: all of it is in the registry, it says what Cog's images say, and served it predicts."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogbuild_adapter import AdapterError, Differences, report_fidelity, run
from cogbuild_adapter.images import fetch
from cpu_image_engines import client

if TYPE_CHECKING:
    from collections.abc import Iterator

_LABELS = ("run.cog.version", "run.cog.config", "run.cog.openapi_schema", "run.cog.pip_freeze")
_PATIENCE = 300  # seconds for setup()


def main() -> None:
    name = os.environ["COG_ARTIFACT_URI"]
    image = fetch(name)
    if missing := image.missing():
        raise AdapterError(f"the registry lacks {len(missing)} parts of {name}")
    if absent := [label for label in _LABELS if label not in image.labels]:
        raise AdapterError(f"{name} has no label {', '.join(absent)}")
    json.loads(image.labels["run.cog.openapi_schema"])
    engine = _engine()
    if engine is None:
        print("no podman or docker can be used here: the image was looked at and not run")
        return
    given = json.loads(Path(os.environ["COG_EXAMPLES_FILE"]).read_text(encoding="utf-8"))
    seen = Differences()
    with _served(engine, name) as url:
        _checks_input(url, json.loads(image.labels["run.cog.openapi_schema"]))
        for number, example in enumerate(given, 1):
            _predicts(url, f"example {number}", example, seen)
    version = f"cog {image.labels['run.cog.version']} in {engine[0]}"
    report_fidelity(seen, runtime=version, examples=len(given))


def _engine() -> list[str] | None:
    """Return how to call an engine that can run containers here."""
    for engine in ("podman", "docker"):
        if shutil.which(engine):
            try:
                return client(engine)
            except AdapterError as error:
                print(error)
    return None


@contextlib.contextmanager
def _served(engine: list[str], name: str) -> Iterator[str]:
    """Run the image until the model is set up; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # With a network of its own the port is published; with the host's network PORT alone decides.
    options = ["--detach", "--env", f"PORT={port}", "--publish", f"127.0.0.1:{port}:{port}"]
    started = subprocess.run([*engine, "run", *options, name], capture_output=True, text=True, check=False)
    if started.returncode:
        raise AdapterError(f"{engine[0]} cannot run {name}: {started.stderr.strip().splitlines()[-1]}")
    container = started.stdout.strip().splitlines()[-1]
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(engine, container, url)
        yield url
    finally:
        logs = subprocess.run([*engine, "logs", container], capture_output=True, text=True, check=False)
        print(logs.stdout + logs.stderr)
        subprocess.run([*engine, "rm", "--force", container], capture_output=True, check=False)


def _wait(engine: list[str], container: str, url: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while (status := _status(url)) != "READY":
        if status in ("SETUP_FAILED", "DEFUNCT"):
            raise AdapterError(f"in the image the model's setup() fails: the server says {status}")
        if time.monotonic() > deadline:
            raise AdapterError(
                f"in the image the model is not set up after {_PATIENCE} s: the server says {status}"
            )
        question = [*engine, "inspect", "--format", "{{.State.Running}}", container]
        if (
            status is None
            and "true" not in subprocess.run(question, capture_output=True, text=True, check=False).stdout
        ):
            raise AdapterError("the image's server ended before it answered")
        time.sleep(0.2)


def _status(url: str) -> str | None:
    try:
        found: str = _answer(f"{url}/health-check")["status"]
    except (OSError, ValueError):
        return None
    return found


def _checks_input(url: str, schema: dict[str, Any]) -> None:
    """Where an input has to be given, the server refuses a request without it; it does so only with a schema."""
    if not schema["components"]["schemas"]["Input"].get("required"):
        return
    try:
        answer = _answer(f"{url}/predictions", {"input": {}})
    except urllib.error.HTTPError as error:
        if error.code == 422:
            return
        raise AdapterError(f"to no input the server answers {error.code}, not 422") from None
    raise AdapterError(
        f"the server takes no input where one has to be given, and says {answer.get('status')}"
    )


def _predicts(url: str, where: str, example: dict[str, Any], seen: Differences) -> None:
    """Predict one example, and compare with its output where it has one."""
    try:
        answer = _predicted(url, _sendable(example["input"]))
    except urllib.error.HTTPError as error:
        raise AdapterError(f"{where}: the server answers {error.code}: {error.read(300)!r}") from None
    if answer.get("status") != "succeeded":
        raise AdapterError(f"{where}: the prediction ends as {answer.get('status')}: {answer.get('error')}")
    if example.get("output") is not None:
        seen.outputs += 1
        if not _same(answer["output"], example["output"], seen):
            raise AdapterError(f"{where}: the output is {answer['output']}, not {example['output']}")


def _predicted(url: str, values: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to one request; for a moment after one has ended, the server may still be busy with it."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return _answer(f"{url}/predictions", {"input": values})
        except urllib.error.HTTPError as error:
            if error.code != 409 or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _sendable(values: dict[str, Any]) -> dict[str, Any]:
    """Return inputs with files of the model, written ``@file``, as they are called in the image."""
    return {
        name: f"file:///src/{value[1:]}" if isinstance(value, str) and value[:1] == "@" and Path(value[1:]).is_file() else value
        for name, value in values.items()
    }  # fmt: skip


def _same(got: Any, wanted: Any, seen: Differences) -> bool:
    """Whether two outputs are equal but for small differences of numbers, which *seen* takes note of."""
    if isinstance(wanted, dict):
        keys = isinstance(got, dict) and set(got) == set(wanted)
        return keys and all(_same(got[key], wanted[key], seen) for key in wanted)
    if isinstance(wanted, list):
        long = isinstance(got, list) and len(got) == len(wanted)
        return long and all(_same(one, other, seen) for one, other in zip(got, wanted, strict=True))
    if not isinstance(wanted, float) or not isinstance(got, (int, float)):
        return bool(got == wanted)
    away = abs(got - wanted)
    seen.absolute = max(seen.absolute, away)
    if abs(wanted) > seen.allowed_absolute:
        seen.relative = max(seen.relative, away / abs(wanted))
    return away <= seen.allowed_absolute + seen.allowed_relative * abs(wanted)


def _answer(url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


if __name__ == "__main__":
    run(main)
