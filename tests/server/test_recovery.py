"""What becomes of a server that is ended, however that happens?"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from site_of_tests import Process, Site, eventually, followed, listed, put, zip_of

from cogbuild.database import history, models, pairs
from cogbuild.project import Project

pytestmark = pytest.mark.slow  # each starts servers of its own

WAITS = {"wait": "cog-test waits", "slow": "one waits"}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with an adapter."""
    return Site(tmp_path, "one")


def _begun(site: Site, server: Process, weights: str) -> tuple[str, list[str]]:
    """Upload what waits; return the job once its adapter runs, and the lines that the client gets."""
    heard: list[str] = []

    def upload() -> None:
        files = {"file": ("m.zip", zip_of(weights))}
        try:
            with httpx.stream(
                "PUT", f"{server.client.base_url}/v1/repos/ada/words/packages/", files=files
            ) as answer:
                heard.extend(answer.iter_lines())
        except httpx.HTTPError:
            heard.append("broken off")

    threading.Thread(target=upload, daemon=True).start()
    wanted = f"words {'test' if weights == 'wait' else 'one'}"
    eventually(lambda: site.ran_file.exists() and wanted in site.ran_file.read_text())
    return server.client.get("/v2/jobs").json()["jobs"][0]["job"], heard


def test_a_connection_that_is_kept_is_answered_at_once(site: Site) -> None:
    """No answer waits for the client to confirm its beginning, which takes 40 ms from the second on."""
    server = site.start()
    try:
        took: list[float] = []
        # It may have to do with its start for a while.
        while len(took) < 200 and not (took[1:] and took[-1] < 0.03):
            began = time.monotonic()
            assert server.client.get("/v2").status_code == 200
            took.append(time.monotonic() - began)
        assert took[-1] < 0.03
    finally:
        server.stop()


@pytest.mark.parametrize("weights", WAITS)
def test_a_killed_server_goes_on_where_it_was(site: Site, weights: str) -> None:
    """What was under way is finished by the next one, which says so; until then nothing half is shown."""
    server = site.start()
    job, _ = _begun(site, server, weights)
    inside = weights == "slow"  # the test has passed
    assert len(listed(server.client)) == inside
    server.kill()
    with Project(site.data) as project:
        assert len(models.entries(project.con)) == inside
    site.go.touch()
    server = site.start()
    said = [message["data"] for _, message in followed(server.client, job)]
    assert "The server was ended while it was at this; it begins again where it was" in said
    assert server.client.get(f"/v2/jobs/{job}").json()["state"] == "done"
    assert len(listed(server.client)) == 1
    assert server.stop() == 0
    site.check()
    # What had ended before the kill was not done again.
    assert site.ran().count("words test") == (1 if inside else 2)
    with Project(site.data) as project:
        attempts = [history.attempt(project.con, name) for name in history.attempt_ids(project.con)]
    assert sorted(attempt.status for attempt in attempts if attempt) == ["built", "built", "interrupted"]


def test_a_server_that_is_asked_to_stop_leaves_its_jobs_for_the_next(site: Site) -> None:
    """SIGTERM ends it in order; who follows is told, and the next server takes the job up."""
    server = site.start()
    job, heard = _begun(site, server, "wait")
    assert server.stop() == 0
    eventually(lambda: any("goes on when it is started again" in line for line in heard))
    site.go.touch()
    server = site.start()
    assert followed(server.client, job)[-1][1]["event"]["state"] == "done"
    assert len(listed(server.client)) == 1
    server.stop()
    site.check()


#: Does not end when it is asked to.
STUBBORN = """#!/bin/sh
trap '' TERM
echo "$COG_REPO_NAME {name}" >> {ran}
while [ ! -e {go} ]; do sleep 0.02; done
echo x > "$COG_OUTPUT_DIR/x"
echo "$COG_OUTPUT_DIR/x"
"""


@pytest.mark.parametrize("kill", [False, True], ids=["ended", "killed"])
def test_a_cancelled_job_is_not_taken_up_again(site: Site, kill: bool) -> None:
    """Its adapter still ran when the server was ended; that it was cancelled had been answered by then."""
    site.adapter("one", STUBBORN)
    server = site.start("--backfill", "off")
    job, _ = _begun(site, server, "x")
    assert server.client.delete(f"/v2/jobs/{job}").json()["state"] == "running"
    if kill:
        server.kill()
    else:
        assert server.stop() == 0
    site.go.touch()
    server = site.start("--backfill", "off")
    assert server.client.get(f"/v2/jobs/{job}").json()["state"] == "cancelled"
    assert followed(server.client, job)[-1][1]["event"]["state"] == "cancelled"
    assert server.client.delete(f"/v2/jobs/{job}").status_code == 409
    server.stop()
    site.check()
    assert site.ran() == ["words one", "words test"]


def test_a_job_that_could_not_say_how_it_ended_says_it_with_the_next_server(site: Site) -> None:
    """Killed between the end in the database and the last message, also within that; whoever follows hears of it once."""
    server = site.start("--backfill", "off")
    put(server.client, zip_of("break"))
    asked = {"force": True, "adapters": ["one"]}
    jobs = [server.client.post("/v2/adapt", json=asked).json()["job"] for _ in range(3)]
    before = [followed(server.client, job) for job in jobs]
    assert server.stop() == 0
    for job, left in zip(jobs[:2], (0, 20), strict=True):
        feed = site.data / "logs" / "jobs" / f"{job}.jsonl"
        lines = feed.read_bytes().splitlines(keepends=True)
        feed.write_bytes(b"".join(lines[:-1]) + lines[-1][:left])
    for _ in range(2):
        server = site.start("--backfill", "off")
        after = [followed(server.client, job) for job in jobs]
        assert [messages[:-1] for messages in after] == [messages[:-1] for messages in before]
        ends = [messages[-1][1]["event"] for messages in after]
        assert [(end["kind"], end["state"], end["exit_code"]) for end in ends] == [("end", "failed", 1)] * 3
        assert ends[2] == before[2][-1][1]["event"]
        server.stop()


def test_an_upload_that_is_gone_fails_its_job(site: Site) -> None:
    """Where the disk lost what was sent, the job fails with that reason, and the model is not there."""
    server = site.start()
    job, _ = _begun(site, server, "wait")
    server.kill()
    for left in (site.data / "uploads").glob("*.zip"):
        left.unlink()
    server = site.start()
    last = followed(server.client, job)[-1][1]
    assert last["event"]["error"]["headline"] == "what was uploaded for this job is not there any more"
    assert listed(server.client) == []
    server.stop()
    site.check()


def test_two_servers_do_not_share_a_directory(site: Site) -> None:
    """The second says so and ends; ``cogbuild adapt`` beside a server is another matter."""
    server = site.start()
    again = subprocess.run(
        [sys.executable, "-m", "cogbuild", "server", "--port", "0", "--data-dir", str(site.data)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 3
    assert again.stderr == (
        f"another server runs on {site.data}\n"
        "hint: end it first; `doit` and `cogbuild adapt` may run beside it\n"
    )
    server.stop()


def test_a_command_beside_the_server(site: Site) -> None:
    """``cogbuild adapt`` on the same directory waits for a pair that the server builds, and does it no second time."""
    (site.root / "cogbuild.yaml").write_text("adapters: [adapters/one]\n")
    server = site.start()
    _, heard = _begun(site, server, "slow")
    beside = subprocess.Popen(
        [sys.executable, "-m", "cogbuild", "--data-dir", str(site.data), "adapt", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert beside.stderr is not None
    assert "another run does the same work; waiting for it" in beside.stderr.readline()
    site.go.touch()
    out, _ = beside.communicate()
    assert json.loads(out)["exit_code"] == 0
    eventually(lambda: any('"type":"model"' in line for line in heard))
    assert site.ran() == ["words one", "words test"]
    server.stop()
    site.check()


@pytest.fixture(autouse=True)
def _no_process_stays(site: Site) -> Iterator[None]:
    """Adapters that wait end with the test, whatever became of the server."""
    yield
    site.go.touch()


def test_many_uploads_at_once(tmp_path: Path) -> None:
    """Two hundred uploads of twenty models end with twenty models, and each pair was built once."""
    site = Site(tmp_path, "one", "two")
    server = site.start()
    ended: list[str] = []

    def upload(number: int) -> None:
        with httpx.Client(base_url=server.client.base_url, timeout=300) as client:
            ended.append(put(client, zip_of(f"m{number % 20}"))[-1]["type"])

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended == ["model"] * 200
    assert len(listed(server.client)) == 20
    assert site.ran() == ["words one"] * 20 + ["words test"] * 20 + ["words two"] * 20
    assert server.stop() == 0
    site.check()


def test_a_cron_job_beside_the_server(site: Site) -> None:
    """The README's line runs `doit` in the directory that a server works on; each pair is built once, by either."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    line = next(line for line in readme.splitlines() if line.startswith("*/10 * * * *"))
    command = line.removeprefix("*/10 * * * *").strip().replace("/srv/models", str(site.root))
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(
        [sys.executable, "-m", "cogbuild", "init", str(site.root)], check=True, capture_output=True
    )
    site.data = site.root / ".cogbuild"
    (site.root / "cogbuild.yaml").write_text("adapters: [adapters/one]\nmodels: [models/*]\n")
    live = site.root / "models" / "live"
    live.mkdir(parents=True)
    with zipfile.ZipFile(io.BytesIO(zip_of("live"))) as archive:
        archive.extractall(live)
    site.names = ["cog-test"]  # the other is named by the settings
    server = site.start("--backfill", "off")
    _, heard = _begun(site, server, "slow")
    beside = subprocess.Popen(["/bin/sh", "-c", command], env=environ)
    log = site.root / "doit.log"
    eventually(lambda: log.exists() and "waiting for it" in log.read_text())
    site.go.touch()
    assert beside.wait(60) == 0
    eventually(lambda: any('"type":"model"' in line for line in heard))
    assert sorted(site.ran()) == ["live one", "words one", "words test"]
    assert subprocess.run(["/bin/sh", "-c", command], env=environ, check=False).returncode == 0
    assert log.read_text().splitlines()[-1] == "2 fresh"
    assert len(listed(server.client, "local/live")) == 1
    server.stop()
    site.check()


def test_killed_at_any_moment(site: Site) -> None:
    """Killed again and again while models come in, it ends with every model whose upload was received, whole."""
    chance = random.Random(7)
    known = 0
    for round_ in range(6):
        known = _killed_after(site, round_, known, chance.uniform(0.0, 0.5))
        with Project(site.data) as project:
            for entry in models.entries(project.con):  # what is shown has passed its test
                found = pairs.outcomes(project.con, eids=[entry.eid])
                assert any(outcome.artifacts[0].uri.endswith("test.json") for outcome in found.values())
    server = site.start()
    eventually(lambda: all(job["ended"] for job in _uploads(server.client)))
    jobs = _uploads(server.client)
    assert len(jobs) >= known >= 6
    assert {job["state"] for job in jobs} == {"done"}
    there = listed(server.client)
    assert {model["id"] for model in there} == {job["model"] for job in jobs}
    assert all(len(model["artifacts"]) == 1 for model in there)
    server.stop()
    site.check()


def _killed_after(site: Site, round_: int, known: int, seconds: float) -> int:
    """Start a server, upload to it, and kill it so long after it got another upload; return how many it has by then."""
    server = site.start()
    for number in range(4):
        data = zip_of(f"m{round_}-{number}")
        threading.Thread(target=_try_to_put, args=(server, data), daemon=True).start()
    eventually(lambda: len(_uploads(server.client)) > known)
    time.sleep(seconds)
    known = len(_uploads(server.client))
    server.kill()
    return known


def _try_to_put(server: Process, data: bytes) -> None:
    with contextlib.suppress(httpx.HTTPError, ValueError, AssertionError, RuntimeError):
        put(server.client, data)


def _uploads(client: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/v2/jobs").json()["jobs"]
    return [job for job in found if job["kind"] == "upload"]
