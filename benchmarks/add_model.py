"""Adding a model of 1 GB, page cache warm, against `cp`, `sync FILE` and `b3sum` of the same file.

python benchmarks/add_model.py [--size 1000]

`b3sum` is Debian's where it is installed (package `b3sum`), else the blake3 package's own hasher with as many threads.
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

from _bench import COGBUILD, PYTHON, Took, in_turn, megabytes, options, place, rate, run, show
from make_store import write_model, write_project

if TYPE_CHECKING:
    from pathlib import Path

HASH = "import sys; from blake3 import blake3; print(blake3(max_threads=blake3.AUTO).update_mmap(sys.argv[1]).hexdigest())"


def fill(model: Path, megabytes: int) -> Path:
    """Write a model with weights that don't compress; return the weights."""
    write_model(model, 0, 3)
    block = os.urandom(1 << 20)
    with (model / "weights.bin").open("wb") as out:
        for number in range(megabytes * 1_000_000 // len(block)):
            out.write(number.to_bytes(8, "big") + block[8:])
    return model / "weights.bin"


def peer(weights: Path, copy: Path) -> Took:
    """Copy, sync and hash the file with the usual tools; Python's start is not held against the hasher."""
    copy.unlink(missing_ok=True)
    here = weights.parent
    steps = [run("cp", str(weights), str(copy), cwd=here), run("sync", str(copy), cwd=here)]
    if shutil.which("b3sum"):
        steps.append(run("b3sum", str(weights), cwd=here))
    else:
        hashed = run(sys.executable, "-c", HASH, str(weights), cwd=here)
        steps.append(Took(hashed.seconds - run(*PYTHON, cwd=here).seconds, hashed.cpu, hashed.memory))
    copy.unlink()
    return Took(
        sum(step.seconds for step in steps),
        sum(step.cpu for step in steps),
        max(step.memory for step in steps),
    )


def ours(root: Path, model: Path) -> Took:
    """Add the model to a data directory that does not know it."""
    shutil.rmtree(root / ".cogbuild", ignore_errors=True)
    os.sync()  # what was removed is not our turn's work
    return run(*COGBUILD, "models", "add", str(model), cwd=root)


def main() -> None:
    """Measure."""
    parser = options(__doc__, runs=5)
    parser.add_argument("--size", type=int, default=1000, help="megabytes")
    asked = parser.parse_args()
    with place(asked) as stores:
        root = stores / "add-model"
        write_project(root, 1)
        weights = fill(root / "model", asked.size)
        seen = in_turn(
            asked.runs,
            {
                "cogbuild": lambda: ours(root, root / "model"),
                "peer": lambda: peer(weights, root / "copy"),
            },
        )
        size = weights.stat().st_size / 1e6
        row = rate(
            f"`models add` of {megabytes(size * 1e6)}, in MB",
            size / seen["cogbuild"].seconds,
            "`cp`, `sync FILE`, `b3sum`",
            size / seen["peer"].seconds,
            0.8,
            memory=seen["cogbuild"].memory,
        )
        show([row], asked)
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
