"""What HTTP wants of an answer, whichever it is."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from serving import asking, served
from site_of_tests import Site, eventually, listed, put, zip_of

from cogbuild.project import Project
from cogbuild.server.app import create_app
from cogbuild.server.grants import make_token
from cogbuild.server.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with one adapter."""
    return Site(tmp_path, "one")


@pytest.fixture
def client(site: Site) -> Iterator[httpx.Client]:
    """A client of a server of the site."""
    with site.client() as client:
        yield client


@pytest.mark.slow
def test_a_head_is_that_of_the_get(client: httpx.Client) -> None:
    """The same status and headers and no body, of what is long too; it is counted under its route."""
    model = put(client, zip_of("x"))[-1]["model"]["id"]
    missing = "/v2/models/1234567"
    content = f"/v2/artifacts/{model}/one/content"
    for path in ("/ping", "/", f"/v1/repos/ada/words/packages/{model}.zip", content, missing, "/nowhere"):
        head, got = client.head(path), client.get(path)
        assert (head.status_code, head.content) == (got.status_code, b"")
        for name in ("content-type", "content-length", "content-disposition"):
            assert head.headers.get(name) == got.headers.get(name), path
    assert client.head("/v2/adapt").status_code == 405
    counted = 'cogbuild_request_seconds_count{method="HEAD",route="/v2/models/{model}",status="4xx"} 1.0'
    assert counted in client.get("/metrics").text


def test_a_head_of_what_goes_on_ends_at_once(site: Site, client: httpx.Client) -> None:
    """Nobody waits for the end of a job whose head alone was asked for."""
    upload = threading.Thread(target=put, args=(client, zip_of("slow")))
    upload.start()
    job = eventually(lambda: client.get("/v2/jobs").json()["jobs"])[0]["job"]
    head = client.head(f"/v2/jobs/{job}/events", timeout=10)
    assert (head.status_code, head.headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
    assert client.get(f"/v2/jobs/{job}").json()["ended"] is None
    site.go.touch()
    upload.join()
    assert len(listed(client)) == 1


def test_a_method_that_a_path_does_not_know_is_told_which_it_does(client: httpx.Client) -> None:
    """Of all that is at this path, and not of the first only."""
    allowed = {
        "/ping": "GET, HEAD",
        "/v2/adapt": "POST",
        "/v2/models/1234567": "DELETE, GET, HEAD, PATCH",
        "/v1/repos/a/b/packages/": "GET, HEAD, PUT",
        "/login": "GET, HEAD, POST",
    }
    for path, methods in allowed.items():
        refused = client.request("OPTIONS", path)
        assert (refused.status_code, refused.headers["allow"]) == (405, methods)
    assert "allow" not in client.request("OPTIONS", "/nowhere").headers


def test_who_is_not_known_hears_how_to_say_so(site: Site) -> None:
    """A program may send a token or a password; a browser is never brought to ask for a password by itself."""
    service = Service(Project(site.data), directories=site.directories, backfill="off")
    with served(create_app(service, tokens=True)) as (host, port), asking(host, port) as client:
        make_token(service.project, "*", ["read"], seconds=60)
        both = ['Bearer realm="cogbuild"', 'Basic realm="cogbuild"']
        for accept, path, schemes in (
            ("*/*", "/v2/models", both),
            ("application/json", "/metrics", both),
            ("*/*", "/", both),
            ("text/html,*/*;q=0.8", "/v2/models", both[:1]),
            ("text/event-stream", "/v2/logs/1/events", both[:1]),
        ):
            refused = client.get(path, headers={"Accept": accept})
            assert refused.status_code == 401
            assert refused.headers.get_list("www-authenticate") == schemes
        for method in ("GET", "HEAD"):
            page = client.request(method, "/", headers={"Accept": "text/html"})
            assert (page.status_code, page.headers["location"]) == (303, "/login?next=%2F")
            assert "www-authenticate" not in page.headers


def test_a_log_that_may_grow_is_asked_for_again(client: httpx.Client) -> None:
    """What keeps answers asks first whether there is more of it."""
    model = put(client, zip_of("x"))[-1]["model"]["id"]
    attempt = client.get(f"/v2/attempts/{model}/one").json()["attempts"][0]["attempt"]
    log = client.get(f"/v2/logs/{attempt}")
    assert (log.text, log.headers["cache-control"]) == ("copying\n", "no-cache")
    same = client.get(f"/v2/logs/{attempt}", headers={"If-Range": log.headers["etag"], "Range": "bytes=0-3"})
    assert (same.status_code, same.text) == (206, "copy")


def test_the_description_says_what_is_sent_and_answered(client: httpx.Client) -> None:
    """Every body has a form, and how a token is sent is said."""
    described: dict[str, Any] = client.get("/openapi.json").json()
    assert {item["type"] for item in described["components"]["securitySchemes"].values()} == {
        "http",
        "apiKey",
    }
    assert {name for item in described["security"] for name in item} == set(
        described["components"]["securitySchemes"]
    )
    assert described["paths"]["/ping"]["get"]["security"] == []
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            assert method in ("get", "delete") or "requestBody" in operation, path
            for status, answer in operation["responses"].items():
                assert answer["content"], (method, path, status)
    (form,) = described["paths"]["/v1/repos/{user}/{name}/packages/"]["put"]["requestBody"]["content"].items()
    assert (form[0], form[1]["schema"]["required"]) == ("multipart/form-data", ["file"])
    conflict = described["paths"]["/v2/repos/{user}/{name}/models"]["post"]["responses"]["409"]
    assert "missing" in conflict["content"]["application/json"]["schema"]["properties"]
