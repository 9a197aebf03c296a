"""Pages over HTTP: what they say to a browser besides what is seen, and what forms do."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from serving import asking, served
from site_of_tests import COPY, Site, eventually, put, zip_of

from cogbuild.database import jobs, tokens
from cogbuild.project import Project
from cogbuild.server.app import create_app
from cogbuild.server.grants import make_token
from cogbuild.server.service import Service

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Sandbox

HOSTILE = "#!/bin/sh\nprintf '<script>alert(1)</script>\\r\\033]0;title\\007\\n' >&2\nexit 3\n"
#: On the page of a pair whose adapter runs, and how a browser asks for it.
RUNS, PAGE = '<td><span class="badge is-running">', {"Accept": "text/html"}


@pytest.mark.slow
def test_a_page_and_its_forms(box: Sandbox) -> None:
    """Strict headers, hostile text as text, errors as pages; a form is taken once, and only with the server's secret."""
    box.adapter("bad", HOSTILE)
    box.add("a", repo="ada/a")
    box.adapt()
    with (
        box.project() as project,
        served(create_app(Service(project, backfill="off")), lifespan="on") as (host, port),
        asking(host, port, headers={"Accept": "text/html"}) as browser,
    ):
        front = browser.get("/")
        assert "default-src 'none'; script-src 'self'" in front.headers["content-security-policy"]
        assert "<script>" not in front.text
        assert " style=" not in front.text
        (link,) = re.findall(r'href="(/pairs/ada/a/[0-9a-f]{12}/bad)"', front.text)
        text = browser.get(link).text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
        assert '<span class="ctl">\\x1b</span>]0;title<span class="ctl">\\x07</span>' in text
        for address in re.findall(r'(?:src|href)="(/static/[^"]+)"', front.text):
            assert "immutable" in browser.get(address).headers["cache-control"]
        gone = browser.get("/pairs/ada/a/0123456/bad")
        assert gone.status_code == 404
        assert "<h1>no model has the ID 0123456</h1>" in gone.text
        assert browser.get("/static/../app.py").status_code == 404
        assert browser.get("/?after=x").status_code == 422
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', text))
        assert browser.post(link + "/adapt", data={**fields, "csrf": "0" * 64}).status_code == 403
        assert jobs.listed(project.con) == []
        for _ in range(2):  # a button that was pressed twice
            sent = browser.post(link + "/adapt", data=fields)
            assert (sent.status_code, sent.headers["location"]) == (303, link)
        assert len(jobs.listed(project.con)) == 1


@pytest.mark.slow
def test_a_pair_names_the_job_that_runs_it(tmp_path: Path) -> None:
    """Whatever the job was asked for: the upload, what needs the pair, everything. Another process is one of those that are none."""
    site = Site(tmp_path, "copy", "next")
    site.adapter("next", COPY, "needs: [copy]\n")

    def running(model: str, adapter: str) -> tuple[list[str], str]:
        """Return the jobs on the page of a pair that runs, those that can be cancelled twice, and the page."""
        at = f"/pairs/ada/words/{model}/{adapter}"
        said = eventually(lambda: RUNS in (text := client.get(at, headers=PAGE).text) and text)
        return re.findall(r'"/jobs/(\w+)(?:/cancel)?"', said), said

    def job(number: int, state: str) -> dict[str, Any] | None:
        """Return a job, once it knows its model and is in this state."""
        rows = client.get("/v2/jobs").json()["jobs"][::-1][number:]
        return rows[0] if rows and rows[0]["model"] and rows[0]["state"] == state else None

    with site.client(backfill="off") as client, ThreadPoolExecutor() as threads:
        for number, (weights, adapter) in enumerate((("wait", "cog-test"), ("slow", "copy"))):
            site.go.unlink(missing_ok=True)
            sent = threads.submit(put, client, zip_of(weights), adapter="next")
            upload = eventually(partial(job, number, "running"))
            model = upload["model"]
            shown, page = running(model, adapter)
            assert shown == [upload["job"]] * 2
            assert "another process" not in page
            assert ("It is not judged: the model is not let in yet." in page) == (adapter == "cog-test")
            site.go.touch()
            sent.result()
            eventually(partial(job, number, "done"))  # a little later than the model is told
        site.go.unlink()
        everything = client.post("/v2/adapt", json={"adapters": ["copy"], "force": True}).json()["job"]
        shown, page = running(model, "copy")
        assert shown == [everything] * 2
        assert "another process" not in page
        with Project(site.data) as project:
            token, kept = make_token(project, "ada/*", ["read", "adapt"], seconds=None)
            told = client.get(
                f"/pairs/ada/words/{model}/copy", headers={**PAGE, "Authorization": f"Bearer {token}"}
            )
            project.database.write(lambda con: tokens.drop(con, kept.id))
        assert "A job is at it that this token may not see." in told.text
        assert everything not in told.text
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', page))
        assert client.post(f"/jobs/{everything}/cancel", data=fields).status_code == 303
        eventually(lambda: client.get(f"/v2/jobs/{everything}").json()["state"] == "cancelled")
        words = [word for name in site.directories for word in ("--adapter-dir", name)]
        adapt = [
            "--data-dir",
            str(site.data),
            "adapt",
            "--model",
            model,
            "--adapter",
            "copy",
            "--force",
            *words,
        ]
        with subprocess.Popen([sys.executable, "-m", "cogbuild", *adapt], cwd=tmp_path) as other:
            shown, page = running(model, "copy")
            assert shown == []
            assert "It runs in another process, which is to be interrupted there." in page
            site.go.touch()
        assert other.returncode == 0
