"""What every benchmark needs: runs of other programs with their time and memory, in turn, and the table of figures."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

COGBUILD = (str(Path(sys.executable).with_name("cogbuild")),)
DOIT = (str(Path(sys.executable).with_name("doit")),)
PYTHON = (sys.executable, "-c", "pass")


@dataclass(frozen=True)
class Took:
    """One run of a program."""

    seconds: float
    cpu: float  # user and system, its children's too
    memory: int  # bytes at its peak, of the largest process


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    work: str
    ours: str
    peer: str
    ratio: str
    bar: str
    memory: str
    holds: bool


# Runs the program from a process that is smaller than it: a child's peak counts what its parent had when it was made.
_RUNNER = """
import os, sys, time
began = time.perf_counter()
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(child, 0)
took = time.perf_counter() - began
print(os.waitstatus_to_exitcode(status), took, used.ru_utime + used.ru_stime, used.ru_maxrss, file=sys.stderr)
"""


def run(*command: str, cwd: Path, code: int = 0) -> Took:
    """Run a program to its end; anything but *code* is an error. What it says is thrown away."""
    program = shutil.which(command[0])
    if program is None:
        raise SystemExit(f"{command[0]} is not here: see README.md for what the peers are")
    ended = subprocess.run(
        [sys.executable, "-SE", "-c", _RUNNER, program, *command[1:]],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(),
        check=True,
        text=True,
    )
    *said, last = ended.stderr.splitlines()
    ended_with, seconds, cpu, memory = last.split()
    if int(ended_with) != code:
        raise SystemExit("\n".join([*said, f"{' '.join(command)} in {cwd} ended with {ended_with}"]))
    return Took(float(seconds), float(cpu), int(memory) << 10)


def environment() -> dict[str, str]:
    """Return our environment, but that modules are compiled once as they are for users, and nothing of a site's."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name != "PYTHONDONTWRITEBYTECODE" and not name.startswith("COGBUILD_")
    }
    return kept | {"PYTHONPATH": str(ROOT)}


@dataclass(frozen=True)
class Medians:
    """What the runs of one thing came to."""

    seconds: float
    cpu: float
    memory: int

    def __str__(self) -> str:
        return spelled(self.seconds)


def in_turn(runs: int, things: dict[str, Callable[[], Took]], *, warm: int = 1) -> dict[str, Medians]:
    """Run each thing *runs* times, one after the other and again from the first, so that all see the same machine.

    *warm*: rounds before those that count.
    """
    seen: dict[str, list[Took]] = {name: [] for name in things}
    for number in range(warm + runs):
        for name, thing in things.items():
            took = thing()
            if number >= warm:
                seen[name].append(took)
    return {
        name: Medians(
            statistics.median(item.seconds for item in rows),
            statistics.median(item.cpu for item in rows),
            max(item.memory for item in rows),
        )
        for name, rows in seen.items()
    }


def against(work: str, ours: Medians, peer_name: str, peer: Medians, at_most: float) -> Row:
    """Return the row of a thing that may take *at_most* times what its peer takes."""
    ratio = ours.seconds / peer.seconds
    return Row(
        work,
        str(ours),
        f"{peer_name} {peer}",
        f"{ratio:.2f} x",
        f"≤ {at_most:g} x",
        megabytes(ours.memory),
        ratio <= at_most,
    )


def above(work: str, ours: Medians, python: Medians, at_most: float) -> Row:
    """Return the row of a thing that may take *at_most* seconds more than Python takes to start."""
    more = ours.seconds - python.seconds
    return Row(
        work,
        str(ours),
        f"`python -c pass` {python}",
        f"+ {more * 1000:.0f} ms",
        f"≤ {at_most * 1000:.0f} ms",
        megabytes(ours.memory),
        more <= at_most,
    )


def rate(work: str, ours: float, peer_name: str, peer: float, at_least: float, *, memory: int) -> Row:
    """Return the row of a thing that has to do *at_least* that part of what its peer does in a second."""
    return Row(
        work,
        f"{ours:.0f} /s",
        f"{peer_name} {peer:.0f} /s",
        f"{ours / peer:.2f} x",
        f"≥ {at_least:g} x",
        megabytes(memory),
        ours / peer >= at_least,
    )


def limit(work: str, value: float, bar: float, shown: Callable[[float], str], memory: int = 0) -> Row:
    """Return the row of a figure that has no peer and may not pass *bar*."""
    return Row(
        work, shown(value), "", "", f"≤ {shown(bar)}", megabytes(memory) if memory else "", value <= bar
    )


def spelled(seconds: float) -> str:
    """Return seconds for people."""
    if seconds < 0.01:
        return f"{seconds * 1000:.2f} ms"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def megabytes(size: float) -> str:
    """Return bytes for people."""
    return f"{size / 1e6:.0f} MB"


def options(doc: str, *, runs: int = 7) -> argparse.ArgumentParser:
    """Return the options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--runs", type=int, default=runs, help=f"runs that count, at least 5; default {runs}")
    parser.add_argument("--json", type=Path, help="add the rows to this file, for all.py")
    parser.add_argument("--stores", type=Path, help="keep what is measured here and use it again")
    return parser


@contextmanager
def place(asked: argparse.Namespace) -> Iterator[Path]:
    """Give the directory where stores are made: the one that was named, else one that goes again."""
    if asked.stores is not None:
        asked.stores.mkdir(parents=True, exist_ok=True)
        yield asked.stores.resolve()
        return
    made = Path(tempfile.mkdtemp(prefix="cogbuild-bench-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def show(rows: list[Row], asked: argparse.Namespace) -> None:
    """Print the rows, and keep them where that was asked for."""
    for row in rows:
        words = f"{row.ours} against {row.peer}: {row.ratio}" if row.peer else row.ours
        held = "holds" if row.holds else "MISSED"
        memory = f", {row.memory}" if row.memory else ""
        verdict = f" (bar {row.bar}): {held}" if row.bar else ""
        print(f"{row.work}: {words}{memory}{verdict}", flush=True)
    if asked.json is not None:
        kept = json.loads(asked.json.read_text()) if asked.json.exists() else []
        asked.json.write_text(json.dumps(kept + [asdict(row) for row in rows]))
