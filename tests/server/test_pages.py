"""Pages over HTTP: what they say to a browser besides what is seen, and what forms do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from serving import asking, served

from cogbuild.database import jobs
from cogbuild.server.app import create_app
from cogbuild.server.service import Service

if TYPE_CHECKING:
    from conftest import Sandbox

HOSTILE = "#!/bin/sh\nprintf '<script>alert(1)</script>\\r\\033]0;title\\007\\n' >&2\nexit 3\n"


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
