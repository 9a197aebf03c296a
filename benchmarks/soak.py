"""A server under load for ten minutes: does what it holds in memory stay as it is?

Clients upload models that are new, known and failing, follow jobs, read lists and zips, cancel, delete and ask for builds.
Prints memory, threads and open files of the server's process by the minute, and the ratio of the end to the middle.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import httpx

TEST = """#!/bin/sh
grep -q fail weights.bin && { echo "example 1 fails" >&2; exit 1; }
echo '{"run_arguments": {}}' > "$COG_OUTPUT_DIR/test.json"
echo "$COG_OUTPUT_DIR/test.json"
"""
COPY = """#!/bin/sh
i=0
while [ $i -lt 100 ]; do echo "line $i of what an adapter says while it works" >&2; i=$((i + 1)); done
cp weights.bin "$COG_OUTPUT_DIR/copy.bin"
echo "$COG_OUTPUT_DIR/copy.bin"
"""


def adapter(root: Path, name: str, script: str) -> Path:
    """Write an adapter and return its directory."""
    directory = root / name
    directory.mkdir()
    (directory / "cog-adapter.yaml").write_text(f"name: {name}\nscript: run.sh\napi: 1\n")
    (directory / "run.sh").write_text(script)
    (directory / "run.sh").chmod(0o755)
    return directory


def package(weights: str) -> bytes:
    """Return a model as a zip."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("cog.yaml", 'build:\n  python_version: "3.11"\npredict: predict.py:Predictor\n')
        archive.writestr("predict.py", "class Predictor:\n    def predict(self) -> str: ...\n")
        archive.writestr("weights.bin", weights)
    return out.getvalue()


class Load:
    """Clients that do as many different things as there are."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.done = 0
        self.wrong: list[str] = []
        self.stop = threading.Event()

    def work(self, seed: int) -> None:
        """Do one thing after another until told to stop."""
        chance = random.Random(seed)
        with httpx.Client(base_url=self.url, timeout=60) as client:
            while not self.stop.is_set():
                try:
                    chance.choice(
                        [self.upload, self.upload, self.known, self.failing, self.read, self.adapt]
                    )(client, chance)
                    self.done += 1
                except (httpx.HTTPError, AssertionError, ValueError) as trouble:
                    self.wrong.append(repr(trouble))

    def _put(self, client: httpx.Client, weights: str) -> dict[str, Any]:
        files = {"file": ("m.zip", package(weights))}
        answer = client.put(f"/v1/repos/soak/r{len(weights) % 7}/packages/", files=files)
        last: dict[str, Any] = json.loads(answer.text.splitlines()[-1])
        return last

    def upload(self, client: httpx.Client, chance: random.Random) -> None:
        """Upload something new, and let go of it again: what is there stays the same."""
        weights = f"{chance.random()}" * chance.randrange(1, 2000)
        said = self._put(client, weights)
        assert said["type"] == "model", said
        gone = client.delete(f"/v1/repos/soak/r{len(weights) % 7}/packages/{said['model']['id']}")
        assert gone.status_code == 200, gone.text

    def known(self, client: httpx.Client, chance: random.Random) -> None:
        """Upload something that is known."""
        said = self._put(client, f"known {chance.randrange(20)}")
        assert said["type"] == "model", said

    def failing(self, client: httpx.Client, chance: random.Random) -> None:
        """Upload something that fails."""
        said = self._put(client, f"fail {chance.randrange(10)}")
        assert said["type"] == "error", said

    def read(self, client: httpx.Client, _: random.Random) -> None:
        """Read what is there."""
        jobs = client.get("/v2/jobs?limit=5").json()["jobs"]
        for job in jobs[:1]:
            client.get(f"/v2/jobs/{job['job']}/events", headers={"Last-Event-ID": "3"})
        for model in client.get("/v1/repos/soak/r0/packages/").json()[:1]:
            client.get(f"/v1/repos/soak/r0/packages/{model['id']}.zip")
        client.get("/v1/repos/soak/r0/packages/1234567")

    def adapt(self, client: httpx.Client, _: random.Random) -> None:
        """Ask for what is not fresh."""
        job = client.post("/v2/adapt", json={}).json()["job"]
        client.get(f"/v2/jobs/{job}/events")


def status(pid: int) -> tuple[float, int, int]:
    """Return (MB in memory, threads, open files) of a process."""
    text = Path(f"/proc/{pid}/status").read_text()
    memory = int(re.findall(r"VmRSS:\s+(\d+)", text)[0]) / 1024
    threads = int(re.findall(r"Threads:\s+(\d+)", text)[0])
    return memory, threads, len(list(Path(f"/proc/{pid}/fd").iterdir()))


def soak(minutes: float, clients: int, *, say: bool = True) -> tuple[float, int, list[str]]:
    """Return the ratio of memory at the end to that in the middle, how much was done, and what went wrong."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        words = [
            word
            for name, script in (("cog-test", TEST), ("copy", COPY))
            for word in ("--adapter", str(adapter(root, name, script)))
        ]
        command = [
            sys.executable,
            "-m",
            "cogbuild",
            "server",
            "--port",
            "0",
            "--data-dir",
            str(root / "data"),
        ]
        process = subprocess.Popen([*command, *words], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        load = Load(process.stdout.readline().split()[-1])
        threads = [threading.Thread(target=load.work, args=(seed,)) for seed in range(clients)]
        for thread in threads:
            thread.start()
        seen: list[float] = []
        end = time.monotonic() + minutes * 60
        step = max(1.0, minutes)  # sixty looks
        while time.monotonic() < end:
            time.sleep(step)
            memory, count, files = status(process.pid)
            seen.append(memory)
            if say and len(seen) % 6 == 0:
                print(
                    f"{len(seen) * step:5.0f} s  {memory:6.1f} MB  {count} threads  {files} files  {load.done} done"
                )
        load.stop.set()
        for thread in threads:
            thread.join()
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        process.stdout.close()
        half = len(seen) // 2
        quarter = max(1, len(seen) // 8)
        ratio = statistics.median(seen[-quarter:]) / statistics.median(seen[half : half + quarter])
        return ratio, load.done, load.wrong


def main() -> None:
    """Print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=4)
    asked = parser.parse_args()
    ratio, done, wrong = soak(asked.minutes, asked.clients)
    print(f"end / middle: {ratio:.3f}, {done} requests, {len(wrong)} went wrong")
    for text in sorted(set(wrong))[:10]:
        print(f"  {text}")


if __name__ == "__main__":
    main()
