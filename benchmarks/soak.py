"""A server under load for ten minutes: does what it holds in memory stay as it is?

Clients upload models that are new, known and failing, follow jobs, read lists and zips, cancel, delete and ask for builds.
Prints memory, how much of it is of files, threads and open files of the server's process by the minute; then memory after
three minutes (a third of a shorter run) and at the end, and the ratio of the end to the middle.
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
from typing import Any, NamedTuple

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


class Look(NamedTuple):
    """What the server's process holds."""

    memory: float  # MB
    mapped: float  # MB of it that are pages of files
    threads: int
    files: int


class Came(NamedTuple):
    """What a soak came to."""

    looks: list[Look]
    done: int
    wrong: list[str]

    def memory(self, start: float) -> float:
        """Return the MB of memory in the eighth of the time that begins at *start*, of 1."""
        first = min(round(len(self.looks) * start), len(self.looks) - 1)
        return statistics.median(
            look.memory for look in self.looks[first : first + max(1, len(self.looks) // 8)]
        )

    @property
    def ratio(self) -> float:
        """The memory at the end to that in the middle."""
        return self.memory(7 / 8) / self.memory(1 / 2)


def look_at(pid: int) -> Look:
    """Look at a process."""
    rows = dict(re.findall(r"(\w+):\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text()))
    memory, own = int(rows["Rss"]) / 1024, int(rows["Anonymous"]) / 1024
    threads = re.findall(r"Threads:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return Look(memory, memory - own, int(threads[0]), len(list(Path(f"/proc/{pid}/fd").iterdir())))


def soak(minutes: float, clients: int, *, say: bool = True) -> Came:
    """Have clients at work for so long, and return what was seen."""
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
        seen: list[Look] = []
        end = time.monotonic() + minutes * 60
        step = max(1.0, minutes)  # sixty looks
        while time.monotonic() < end:
            time.sleep(step)
            seen.append(look_at(process.pid))
            if say and len(seen) % 6 == 0:
                print(_line(len(seen) * step, seen[-1], load.done), flush=True)
        load.stop.set()
        for thread in threads:
            thread.join()
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        process.stdout.close()
        return Came(seen, load.done, load.wrong)


def _line(seconds: float, look: Look, done: int) -> str:
    held = f"{look.memory:6.1f} MB, {look.mapped:.1f} of files"
    return f"{seconds:5.0f} s  {held}  {look.threads} threads  {look.files} files  {done} done"


def main() -> None:
    """Print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=4)
    asked = parser.parse_args()
    came = soak(asked.minutes, asked.clients)
    early = came.memory(min(1 / 3, 3 / asked.minutes))
    print(f"from minute 3 on: {early:.1f} MB, at the end {came.memory(7 / 8):.1f} MB")
    print(f"end / middle: {came.ratio:.3f}, {came.done} requests, {len(came.wrong)} went wrong")
    for text in sorted(set(came.wrong))[:10]:
        print(f"  {text}")


if __name__ == "__main__":
    main()
