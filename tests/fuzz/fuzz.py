"""Fuzz one parser, guided by coverage: python tests/fuzz/fuzz.py zip|model|adapter [--seconds 600] [--kept DIRECTORY]

Needs the package atheris. What breaks a promise is written to ``crash-…`` in the current directory; it goes into
``tests/fuzz/corpus`` with the fix. ``--kept`` is where inputs that reach new code are kept from run to run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parent))

with atheris.instrument_imports(include=["cogbuild"]):
    from targets import TARGETS, seeds


def main() -> None:
    """Fuzz until the time is up or something breaks."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("target", choices=sorted(TARGETS))
    options.add_argument("--seconds", type=int, default=600)
    options.add_argument("--kept")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        begin = Path(scratch)
        for number, data in enumerate(seeds(asked.target)):
            (begin / f"seed-{number}").write_bytes(data)
        known = Path(__file__).resolve().parent / "corpus" / asked.target
        where = [asked.kept or f"{begin}", f"{begin}", str(known)]
        limits = [
            f"-max_total_time={asked.seconds}",
            "-timeout=20",
            "-rss_limit_mb=2048",
            "-print_final_stats=1",
        ]
        atheris.Setup([sys.argv[0], *limits, *where], TARGETS[asked.target])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
