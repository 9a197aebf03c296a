"""One user's repo is closed to another's token: whatever is asked about it sounds as if it were not there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from serving import asking, served

from cogbuild.database import jobs, models, pairs
from cogbuild.digest import hexdigest
from cogbuild.server.app import create_app
from cogbuild.server.grants import make_token
from cogbuild.server.service import Service

if TYPE_CHECKING:
    from conftest import Sandbox

    from cogbuild.project import Project

CONTENT = "what only ada's model holds"
#: Bodies of operations that want one.
BODIES: dict[str, dict[str, Any]] = {
    "POST /v2/adapt": {"models": ["{model}"]},
    "POST /v2/objects/missing": {"repo": "bob/other", "digests": ["{digest}"]},
}


def secrets_of(project: Project) -> tuple[dict[str, str], dict[str, str]]:
    """Return what there is of the repo ada/secret, by the names of path parameters, and the same of what never was."""
    entry = models.entries(project.con)[0]
    (outcome,) = pairs.outcomes(project.con, eids=[entry.eid]).values()
    user, _, name = entry.repo.partition("/")
    real = {
        "user": user,
        "name": name,
        "model": entry.model,
        "attempt": outcome.attempt,
        "job": jobs.listed(project.con)[0].id,
        "digest": hexdigest(CONTENT.encode()),
    }
    never = {name: re.sub(r"[0-9a-f]", "0", value) for name, value in real.items()}
    return real, never | {"user": "nobody", "name": "nothing"}


def test_who_starts_a_job_may_follow_and_cancel_it(box: Sandbox) -> None:
    """A token that may push and nothing else hears of its own jobs, and of no other's."""
    with box.project() as project:
        service = Service(project)
        token, row = make_token(project, "ada/secret", ["push"], seconds=60)
        with served(create_app(service), lifespan="on") as (host, port):
            asked = {
                "models": [],
                "repos": ["ada/secret"],
                "adapters": [],
                "force": False,
                "fail_fast": False,
            }
            mine, other = (
                service.jobs.submit("adapt", {**asked, "jobs": None}, repo="ada/secret", owner=owner).id
                for owner in (row.id, "somebody")
            )
            headers = {"Authorization": f"Bearer {token}"}
            with httpx.Client(
                base_url=f"http://{host}:{port}/v2/jobs", headers=headers, timeout=20
            ) as client:
                assert client.get(f"/{mine}").json()["job"] == mine
                assert client.get(f"/{mine}/events").text.startswith("id: 1\n")
                assert client.delete(f"/{mine}").status_code == 409  # it has ended
                said = [client.get(f"/{other}"), client.get(f"/{other}/events"), client.delete(f"/{other}")]
                assert [item.status_code for item in said] == [404, 404, 404]


def test_pages_of_jobs_count_only_those_that_may_be_read(box: Sandbox) -> None:
    """However many others have, the pages are full and end, and what leads from one to the next is an ID."""
    with box.project() as project:
        service = Service(project, backfill="off")
        with served(create_app(service), lifespan="on") as (host, port):
            token, row = make_token(project, "bob/other", ["read", "adapt"], seconds=60)

            def submit(owner: str) -> str:
                return service.jobs.submit("adapt", {}, repo="ada/secret", owner=owner).id

            for _ in range(3):
                submit("somebody")
            mine = []
            for _ in range(3):
                mine.append(submit(row.id))
                submit("somebody")
            other = submit("somebody")
            headers = {"Authorization": f"Bearer {token}"}
            with httpx.Client(base_url=f"http://{host}:{port}", headers=headers, timeout=20) as client:
                first = client.get("/v2/jobs?limit=2").json()
                assert ([job["job"] for job in first["jobs"]], first["next"]) == ([mine[2], mine[1]], mine[1])
                second = client.get(f"/v2/jobs?limit=2&before={first['next']}").json()
                assert ([job["job"] for job in second["jobs"]], second["next"]) == ([mine[0]], None)
                assert client.get(f"/v2/jobs?before={other}").status_code == 404
                assert "Older" not in client.get("/jobs", headers={"Accept": "text/html"}).text


def filled(value: Any, by: dict[str, str]) -> Any:
    """Return a path or a body with parameters put in."""
    if isinstance(value, dict):
        return {key: filled(item, by) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, by) for item in value]
    for name, text in {**by, "adapter": "card"}.items():
        value = value.replace("{" + name + "}", text) if isinstance(value, str) else value
    return value


@pytest.mark.slow
def test_a_foreign_token_learns_nothing_from_any_operation(box: Sandbox) -> None:
    """Each operation answers about a foreign model, attempt, job, digest or repo as about one that never was."""
    box.add("secret", {"weights": CONTENT}, repo="ada/secret")
    box.add("other", {"mine": "1"}, repo="bob/other")
    box.adapter("card")
    box.adapt()
    with box.project() as project:
        service = Service(project)
        with served(create_app(service), lifespan="on") as (host, port):
            service.jobs.submit(
                "adapt", {"models": [], "repos": ["ada/secret"]}, repo="ada/secret", owner="x"
            )
            secret = next(item for item in models.entries(project.con) if item.repo == "ada/secret")
            project.database.write(
                lambda con: con.execute("UPDATE entries SET added = added + 9 WHERE eid = ?", (secret.eid,))
            )
            real, never = secrets_of(project)
            headers = {
                "Authorization": f"Bearer {make_token(project, 'bob/other', ['admin'], seconds=60)[0]}"
            }
            with asking(host, port, headers=headers, timeout=20) as client:
                described = client.get("/openapi.json").json()["paths"]
                asked = [
                    (method.upper(), path)
                    for path, operations in described.items()
                    for method in operations
                    if f"{method.upper()} {path}" in BODIES or re.search(r"\{(?!adapter)", path)
                ]
                assert len(asked) > 15
                for method, path in asked:
                    body = BODIES.get(f"{method} {path}")
                    said = [
                        client.request(method, filled(path, by), json=filled(body, by))
                        for by in (real, never)
                    ]
                    texts = [_plain(item.text, by) for item, by in zip(said, (real, never), strict=True)]
                    assert said[0].status_code == said[1].status_code, f"{method} {path}: {said[0].text}"
                    assert texts[0] == texts[1], f"{method} {path}"
                content, repo = b"x", "?repo={user}/{name}"
                listed = b'[["%s", 1]]\nx' % hexdigest(content).encode()
                for verb, where, sent in (
                    ("POST", "/v2/objects" + repo, listed),
                    ("PUT", f"/v2/objects/{hexdigest(content)}{repo}", content),
                ):
                    said = [client.request(verb, filled(where, by), content=sent) for by in (real, never)]
                    assert said[0].status_code == said[1].status_code == 404, said[0].text
                    assert _plain(said[0].text, real) == _plain(said[1].text, never), where
                    assert said[0].json()["text"] == "there is no repo ada/secret that this token may push to"
                # What lists tells nothing of it either.
                for path in ("/v2/models", "/v2/status", "/v2/artifacts", "/v2/plan", "/v2/jobs"):
                    said_of_all = client.get(path)
                    assert said_of_all.status_code in (200, 403), path
                    assert real["model"][:7] not in said_of_all.text, path
                    assert "ada/secret" not in said_of_all.text, path
        assert [item.repo for item in models.entries(project.con)] == ["ada/secret", "bob/other"]


def _plain(text: str, by: dict[str, str]) -> str:
    """Return an answer without what was asked for in it."""
    for name, value in sorted(by.items(), key=lambda item: -len(item[1])):
        text = text.replace(value, f"<{name}>")
    return text
