"""The reading half of `/v2` says what the commands say: the same JSON, the same text; and only of what may be read."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import httpx
import pytest
from conftest import Sandbox
from serving import asking, served

from cogbuild.database import history, models, tokens
from cogbuild.server.app import create_app
from cogbuild.server.grants import make_token
from cogbuild.server.service import Service
from cogbuild.server.v2 import shapes
from cogbuild.views import browsing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from door import Door
    from pydantic import BaseModel

pytest_plugins = ["door"]

FAILING = "#!/bin/sh\nprintf 'over\\033[31mwritten \\303\\266\\nKeyError: vocab_size\\n' >&2\nexit 3\n"
REFUSING = "#!/bin/sh\necho 'no network in here' >&2\nexit 100\n"
TEXT = {"Accept": "text/plain"}


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """A sandbox with pairs of every kind."""
    box = Sandbox(tmp_path_factory.mktemp("reading"))
    box.adapter("count", params={"level": 1})
    box.adapter("bad", FAILING)
    box.adapter("not", REFUSING, api=1)
    box.add("a")
    box.adapt()
    box.adapter("count", params={"level": 2})
    box.add("b", repo="other/b")
    return box


@pytest.fixture(scope="module")
def site(box: Sandbox) -> Iterator[httpx.Client]:
    """A server over it; it asks for no token, and takes its time for a page however busy the machine is."""
    with (
        pytest.MonkeyPatch.context() as patch,
        box.project() as project,
        served(create_app(Service(project, backfill="off")), lifespan="on") as (host, port),
        asking(host, port) as client,
    ):
        patch.setattr(browsing, "_BUDGET", 60.0)
        yield client


def model_of(box: Sandbox, repo: str) -> str:
    """Return the ID of the model in a repo."""
    with box.project() as project:
        return models.entries(project.con, repos=[repo])[0].model


QUESTIONS: list[tuple[str, list[str], type[BaseModel]]] = [
    ("/models", ["models", "ls"], shapes.Models),
    ("/models?repo=other/b", ["models", "ls", "--repo", "other/b"], shapes.Models),
    ("/models/{a}", ["models", "show", "{a}"], shapes.ShownModels),
    ("/status", ["status"], shapes.Status),
    ("/status?adapter=bad&repo=local/a", ["status", "--adapter", "bad", "--repo", "local/a"], shapes.Status),
    ("/status?all=1", ["status", "--all"], shapes.Status),
    ("/explain/{a}/count", ["explain", "{a}", "count"], shapes.Explained),
    ("/explain/{a}/bad", ["explain", "{a}", "bad"], shapes.Explained),
    ("/attempts/{a}/bad", ["logs", "--list", "{a}", "bad"], shapes.Attempts),
    ("/attempts/{a}/bad/log", ["logs", "{a}", "bad"], shapes.Log),
    ("/artifacts", ["artifacts", "ls"], shapes.Artifacts),
    ("/artifacts?lost=1", ["artifacts", "ls", "--lost"], shapes.Artifacts),
    (
        "/plan?adapter=count&adapter=bad",
        ["adapt", "--dry-run", "--adapter", "count", "--adapter", "bad"],
        shapes.Plan,
    ),
    (
        "/plan?repo=local/a&force=1&adapter=not",
        ["adapt", "--dry-run", "--repo", "local/a", "--force", "--adapter", "not"],
        shapes.Plan,
    ),
    ("/cache/stats", ["cache", "stats"], shapes.CacheStats),
]


@pytest.mark.slow
def test_what_commands_say(box: Sandbox, site: httpx.Client, cogbuild: Door) -> None:
    """Each question has the answer of its command, as JSON in the described form and as text, stderr included."""
    a = model_of(box, "local/a")
    box.configure(adapters=[*box.settings["adapters"], "builtin:cog-test"])  # as every server has it
    for path, command, form in QUESTIONS:
        url, arguments = "/v2" + path.format(a=a[:12]), [word.format(a=a[:12]) for word in command]
        answered, said = site.get(url), cogbuild(*arguments, "--json")
        assert answered.status_code == 200, answered.text
        assert settled(answered.json()) == settled(said.json), path
        form.model_validate_json(answered.text, strict=True)
        url += ("&" if "?" in url else "?") + "columns=80"
        text, said = site.get(url, headers=TEXT), cogbuild(*arguments)
        assert steady(text.text) == steady(said.out), path
        assert steady(unquote(text.headers.get("Cogbuild-Stderr", ""))) == steady(said.err)


def steady(text: str) -> str:
    """Replace ages, which go on, and the room of a cache that is open."""
    return re.sub(r"\b\d+ ?s\b", "N s", re.sub(r"records, [\d.]+ .B", "records", text))


def settled(value: Any) -> Any:
    """Return JSON as it is written, but for the room of a cache that is open."""
    if isinstance(value, dict) and "records" in value:
        value["records"]["bytes"] = 0
    return json.loads(json.dumps(value, sort_keys=True))


def test_text_has_colours_where_they_are_asked_for(site: httpx.Client) -> None:
    """As on a terminal of that size."""
    text = site.get("/v2/status", params={"columns": 80, "lines": 20, "colour": 1}, headers=TEXT).text
    assert "\x1b[31m!" in text


def test_pages_of_models_and_of_the_matrix(box: Sandbox, site: httpx.Client) -> None:
    """A `Link` header leads on, and the pages together are the whole."""
    for number in range(5):
        box.add(f"m{number}", repo=f"many/m{number}")
    whole = [item["repo"] for item in site.get("/v2/models").json()["models"]]
    for url, key in (
        ("/v2/models", "models"),
        ("/v2/status", "models"),
        ("/v2/status?state=never+built", "models"),
    ):
        seen: list[str] = []
        at: str | None = url + ("&" if "?" in url else "?") + "limit=2"
        while at is not None:
            answered = site.get(at)
            seen += [item["repo"] for item in answered.json()[key]]
            link = answered.headers.get("link")
            at = link.partition(">")[0][1:] if link else None
        assert seen == whole


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("failed", ["local/a"]),
        ("not applicable", ["local/a"]),
        ("stale", ["local/a"]),
        ("never built", ["other/b", "local/a"]),  # nobody has tested the older one
        ("fresh", []),
        ("running", []),
    ],
)
def test_the_matrix_by_state(site: httpx.Client, state: str, expected: list[str]) -> None:
    """Only models with a pair that stands so."""
    found = site.get("/v2/status", params={"state": state}).json()
    assert [row["repo"] for row in found["models"] if not row["repo"].startswith("many/")] == expected
    assert found["more"] is False


def test_what_is_not_there(site: httpx.Client) -> None:
    """Unknown things are 404, what can't be meant is 422, both in the words of the command line."""
    unknown = site.get("/v2/explain/0123456789/count")
    assert (unknown.status_code, unknown.json()["text"]) == (
        404,
        "no model has the ID 0123456789\nhint: list the models with `cogbuild models ls`",
    )
    for path in ("/models?repo=no/body", "/status?adapter=nope", "/logs/nope", "/attempts/0123456/count"):
        assert site.get("/v2" + path).status_code == 404, path
    lost = site.get("/v2/models?after=0-1")
    assert (lost.status_code, lost.json()["text"]) == (
        422,
        "`after` names no place in a list: 0-1\nhint: take it from the `Link` header of the page before",
    )
    assert site.get("/v2/status?state=odd").status_code == 422


def test_a_log_by_the_name_of_its_attempt(box: Sandbox, site: httpx.Client) -> None:
    """Its bytes are as the adapter wrote them, and the events have them escaped, from any byte on."""
    a = model_of(box, "local/a")
    attempt = site.get(f"/v2/attempts/{a}/bad").json()["shown"]
    whole = site.get(f"/v2/logs/{attempt}")
    assert whole.content == b"over\x1b[31mwritten \xc3\xb6\nKeyError: vocab_size\n"
    assert whole.headers["content-type"] == "application/octet-stream"
    told = site.get(f"/v2/logs/{attempt}/events").text
    assert told == (
        'id: 41\ndata: {"text": "over\\\\x1b[31mwritten \\u00f6\\nKeyError: vocab_size\\n"}\n\n'
        f"event: end\ndata: {json.dumps(ending(box, attempt))}\n\n"
    )
    later = site.get(f"/v2/logs/{attempt}/events", headers={"Last-Event-ID": "20"}).text
    assert later.startswith('id: 41\ndata: {"text": "KeyError: vocab_size\\n"}\n\n')


def ending(box: Sandbox, attempt: str) -> dict[str, object]:
    """Return how an attempt ended."""
    with box.project() as project:
        found = history.attempt(project.con, attempt)
        assert found is not None
        return {"status": found.status, "seconds": found.seconds, "detail": found.detail}


def test_others_do_not_exist_for_a_token(box: Sandbox, site: httpx.Client) -> None:
    """Who may read one repo gets the answers that a project of this repo alone would give."""
    a, b = model_of(box, "local/a"), model_of(box, "other/b")
    attempt = site.get(f"/v2/attempts/{a}/bad").json()["shown"]
    with box.project() as project:
        token, row = make_token(project, "other/*", ["read"], seconds=None)
    site.headers["Authorization"] = f"Bearer {token}"
    try:
        only_theirs(site, a, b, attempt)
    finally:
        del site.headers["Authorization"]
        with box.project() as project:
            project.database.write(lambda con: tokens.drop(con, row.id))


def only_theirs(site: httpx.Client, a: str, b: str, attempt: str) -> None:
    """Ask for everything there is."""
    for path in ("/models", "/status", "/status?all=1", "/status?state=failed&state=never+built", "/plan"):
        said = site.get("/v2" + path)
        assert said.status_code == 200, said.text
        assert "local/a" not in said.text, path
        assert a not in said.text, path
    assert site.get("/v2/artifacts").json() == {"artifacts": []}
    assert site.get(f"/v2/explain/{b}/count").status_code == 200
    for path in (
        f"/models/{a}",
        f"/explain/{a}/bad",
        f"/attempts/{a}/bad",
        f"/logs/{attempt}",
        "/models?repo=local/a",
    ):
        hidden, missing = (
            site.get("/v2" + path),
            site.get("/v2" + path.replace(a, "f" * 40).replace(attempt, "f" * 18)),
        )
        assert (hidden.status_code, missing.status_code) == (404, 404), path
        if a in path or attempt in path:
            same = hidden.text.replace(a, "f" * 40).replace(attempt, "f" * 18)
            assert same == missing.text
    assert site.get("/v2/cache/stats").status_code == 403
