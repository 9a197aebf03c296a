"""A workspace for a model of 1 GB and for one of 1 MB: opened, one script run in it that writes, thrown away.

python benchmarks/workspace.py [--size 1000] [--times 100]
"""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING

from _bench import Medians, Took, against, in_turn, options, place, show
from add_model import fill

from cogbuild.process import Command, Pool
from cogbuild.workspace import Workspaces

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = "#!/bin/sh\nread first < predict.py\necho more >> predict.py\n: > made\necho https://example.test/artifact\n"
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/"}


def opened(spaces: Workspaces, pool: Pool, script: Path, model: Path, times: int) -> Took:
    """Return what *times* workspaces took, one after the other."""
    began, used = time.perf_counter(), time.process_time()
    for _ in range(times):
        with spaces.open(model, sealed=True) as space:
            ended = pool.run(Command((str(script),), ENVIRONMENT, space.root, space.view))
        assert ended.stdout.startswith(b"https:"), ended
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    return Took((time.perf_counter() - began) / times, (time.process_time() - used) / times, memory)


def main() -> None:
    """Measure."""
    parser = options(__doc__)
    parser.add_argument("--size", type=int, default=1000, help="megabytes of the large model")
    parser.add_argument("--times", type=int, default=100, help="workspaces a run")
    asked = parser.parse_args()
    with place(asked) as stores:
        root = stores / "workspaces"
        for size in (1, asked.size):
            fill(root / str(size), size)
        script = root / "script.sh"
        script.write_text(SCRIPT)
        script.chmod(0o755)
        with Pool(1) as pool, Workspaces(root / "work", pool.protection) as spaces:
            seen: dict[str, Medians] = in_turn(
                asked.runs,
                {
                    "large": lambda: opened(spaces, pool, script, root / str(asked.size), asked.times),
                    "small": lambda: opened(spaces, pool, script, root / "1", asked.times),
                },
            )
            level = pool.protection.level
        work = f"a workspace and one run in it, model of {asked.size:,} MB ({level})"
        show([against(work, seen["large"], "of 1 MB", seen["small"], 1.2)], asked)


if __name__ == "__main__":
    main()
