"""Does a server hold what it needs, and no more, however long it works? ``benchmarks/soak.py`` is the long form."""

from __future__ import annotations

import gc
import importlib.util
import os
import subprocess
import sys
import threading
from collections import Counter
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import httpx
import pytest
from site_of_tests import Site, put, zip_of

LRU = type(lru_cache(len))
SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"


def _soak() -> ModuleType:
    spec = importlib.util.spec_from_file_location("soak", SOAK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_memory_stays_flat_while_all_kinds_of_requests_come() -> None:
    """Nothing goes wrong in half a minute of uploads, failures, builds and reading, and memory has settled."""
    came = _soak().soak(0.5, 4, say=False)
    assert came.wrong == []
    assert came.done > 50
    assert came.ratio < 1.1


class Held(NamedTuple):
    """What a process holds, beside caches with a bound."""

    threads: int
    files: int
    objects: Counter[str]


def _held() -> Held:
    gc.unfreeze()  # what a run in this process has frozen, its caches too, would not be found
    for item in gc.get_objects():
        if isinstance(item, LRU) and str(item.__module__).startswith("cogbuild."):
            bound = item.cache_info().maxsize
            if bound is not None:
                item.cache_clear()
    gc.collect()
    kinds = (type(item) for item in gc.get_objects())
    ours = Counter(kind.__qualname__ for kind in kinds if str(kind.__module__).startswith("cogbuild."))
    return Held(threading.active_count(), len(os.listdir("/proc/self/fd")), ours)


def _work(client: httpx.Client, rounds: range) -> None:
    """Upload what is new, known and failing, let go of models, and ask for builds."""
    for number in rounds:
        model = put(client, zip_of(f"new {number}"))[-1]["model"]["id"]
        put(client, zip_of("known"))
        assert put(client, zip_of(f"fail {number}"))[-1]["type"] == "error"
        assert client.delete(f"/v1/repos/ada/words/packages/{model}").status_code == 200
        job = client.post("/v2/adapt", json={}).json()["job"]
        client.get(f"/v2/jobs/{job}/events")


@pytest.mark.slow
def test_jobs_leave_nothing_in_memory(tmp_path: Path) -> None:
    """After twenty-five more jobs a server has the threads, open files and objects that it had before them."""
    with Site(tmp_path, "copy").client() as client:
        _work(client, range(3))  # every thread has its connections then
        before = _held()
        _work(client, range(3, 8))
        after = _held()
    more = {kind: count - before.objects[kind] for kind, count in after.objects.items()}
    assert after.threads <= before.threads
    assert after.files <= before.files
    assert {kind: count for kind, count in more.items() if count >= 5} == {}


HOLES = """
import sys
from cogbuild.server.memory import lean

def memory():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

if sys.argv[1] == "mended":
    lean()
bytes(2 << 20)  # malloc has seen a large piece
before = memory()
held = [(b"x" * 600_000, b"y" * 60_000) for _ in range(60)]
held = [small for _, small in held]
print(memory() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or not os.confstr("CS_GNU_LIBC_VERSION"), reason="glibc's malloc")
def test_large_pieces_leave_no_holes_in_memory() -> None:
    """What was let go of between pieces that are kept goes back to the kernel; without the server's mend it stays."""
    left, mended = (
        int(subprocess.check_output([sys.executable, "-c", HOLES, how])) for how in ("as it is", "mended")
    )
    assert left > 20_000_000
    assert mended < 5_000_000
