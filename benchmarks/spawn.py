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


def held(script: Path, model: Path, work: Path, runs: int, jobs: int) -> tuple[float, str]:
    """Return the seconds that a pool takes, its start and end included, and the level it ran at."""

    def one(_: int) -> None:
        with workspaces.open(model) as workspace:
            ended = pool.run(Command((str(script),), ENVIRONMENT, workspace.root, workspace.view))
        assert ended.stdout.startswith(b"https:"), ended

    began = time.perf_counter()
    with Pool(jobs) as pool, Workspaces(work, pool.protection) as workspaces:
        level = str(pool.protection.level)
        with ThreadPoolExecutor(jobs) as threads:
            list(threads.map(one, range(runs)))
    return time.perf_counter() - began, level


def main() -> None:
    """Print runs a second of both, in turn, and their ratio."""
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
        model = top / "model"
        model.mkdir()
        (model / "cog.yaml").write_text("predict: predict.py:Predictor\n")
        xargs, pool, level = [], [], ""
        for _ in range(asked.repeat):
            xargs.append(asked.runs / bare(script, asked.runs, asked.jobs))
            seconds, level = held(script, model, top / "work", asked.runs, asked.jobs)
            pool.append(asked.runs / seconds)
    ratio = statistics.median(ours / theirs for ours, theirs in zip(pool, xargs, strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"xargs -P{asked.jobs}   {statistics.median(xargs):7.0f} runs/s")
    print(f"pool ({level})  {statistics.median(pool):7.0f} runs/s, peak {peak:.0f} MB")
    print(f"ratio       {ratio:7.2f}")


if __name__ == "__main__":
    main()
