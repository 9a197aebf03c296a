"""What the server's page of the matrix and `/metrics` take over many models: time on the server, one request at a time.

python benchmarks/pages.py [--models 100000]

Each question is asked of a real server on loopback, in this process; the time is the whole request's, then the processor's, client
included, then the size of the answer.
"""

from __future__ import annotations

import socket
import statistics
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx
import uvicorn
from _bench import options, place
from make_store import make

from cogbuild.database import browsing
from cogbuild.database.browsing import ALL
from cogbuild.project import Project
from cogbuild.server.app import create_app
from cogbuild.server.service import Service
from cogbuild.server.wire import place_text

ADAPTERS, FILES = 4, 3
BUDGET = 0.150  # seconds


def main() -> None:
    """Measure."""
    parser = options(__doc__)
    parser.add_argument("--models", type=int, default=100_000)
    asked = parser.parse_args()
    with place(asked) as stores:
        root = stores / f"unsealed-{asked.models}x{ADAPTERS}x{FILES}"
        if not (root / "ready").exists():
            make(root, asked.models, ADAPTERS, FILES, sealed=False)
            (root / "ready").touch()
        with Project(root / ".cogbuild", environ={"PATH": "/usr/bin:/bin"}) as project:
            measure(project, asked.models, asked.runs)


def measure(project: Project, count: int, runs: int) -> None:
    """Ask a server over the project and show the times."""
    deep = browsing.newest(project.con, ALL, limit=1, skip=count - 200)[0]
    questions = {
        "the first page": "/",
        "a page 200 models before the end": f"/?after={place_text(deep)}",
        "one repo": "/?repo=user/model-000500",
        "`failed`, of which there is none": "/?state=failed",
        "`not applicable`, of which there is none": "/?state=not+applicable",
        "`not fresh`, which every model has": "/?state=not+fresh",
        "`fresh`": "/?state=fresh",
        "`/metrics`": "/metrics",
        "`/v2/models`, 1,000 of them": "/v2/models",
    }
    sock = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(Service(project, backfill="off")), log_level="warning", lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    port = sock.getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            for what, path in questions.items():
                client.get(path).raise_for_status()  # what is read for the first time is read from the disk
                times, spent = [], []
                for _ in range(max(3, runs)):
                    began, used = time.perf_counter(), time.process_time()
                    size = len(client.get(path).content)
                    times.append(time.perf_counter() - began)
                    spent.append(time.process_time() - used)
                middle, cpu = statistics.median(times), statistics.median(spent)
                word = "holds" if middle < BUDGET else "over 150 ms"
                print(
                    f"| {what} | {middle * 1000:.0f} ms | {cpu * 1000:.0f} ms | {size / 1000:.0f} kB | {word} |"
                )
    finally:
        server.should_exit = True
        thread.join()


if __name__ == "__main__":
    main()
