"""Run every benchmark and write the figures into README.md.

python benchmarks/all.py [--stores DIRECTORY] [--quick]

The stores are made once below the directory and used again; without one they go to a temporary place, which takes some ten
minutes more. `--quick` leaves out the million pairs and the run of 100,000.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
README = HERE / "README.md"
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"

STEPS = (
    ("noop.py", "--size", "1000x10x20", "--plain"),
    ("noop.py", "--size", "10000x10x5"),
    ("noop.py", "--size", "1000x10x20", "--linked"),
    ("noop.py", "--size", "10000x10x5", "--linked"),
    ("million.py",),
    ("one_model.py",),
    ("throughput.py",),
    ("status.py",),
    ("add_model.py",),
    ("workspace.py",),
    ("startup.py",),
)
#: What makes the long ones short.
QUICK = {
    "million.py": ("--models", "10000"),
    "one_model.py": ("--models", "10000"),
    "throughput.py": ("--large", "0"),
}


def machine() -> str:
    """Return what the figures depend on, in one sentence."""
    with open("/proc/meminfo", encoding="ascii") as told:
        memory = int(told.readline().split()[1]) >> 20
    ninja = subprocess.run(["ninja", "--version"], check=True, capture_output=True, text=True).stdout.strip()
    return (
        f"{os.cpu_count()} processors, {memory} GB, Linux {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}, ninja {ninja}, doit {version('doit')}, SQLite {sqlite()}; "
        f"{time.strftime('%Y-%m-%d', time.gmtime())}"
    )


def sqlite() -> str:
    """Return the version of SQLite."""
    import sqlite3

    return sqlite3.sqlite_version


def table(rows: list[dict[str, object]]) -> str:
    """Return the rows as Markdown."""
    lines = ["| work | cogbuild | peer | ratio | bar | peak memory | |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        held = "" if not row["bar"] else "holds" if row["holds"] else "**missed**"
        cells = (row[name] for name in ("work", "ours", "peer", "ratio", "bar", "memory"))
        lines.append("| " + " | ".join([*map(str, cells), held]) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run all and rewrite the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stores", type=Path, help="where the stores are kept")
    parser.add_argument(
        "--quick", action="store_true", help="smaller sizes where the large ones take minutes"
    )
    asked = parser.parse_args()
    rows: list[dict[str, object]] = []
    broken: list[str] = []
    with tempfile.TemporaryDirectory(prefix="cogbuild-bench-") as temporary:
        stores = asked.stores or Path(temporary) / "stores"
        for step, *words in STEPS:
            kept = Path(temporary) / "rows.json"
            kept.unlink(missing_ok=True)
            more = QUICK.get(step, ()) if asked.quick else ()
            command = [
                sys.executable,
                str(HERE / step),
                *words,
                *more,
                "--stores",
                str(stores),
                "--json",
                str(kept),
            ]
            print(f"+ {step} {' '.join([*words, *more])}", flush=True)
            if subprocess.run(command, check=False).returncode != 0:
                broken.append(step)
            if kept.exists():
                rows += json.loads(kept.read_text())
    before, _, rest = README.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    README.write_text(f"{before}{BEGIN}\n{machine()}.\n\n{table(rows)}\n{END}{after}")
    missed = [row["work"] for row in rows if not row["holds"]]
    print(f"{len(rows)} rows, {len(missed)} missed" + "".join(f"\n  {work}" for work in missed))
    if broken:
        raise SystemExit(f"ended with an error: {', '.join(broken)}")


if __name__ == "__main__":
    main()
