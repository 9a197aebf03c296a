"""What the server does as numbers and as lines: bounded, cheap, and without anybody's secret."""

from __future__ import annotations

import io
import json
import logging
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving import asking, served

from cogbuild.database import models
from cogbuild.server.app import create_app
from cogbuild.server.grants import make_token
from cogbuild.server.observing import LOGGER, lines_on
from cogbuild.server.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Sandbox

FAILING = "#!/bin/sh\necho oh >&2\nexit 3\n"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What the server writes, as long as the test runs."""
    kept = {
        name: (logging.getLogger(name).handlers[:], logging.getLogger(name).level)
        for name in ("cogbuild.server", "uvicorn", "asyncio")
    }
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    lines_on()
    yield stream
    for name, (handlers, level) in kept.items():
        logging.getLogger(name).handlers[:] = handlers
        logging.getLogger(name).setLevel(level)
        logging.getLogger(name).propagate = True


def numbers(text: str) -> dict[str, float]:
    """Return samples by name and labels."""
    return {
        " ".join([sample.name, *(str(value) for _, value in sorted(sample.labels.items()))]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.slow
def test_numbers_and_lines(box: Sandbox, lines: io.StringIO) -> None:
    """Pairs, jobs, adapters, the cache and requests are counted; a request and a job are a line each, with no secret in it."""
    box.configure(server={"backfill": "off"})
    box.adapter("count")
    box.adapter("bad", FAILING)
    for name in ("a", "b"):
        box.add(name)
    box.adapt(adapters=("count",))
    with box.project() as project:
        model = models.entries(project.con)[0].model
        token, row = make_token(project, "*", ["admin"], seconds=None)
        with served(create_app(Service(project)), lifespan="on") as (host, port):
            with asking(host, port, headers={"Authorization": f"Bearer {token}"}) as client:
                job = client.post("/v2/adapt", json={"models": [model], "adapters": ["bad"]}).json()["job"]
                while client.get(f"/v2/jobs/{job}").json()["state"] in ("queued", "running"):
                    time.sleep(0.02)
                for number in range(3):
                    assert client.get(f"/nowhere-{number}?secret=hush").status_code == 404
                text = client.get("/metrics")
            assert httpx.get(f"http://{host}:{port}/metrics").status_code == 401
    assert text.headers["content-type"].startswith("text/plain; version=")
    found = numbers(text.text)
    for name, value in {
        "cogbuild_models": 2,
        "cogbuild_pairs count settled": 2,
        "cogbuild_pairs bad failed": 1,
        "cogbuild_pairs bad waiting": 1,
        "cogbuild_pairs bad unseen": 0,
        "cogbuild_jobs adapt queued": 0,
        "cogbuild_jobs_ended_total adapt failed": 1,
        "cogbuild_adapter_runs_total count": 2,
        "cogbuild_adapter_failures_total bad": 1,
        "cogbuild_adapter_seconds_count bad failed": 1,
        "cogbuild_request_seconds_count GET other 4xx": 3,
        "cogbuild_request_seconds_count POST /v2/adapt 2xx": 1,
    }.items():
        assert found.get(name) == value, name
    assert found["cogbuild_upload_bytes_total /v2/adapt"] > 10
    assert found["process_resident_memory_bytes"] > 1 << 20
    assert found["process_open_fds"] > 3
    said: list[dict[str, Any]] = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [(item["state"], item["model"]) for item in said if item["event"] == "job"] == [
        ("running", model),
        ("failed", model),
    ]
    asked = next(item for item in said if item.get("route") == "/v2/adapt")
    assert (asked["method"], asked["status"], asked["token"], asked["path"]) == (
        "POST",
        202,
        row.id,
        "/v2/adapt",
    )
    assert "hush" not in lines.getvalue()
    assert token.split("_", 2)[2] not in lines.getvalue()


def test_what_comes_from_outside_stays_in_its_line(lines: io.StringIO) -> None:
    """Control characters are shown, and a path that is long is cut."""
    LOGGER.info("a\nb\x1b[31m")
    (line,) = lines.getvalue().splitlines()
    assert json.loads(line)["text"] == "a\\nb\\x1b[31m"


def test_an_answer_that_has_to_break_off_is_a_line_and_no_fault(box: Sandbox, lines: io.StringIO) -> None:
    """What breaks it off is said once, as a warning, without a trace."""
    box.adapter("count")
    box.add("a")
    box.adapt()
    with box.project() as project:
        model = models.entries(project.con)[0].model
        (kept,) = [path for path in project.objects.artifacts.rglob("*") if path.is_file()]
        kept.chmod(0o644)
        kept.write_bytes(b"x" * kept.stat().st_size)
        with (
            served(create_app(Service(project)), lifespan="on", log_config=None) as (host, port),
            asking(host, port) as client,
            pytest.raises(httpx.RemoteProtocolError),
        ):
            client.get(f"/v2/artifacts/{model}/count/content")
    said = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert not [line for line in said if line["level"] == "error" or "trace" in line]
    (warning,) = [line for line in said if line["level"] == "warning"]
    assert warning["text"].startswith("an answer was broken off: artifact ")
