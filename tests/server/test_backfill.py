"""What becomes of past models when an adapter comes or changes?"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import asking, served
from site_of_tests import COPY, Site, eventually, followed, listed, put, zip_of

from cogbuild.project import Project
from cogbuild.server import backfill
from cogbuild.server.app import create_app
from cogbuild.server.service import Service


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site whose adapters are named by its settings, and looked at often."""
    monkeypatch.setattr(backfill, "INTERVAL", 0.05)
    site = Site(tmp_path)
    _settings(site, "one")
    return site


@pytest.fixture
def client(site: Site) -> Iterator[httpx.Client]:
    """A client of a server of the site."""
    with site.client() as client:
        yield client


def _settings(site: Site, *names: str, **server: Any) -> None:
    """Name adapters, made where they are not there, and what the server is to do."""
    for name in names:
        if not (site.root / "adapters" / name).exists():
            site.adapter(name, COPY)
    lines = [f"  - adapters/{name}" for name in names]
    more = [f"  {key}: {value}" for key, value in server.items()]
    text = "\n".join(["adapters:", *lines, *(["server:", *more] if more else [])]) + "\n"
    (site.root / "cogbuild.yaml").write_text(text)


def _jobs(client: httpx.Client) -> list[dict[str, Any]]:
    """Return the backfills that have ended."""
    found = client.get("/v2/jobs").json()["jobs"]
    return [job for job in found if job["kind"] == "backfill" and job["ended"]]


def _next(client: httpx.Client, before: int = 0) -> list[str]:
    """Return what the backfill after *before* of them said about itself."""
    jobs = eventually(lambda: found if len(found := _jobs(client)) > before else None)
    said = [message for _, message in followed(client, jobs[0]["job"])]
    return [message["data"] for message in said if message["type"] == "status" and "pair" not in message]


def _targets(client: httpx.Client) -> list[int]:
    return [len(model["artifacts"]) for model in listed(client)]


@pytest.mark.slow
def test_a_new_adapter_makes_what_past_models_lack(site: Site, client: httpx.Client) -> None:
    """It is seen without a restart; a sample goes first, the newest of them before the others."""
    for number in range(7):
        put(client, zip_of(f"m{number}"))
    site.ran()
    _settings(site, "one", "two")
    said = _next(client)
    assert said == ["two: 7 to make, 5 of them first", "two: 0 of 5 failed; going on with 2", "7 built"]
    assert site.ran() == ["words two"] * 7
    assert _targets(client) == [2] * 7


@pytest.mark.slow
def test_a_sample_that_fails_ends_it(site: Site, client: httpx.Client) -> None:
    """The rest is left alone until the adapter is changed; what it needs to say, it says."""
    for number in range(7):
        put(client, zip_of(f"m{number}"))
    site.ran()
    site.adapter("two", "#!/bin/sh\necho $COG_MODEL_ID >> {ran}\nexit 1\n")
    _settings(site, "one", "two")
    said = _next(client)
    assert "two: 5 of 5 failed, more than 20%; the other 2 are left as they are" in said
    assert _jobs(client)[0]["state"] == "failed"
    assert len(site.ran()) == 5
    site.adapter("two", COPY)
    assert _next(client, 1)[-1] == "7 built"
    assert _targets(client) == [2] * 7


@pytest.mark.slow
def test_a_changed_adapter_makes_anew_only_where_that_is_wanted(site: Site, client: httpx.Client) -> None:
    """``missing`` leaves what was made, ``stale`` makes it anew, and old artifacts stay until new ones are there."""
    put(client, zip_of("x"))
    before = listed(client)
    site.ran()
    site.adapter("one", COPY + "# changed\n")
    _settings(site, "one", "two")
    assert _next(client)[0] == "two: 1 to make, 1 of them first"
    assert site.ran() == ["words two"]
    site.adapter("one", "#!/bin/sh\nexit 1\n")
    _settings(site, "one", "two", backfill="stale")
    assert "one: 1 of 1 failed, more than 20%; the other 0 are left as they are" in _next(client, 1)
    assert listed(client)[0]["artifacts"][0] == before[0]["artifacts"][0]
    for mode in ("missing", "stale"):  # what failed as it is now is no reason for another job
        _settings(site, "one", "two", backfill=mode)
        threading.Event().wait(0.3)
    assert len(_jobs(client)) == 2
    site.adapter("one", COPY + "# again\n")
    assert _next(client, 2)[-1] == "1 built"
    assert site.ran() == ["words one"]


@pytest.mark.slow
def test_what_fails_for_an_adapter_that_is_needed_counts_once(site: Site, client: httpx.Client) -> None:
    """What needs a pair that failed is left alone with it, and in a sample a model counts once."""
    for number in range(9):
        put(client, zip_of("bad" if number == 8 else f"m{number}"))
    site.ran()
    site.adapter("two", COPY.replace("cp ", "if grep -q bad weights.bin; then exit 1; fi\ncp "))
    site.adapter("three", COPY, "needs: [two]\n")
    _settings(site, "one", "two", "three")
    said = _next(client)
    assert "two: 1 of 5 failed; going on with 4" in said
    assert "three: 1 of 5 failed; going on with 4" in said
    assert sorted(_targets(client)) == [1, *[3] * 8]
    site.ran()
    for mode in ("stale", "missing"):
        _settings(site, "one", "two", "three", backfill=mode)
        threading.Event().wait(0.5)
    assert site.ran() == []
    assert len(client.get("/v2/jobs").json()["jobs"]) == 10


@pytest.mark.slow
def test_what_failed_as_it_is_now_is_left_alone_after_an_edit_was_taken_back(
    site: Site, client: httpx.Client
) -> None:
    """What counts is how it ended last on these very inputs, and not on those of the edit."""
    put(client, zip_of("x"))
    site.ran()
    failing = "#!/bin/sh\necho $COG_MODEL_ID >> {ran}\nexit 1\n"
    for number, script in enumerate((failing, failing + "# edited\n")):
        site.adapter("two", script)
        _settings(site, "one", "two")
        assert "two: 1 of 1 failed, more than 20%; the other 0 are left as they are" in _next(client, number)
    assert len(site.ran()) == 2
    site.adapter("two", failing)
    threading.Event().wait(0.5)
    assert site.ran() == []
    assert len(client.get("/v2/jobs").json()["jobs"]) == 3
    site.adapter("two", COPY)
    assert _next(client, 2)[-1] == "1 built"


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_a_cancelled_one_stays_so_until_something_changes(site: Site, *, killed: bool) -> None:
    """Also for the next server, and where the first had no time to end it."""
    waits = "#!/bin/sh\necho waits >> {ran}\nwhile [ ! -e {go} ]; do sleep 0.02; done\n"
    server = site.start()
    put(server.client, zip_of("x"))
    site.ran()
    site.adapter("two", waits + COPY)
    _settings(site, "one", "two")
    eventually(lambda: site.ran_file.exists() and "waits" in site.ran_file.read_text())
    job = server.client.get("/v2/jobs").json()["jobs"][0]
    assert server.client.delete(f"/v2/jobs/{job['job']}").status_code == 200
    if killed:
        server.kill()
    else:
        eventually(lambda: _jobs(server.client))
        server.stop()
    site.go.touch()
    with site.client() as client:
        threading.Event().wait(0.5)
        found = client.get("/v2/jobs").json()["jobs"]
        assert [(item["kind"], item["state"]) for item in found] == [
            ("backfill", "cancelled"),
            ("upload", "done"),
        ]
        site.adapter("two", COPY)
        assert _next(client, 1)[-1] == "1 built"


@pytest.mark.slow
def test_an_upload_goes_before(site: Site, client: httpx.Client) -> None:
    """While somebody waits for an upload, nothing of a backfill begins."""
    for number in range(4):
        put(client, zip_of(f"m{number}"))
    _settings(site, "one", "two", backfill="off")
    upload = threading.Thread(target=put, args=(client, zip_of("wait"), "ada/new"))
    upload.start()
    eventually(lambda: "new test" in site.ran_file.read_text())
    _settings(site, "one", "two", backfill="missing")
    eventually(lambda: any(j["kind"] == "backfill" for j in client.get("/v2/jobs").json()["jobs"]))
    threading.Event().wait(0.3)
    assert "words two" not in site.ran_file.read_text()
    site.go.touch()
    upload.join()
    _next(client)
    ran = site.ran_file.read_text().splitlines()
    assert ran.index("new two") < ran.index("words two")
    assert _targets(client) == [2] * 4


@pytest.mark.slow
def test_it_can_be_off(site: Site) -> None:
    """With ``--backfill off`` nothing is looked at; the option goes before the setting."""
    _settings(site, "one", backfill="stale")
    service = Service(Project(site.data), directories=site.directories, jobs=2, backfill="off")
    with (
        served(create_app(service)) as (host, port),
        asking(host, port) as client,
    ):
        put(client, zip_of("x"))
        site.ran()
        _settings(site, "one", "two", backfill="stale")
        service.backfill.look()
        assert [job["kind"] for job in client.get("/v2/jobs").json()["jobs"]] == ["upload"]
    assert site.ran() == []


def test_a_sample_is_spread_over_all() -> None:
    """The newest is in it, and old ones are."""
    assert backfill.sample([(n, False) for n in range(10)], 3) == [(0, False), (3, False), (6, False)]
    assert backfill.sample([(1, True)], 3) == [(1, True)]
