"""A data directory with quick adapters, served in a thread of the test or by a process of its own."""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import httpx
from serving import asking, served

from cogbuild.audit import audit
from cogbuild.project import Project
from cogbuild.server.app import create_app
from cogbuild.server.service import Service

__all__ = ["Process", "Site", "eventually", "followed", "listed", "put", "zip_of"]

CONFIG = 'build:\n  python_version: "3.11"\npredict: predict.py:Predictor\n'
PREDICT = "class Predictor:\n    def predict(self, text: str) -> str:\n        return text\n"
#: Stands in for the shipped test of models: fails where the model holds "fail", waits where it holds "wait".
TEST = """#!/bin/sh
echo "$COG_REPO_NAME test" >> {ran}
if grep -q wait weights.bin; then echo waiting >&2; while [ ! -e {go} ]; do sleep 0.02; done; fi
if grep -q fail weights.bin; then echo "example 1: the output is 2, not 1" >&2; exit 1; fi
echo '{{"run_arguments": {{"text": {{"type": "str", "default": null}}}}}}' > "$COG_OUTPUT_DIR/test.json"
echo "$COG_OUTPUT_DIR/test.json"
"""
#: Fails where the model holds "break", waits where it holds "slow".
COPY = """#!/bin/sh
echo "$COG_REPO_NAME {name}" >> {ran}
echo "copying" >&2
if grep -q slow weights.bin; then while [ ! -e {go} ]; do sleep 0.02; done; fi
if grep -q break weights.bin; then echo "no way" >&2; exit 3; fi
cp weights.bin "$COG_OUTPUT_DIR/{name}.bin"
echo "$COG_OUTPUT_DIR/{name}.bin"
"""


def zip_of(weights: str, **more: str) -> bytes:
    """Return a model as a zip."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in {"cog.yaml": CONFIG, "predict.py": PREDICT, "weights.bin": weights, **more}.items():
            archive.writestr(zipfile.ZipInfo(name.replace("__", "-")), text)
    return out.getvalue()


class Site:
    """A directory with adapters and a data directory."""

    def __init__(self, root: Path, *adapters: str) -> None:
        self.root = root
        self.data = root / "data"
        self.ran_file = root / "ran"
        self.go = root / "go"  # what waits goes on once it is there
        self.adapter("cog-test", TEST)
        for name in adapters:
            self.adapter(name, COPY)
        self.names = ["cog-test", *adapters]

    def adapter(self, name: str, script: str, declared: str = "") -> Path:
        """Write an adapter."""
        directory = self.root / "adapters" / name
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "cog-adapter.yaml").write_text(f"name: {name}\nscript: run.sh\napi: 1\n{declared}")
        path = directory / "run.sh"
        path.write_text(script.format(name=name, ran=self.ran_file, go=self.go))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return directory

    @property
    def directories(self) -> list[str]:
        """Return the adapters' directories."""
        return [str(self.root / "adapters" / name) for name in self.names]

    def ran(self) -> list[str]:
        """Return which adapters ran so far, as "<repo name> <adapter>", sorted; and forget them."""
        lines = self.ran_file.read_text().splitlines() if self.ran_file.exists() else []
        self.ran_file.unlink(missing_ok=True)
        return sorted(lines)

    @contextlib.contextmanager
    def client(self, **more: Any) -> Iterator[httpx.Client]:
        """Serve in a thread, and yield a client."""
        service = Service(Project(self.data), directories=self.directories, jobs=2, **more)
        with (
            served(create_app(service)) as (host, port),
            asking(host, port, timeout=30) as client,
        ):
            yield client
        self.check()

    def check(self) -> None:
        """Nothing disagrees with anything, and nothing is left of uploads."""
        with Project(self.data) as project:
            assert audit(project) == []
        left = [path for path in (self.data / "uploads").rglob("*") if path.is_file()]
        assert [path for path in left if path.parent.parent.name != "sent"] == []

    # -- a process of its own -------------------------------------------------------------------------------------

    def start(self, *options: str) -> Process:
        """Start a server."""
        return Process(self, options)


class Process:
    """A real ``cogbuild server``."""

    running: ClassVar[list[subprocess.Popen[bytes]]] = []

    def __init__(self, site: Site, options: tuple[str, ...]) -> None:
        words = [word for directory in site.directories for word in ("--adapter", directory)]
        command = [sys.executable, "-m", "cogbuild", "server", "--port", "0", "--data-dir", str(site.data)]
        self._process = subprocess.Popen(
            [*command, *words, "--jobs", "2", *options],
            stdout=subprocess.PIPE,
            cwd=site.root,
            env={**os.environ, "PYTHONFAULTHANDLER": "1"},
        )
        atexit.register(self._process.kill)  # a test that fails before it ends the server leaves none behind
        self.running.append(self._process)
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode()
        found = re.search(r"(http://\S+)$", line.strip())
        assert found, line
        self.client = httpx.Client(base_url=found[1], timeout=30, verify=False)

    def kill(self) -> None:
        """End it without a word."""
        self._process.kill()
        self._end()

    def stop(self) -> int:
        """Ask it to end, and return its exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._end()

    def memory(self) -> int:
        """Return the bytes that it holds in memory."""
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", text)[0]) * 1024

    def _end(self) -> int:
        code = self._process.wait(30)
        self.running.remove(self._process)
        self.client.close()
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code


def put(client: httpx.Client, data: bytes, repo: str = "ada/words", **fields: Any) -> list[dict[str, Any]]:
    """Upload as a client of 2021 does; return the messages."""
    answer = client.put(f"/v1/repos/{repo}/packages/", files={"file": ("m.zip", data)}, data=fields)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.iter_lines()]


def listed(client: httpx.Client, repo: str = "ada/words") -> list[dict[str, Any]]:
    """Return the repo's models."""
    found: list[dict[str, Any]] = client.get(f"/v1/repos/{repo}/packages/").json()
    return found


def followed(client: httpx.Client, job: str, after: int = 0) -> list[tuple[int, dict[str, Any]]]:
    """Return a job's messages, numbered, once it has ended."""
    headers = {"Last-Event-ID": str(after)} if after else {}
    text = client.get(f"/v2/jobs/{job}/events", headers=headers).text
    return [(int(n), json.loads(line)) for n, line in re.findall(r"id: (\d+)\ndata: (.*)\n\n", text)]


def eventually(what: Any, seconds: float = 60.0) -> Any:
    """Return what *what* returns once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        if time.monotonic() > deadline:
            for process in Process.running:
                process.send_signal(signal.SIGABRT)  # it says where its threads are
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.02)
    return found
