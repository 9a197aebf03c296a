"""How many trivial adapters a second: a pool with a private view each, against ``xargs`` running the bare script.

python benchmarks/spawn.py [--runs 1000] [--jobs 2] [--repeat 5]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cogbuild.process import Command, Pool
from cogbuild.workspace import Workspaces

SCRIPT = "#!/bin/sh\necho https://example.test/artifact\n"
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/", "COG_MODEL_ID": "0" * 40}


def bare(script: Path, runs: int, jobs: int) -> float:
    """Return the seconds that xargs takes."""
    words = "\n".join(map(str, range(runs)))
    began = time.perf_counter()
    subprocess.run(
        ["xargs", f"-P{jobs}", "-n1", str(script)],
        input=words.encode(),
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - began


def held(
    script: Path, models: list[Path], work: Path, runs: int, jobs: int, *, sealed: bool
) -> tuple[float, str]:
    """Return the seconds that a pool takes, its start and end included, and the level it ran at."""

    def one(number: int) -> None:
        with workspaces.open(models[number % len(models)], sealed=sealed) as workspace:
            ended = pool.run(Command((str(script),), ENVIRONMENT, workspace.root, workspace.view))
        assert ended.stdout.startswith(b"https:"), ended

    began = time.perf_counter()
    with Pool(jobs) as pool, Workspaces(work, pool.protection) as workspaces:
        level = str(pool.protection.level)
        with ThreadPoolExecutor(jobs) as threads:
            list(threads.map(one, range(runs)))
    return time.perf_counter() - began, level


def made(top: Path, count: int) -> list[Path]:
    """Make *count* models beside each other, as a store keeps them."""
    models = [top / "models" / f"{number:04x}" for number in range(count)]
    for model in models:
        model.mkdir(parents=True)
        (model / "cog.yaml").write_text("predict: predict.py:Predictor\n")
    return models


def main() -> None:
    """Print runs a second of each, in turn, and the ratios."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--runs", type=int, default=1000)
    options.add_argument("--jobs", type=int, default=2)
    options.add_argument("--repeat", type=int, default=5)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        script = top / "adapter"
        script.write_text(SCRIPT)
        script.chmod(0o755)
        models = made(top, min(asked.runs, 1000))
        rates: dict[str, list[float]] = {"sealed": [], "linked": []}
        xargs, level = [], ""
        for _ in range(asked.repeat):
            xargs.append(asked.runs / bare(script, asked.runs, asked.jobs))
            for kind, seen in rates.items():
                seconds, level = held(
                    script, models, top / "work", asked.runs, asked.jobs, sealed=kind == "sealed"
                )
                seen.append(asked.runs / seconds)
    print(f"xargs -P{asked.jobs}, bare script   {statistics.median(xargs):6.0f} runs/s")
    for kind, seen in rates.items():
        ratio = statistics.median(ours / theirs for ours, theirs in zip(seen, xargs, strict=True))
        print(f"{level}, {kind} models  {statistics.median(seen):6.0f} runs/s   {ratio:.2f} x")
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(f"peak memory: {own >> 10} MB here, {workers >> 10} MB in the largest worker")


if __name__ == "__main__":
    main()
