"""What does a server do while somebody edits what it reads, or takes away what it works on?"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from site_of_tests import COPY, Site, eventually, listed, put, zip_of

pytestmark = pytest.mark.slow


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with two adapters."""
    return Site(tmp_path, "one", "two")


@pytest.fixture
def client(site: Site) -> Iterator[httpx.Client]:
    """A client of a server of the site."""
    with site.client() as client:
        yield client


class Upload(threading.Thread):
    """An upload that waits in its test until the site says go."""

    def __init__(self, site: Site, client: httpx.Client, weights: str, **fields: str) -> None:
        super().__init__()
        self.said: list[dict[str, Any]] = []
        self._client, self._weights, self._fields = client, weights, fields
        ran = len(_ran(site))
        self.start()
        eventually(lambda: len(_ran(site)) > ran)

    def run(self) -> None:
        """Upload."""
        self.said += put(self._client, zip_of(self._weights), **self._fields)


def _ran(site: Site) -> list[str]:
    return site.ran_file.read_text().splitlines() if site.ran_file.exists() else []


def test_a_model_that_is_let_go_while_it_is_tested_again_does_not_come_back(
    site: Site, client: httpx.Client
) -> None:
    """Its files and settings are released: the upload fails and says why."""
    site.go.touch()
    model = put(client, zip_of("wait"))[-1]["model"]["id"]
    site.go.unlink()
    site.adapter(
        "cog-test",
        (site.root / "adapters/cog-test/run.sh").read_text().replace("{", "{{").replace("}", "}}") + "\n",
    )
    again = Upload(site, client, "wait")
    assert client.delete(f"/v1/repos/ada/words/packages/{model}").status_code < 300
    site.go.touch()
    again.join()
    assert again.said[-1]["type"] == "error"
    assert f"ada/words@{model[:12]} was let go of meanwhile" in again.said[-1]["data"]
    assert listed(client) == []
    assert put(client, zip_of("wait"))[-1]["model"]["id"] == model


def test_two_uploads_of_a_new_model_both_get_what_they_chose(site: Site, client: httpx.Client) -> None:
    """Whichever comes first: the second adds to what the first wants."""
    first = Upload(site, client, "wait", adapter="one")
    second = threading.Thread(target=lambda: said.extend(put(client, zip_of("wait"), adapter="two")))
    said: list[dict[str, Any]] = []
    second.start()
    eventually(lambda: sum(job["state"] == "running" for job in client.get("/v2/jobs").json()["jobs"]) == 2)
    threading.Event().wait(0.3)
    site.go.touch()
    first.join()
    second.join()
    assert "one" in [item["target"] for item in first.said[-1]["model"]["artifacts"]]
    assert "two" in [item["target"] for item in said[-1]["model"]["artifacts"]]
    assert sorted(item["target"] for item in listed(client)[0]["artifacts"]) == ["one", "two"]


def test_settings_with_a_mistake_leave_those_of_before(site: Site, client: httpx.Client) -> None:
    """Everything is answered, and models are built, as before the mistake; without it the new ones hold."""
    file = site.root / "cogbuild.yaml"
    file.write_text("server:\n  uploads: 7\n")
    put(client, zip_of("x"))
    for mistake in ("server:\n  bckfill: off\n", "servr: {}\n", "server: [\n"):
        file.write_text(mistake)
        assert put(client, zip_of(mistake))[-1]["model"]["artifacts"]
        for path in ("/ping", "/", "/v2/models", "/metrics"):
            assert client.get(path).status_code == 200, path
    file.write_text("adapters: [nodir]\n")
    assert put(client, zip_of("y"))[-1]["model"]["artifacts"]
    file.unlink()
    assert put(client, zip_of("z"))[-1]["model"]["artifacts"]


def test_an_adapter_with_a_mistake_concerns_only_itself(site: Site, client: httpx.Client) -> None:
    """Its pairs fail, since its files are not those that were loaded; the others are built."""
    put(client, zip_of("x"))
    site.adapter("one", COPY, "timout: 3s\n")
    artifacts = put(client, zip_of("y"))[-1]["model"]["artifacts"]
    assert [item["target"] for item in artifacts] == ["two"]
    site.adapter("one", COPY, "timeout: 3s\n")
    artifacts = put(client, zip_of("z"))[-1]["model"]["artifacts"]
    assert [item["target"] for item in artifacts] == ["one", "two"]


def test_a_server_does_not_begin_with_a_mistake(site: Site) -> None:
    """What can't be used is said at once, not to the first who uploads."""
    command = [sys.executable, "-m", "cogbuild", "server", "--port", "0", "--data-dir", str(site.data)]
    done = subprocess.run(
        [*command, "--adapter", "nodir"],
        cwd=site.root,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("there is no adapter directory")
