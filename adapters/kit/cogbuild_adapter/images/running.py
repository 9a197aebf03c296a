"""Run an image to see what it does: a container with one port on this machine, for an adapter's ``test:``."""

from __future__ import annotations

import base64
import contextlib
import json
import mimetypes
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogbuild_adapter.contract import AdapterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

PATIENCE = 300  # seconds for setup(), and for an answer


def client(engine: str) -> list[str]:
    """Return how to call *engine*, which is installed: podman also as a client of the service at ``DOCKER_HOST``."""
    ways = [[engine]]
    if engine == "podman" and (service := os.environ.get("DOCKER_HOST")):
        ways.append([engine, "--url", service])
    for way in ways:
        done = subprocess.run([*way, "info"], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return way
    why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    raise AdapterError(
        f"{engine} is installed and cannot be used here ({why}): start its service where it can, "
        "such as `podman system service`, and name that by DOCKER_HOST"
    )


def any_client() -> list[str] | None:
    """Return how to call an engine that can run containers here; the log says why there is none."""
    for engine in ("podman", "docker"):
        if shutil.which(engine):
            try:
                return client(engine)
            except AdapterError as error:
                print(error)
    return None


@dataclass(frozen=True)
class Container:
    """A container that runs, or ran."""

    name: str
    url: str
    engine: Sequence[str]

    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._asked("inspect", "--format", "{{.State.Running}}") == "true"

    def stop(self, seconds: int) -> int:
        """Ask it to end, as a platform does, and after *seconds* by force; returns the exit code (137: by force)."""
        self._asked("stop", "--time", str(seconds))
        return int(self._asked("inspect", "--format", "{{.State.ExitCode}}") or -1)

    def wait(self, ready: Callable[[str], str | None]) -> None:
        """Ask *ready* with the address until it returns nothing; what it returns is why it is not ready yet."""
        deadline = time.monotonic() + PATIENCE
        while (state := ready(self.url)) is not None:
            if not self.runs():
                raise AdapterError(f"the image's server ended before it was ready: {state}")
            if time.monotonic() > deadline:
                raise AdapterError(f"in the image the model is not set up after {PATIENCE} s: {state}")
            time.sleep(0.2)

    def _asked(self, *command: str) -> str:
        done = subprocess.run(
            [*self.engine, *command, self.name], capture_output=True, text=True, check=False
        )
        return done.stdout.strip()


@contextlib.contextmanager
def running(
    engine: Sequence[str],
    image: str,
    *,
    port_variable: str,
    command: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    mounts: Mapping[str, Path] | None = None,
) -> Iterator[Container]:
    """Run *image*, which listens where *port_variable* says, and afterwards put its output into the log.

    *mounts* are directories here by their paths there, where they can only be read.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # With a network of its own the port is published; with the host's network the variable alone decides.
    options = ["--detach", "--publish", f"127.0.0.1:{port}:{port}"]
    for name, value in {port_variable: str(port), **(env or {})}.items():
        options += ["--env", f"{name}={value}"]
    for there, here in (mounts or {}).items():
        options += ["--volume", f"{here}:{there}:ro"]
    started = subprocess.run(
        [*engine, "run", *options, image, *command], capture_output=True, text=True, check=False
    )
    if started.returncode:
        said = started.stderr.strip().splitlines() or ["no reason given"]
        raise AdapterError(f"{engine[0]} cannot run {image}: {said[-1]}")
    container = Container(started.stdout.strip().splitlines()[-1], f"http://127.0.0.1:{port}", engine)
    try:
        yield container
    finally:
        logs = subprocess.run([*engine, "logs", container.name], capture_output=True, text=True, check=False)
        print(logs.stdout + logs.stderr)
        subprocess.run([*engine, "rm", "--force", container.name], capture_output=True, check=False)


def ask(url: str, body: Any = None) -> Any:
    """Return what a server answers as JSON; raises what ``urllib`` does."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)


def inputs_to_send(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return an example's inputs with the model's files, written ``@file``, as data URIs, which every server takes."""
    return {name: _sendable(value) for name, value in values.items()}


def _sendable(value: Any) -> Any:
    if isinstance(value, str) and value[:1] == "@" and Path(value[1:]).is_file():
        kind = mimetypes.guess_type(value[1:])[0] or "application/octet-stream"
        return f"data:{kind};base64,{base64.b64encode(Path(value[1:]).read_bytes()).decode()}"
    return value
