"""Who may do what is judged before a body is read, and what may not be read does not seem to exist."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from serving import asking, served

from cogbuild.database import tokens
from cogbuild.errors import CogbuildError
from cogbuild.server import access
from cogbuild.server.access import Guard, Guarded, is_loopback, needs
from cogbuild.server.grants import make_token

if TYPE_CHECKING:
    from conftest import Sandbox

    from cogbuild.project import Project

router = APIRouter(route_class=Guarded)


@router.put("/repos/{user}/{name}")
@needs("push")
async def put(user: str, name: str, request: Request) -> dict[str, int | str]:
    """Read a body."""
    return {"repo": f"{user}/{name}", "bytes": len(await request.body())}


@router.get("/repos/{user}/{name}")
@needs("read")
def get(user: str, name: str) -> dict[str, str]:
    """Say something that only readers may know."""
    return {"repo": f"{user}/{name}"}


@router.get("/site")
@needs("read", everywhere=True)
def site() -> dict[str, bool]:
    """Say something of every repo."""
    return {"here": True}


@router.get("/long")
@needs("read")
async def long() -> StreamingResponse:
    """Go on for ever."""

    async def said() -> AsyncIterator[bytes]:
        while True:
            yield b"."
            await asyncio.sleep(0.02)

    return StreamingResponse(said())


@router.get("/own")
@needs("read")
def own(request: Request) -> dict[str, str]:
    """Say who asks."""
    return {"token": request.state.grant.token}


def answer(error: Exception) -> JSONResponse:
    """Return what an error becomes."""
    return JSONResponse({"text": str(error)}, getattr(type(error), "status", 422))


def app_over(project: Project, *, always: bool = False) -> FastAPI:
    """Return a small application behind the guard."""
    app = FastAPI()
    app.include_router(router)
    app.add_exception_handler(CogbuildError, lambda _request, error: answer(error))
    app.add_middleware(
        Guard,
        project=project,
        always=always,
        refuse=lambda _scope, error: answer(error),
    )
    return app


@pytest.fixture
def project(box: Sandbox) -> Iterator[Project]:
    """A project that is there."""
    with box.project() as project:
        project.make()
        yield project


@pytest.fixture
def client(project: Project) -> Iterator[httpx.Client]:
    """A client of the small application."""
    with served(app_over(project)) as (host, port), asking(host, port) as client:
        yield client


def bearer(project: Project, repos: str, *can: str) -> dict[str, str]:
    """Return the header of a new token."""
    return {"Authorization": f"Bearer {make_token(project, repos, can, seconds=60)[0]}"}


def test_without_tokens_the_own_machine_may_do_all(client: httpx.Client) -> None:
    """On loopback names everything is granted; another name that leads here is refused."""
    assert client.put("/repos/ada/shop", content=b"abc").json() == {"repo": "ada/shop", "bytes": 3}
    assert client.get("/site", headers={"Host": "localhost"}).json() == {"here": True}
    refused = client.get("/site", headers={"Host": "rebound.example"})
    assert refused.status_code == 403
    assert refused.json()["text"].startswith(
        "without tokens this server answers on its own machine's names only"
    )


def test_the_first_token_closes_the_door(project: Project, client: httpx.Client) -> None:
    """As soon as there is one token, one is asked for."""
    assert client.get("/own").json() == {"token": "local"}
    headers = bearer(project, "*", "read")
    refused = client.get("/own")
    assert (refused.status_code, refused.json()["text"].splitlines()[0]) == (
        401,
        "this server asks for a token",
    )
    assert client.get("/own", headers=headers).status_code == 200


def test_an_answer_that_goes_on_ends_with_its_token(
    project: Project, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever follows a log hears no more of it then; another token's answer goes on."""
    monkeypatch.setattr(access, "_AGAIN", 0.05)
    text, row = make_token(project, "*", ["read"], seconds=60)
    with (
        client.stream("GET", "/long", headers={"Authorization": f"Bearer {text}"}) as ending,
        client.stream("GET", "/long", headers=bearer(project, "*", "read")) as other,
    ):
        heard, others = ending.iter_raw(), other.iter_raw()
        for _ in range(10):
            assert set(next(heard)) == set(b".")
        project.database.write(lambda con: tokens.drop(con, row.id))
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
            for _ in heard:
                pass
        for _ in range(10):
            assert set(next(others)) == set(b".")


#: Repos and actions of a token, what is asked with it, and the answer.
JUDGED = [
    ("ada/shop", "push,read", "PUT /repos/ada/shop", 200),
    ("ada/*", "push,read", "PUT /repos/ada/shop", 200),
    ("*", "admin", "PUT /repos/ada/shop", 200),
    ("ada/shop", "read", "PUT /repos/ada/shop", 403),
    ("ada/shop", "push,read", "PUT /repos/ada/other", 404),
    ("ada/*", "admin", "PUT /repos/adam/shop", 404),
    ("ada/shop", "push", "GET /repos/ada/shop", 404),
    ("ada/shop", "read", "GET /repos/bob/shop", 404),
    ("*", "read", "GET /site", 200),
    ("ada/*", "admin", "GET /site", 403),
    ("ada/shop", "push", "GET /own", 403),
]


def test_a_grant_is_for_actions_in_repos(project: Project, client: httpx.Client) -> None:
    """What may be read but not done is forbidden; what may not be read is not there."""
    for repos, can, asked, status in JUDGED:
        said = client.request(*asked.split(), headers=bearer(project, repos, *can.split(",")))
        assert said.status_code == status, (repos, can, asked)


def test_what_may_not_be_read_has_the_words_of_what_is_not_there(
    project: Project, client: httpx.Client
) -> None:
    """A foreign repo that exists and one that does not are answered alike."""
    headers = bearer(project, "ada/shop", "read")
    said = [client.get(f"/repos/{repo}", headers=headers).text for repo in ("bob/real", "bob/none")]
    assert said[0].replace("real", "none") == said[1]


def test_what_is_no_token_is_refused(project: Project, client: httpx.Client) -> None:
    """Anything else that is sent as a token is unknown, never a failure."""
    bearer(project, "*", "read")
    wrong = "cogb_0123456789_" + "A" * 43
    for header in ("Bearer", "Bearer x", "Basic !!!", "Basic eDp5", f"Bearer {wrong}", "Nonsense é"):
        said = client.get("/own", headers={b"Authorization": header.encode()})
        assert said.status_code == 401, header


def test_a_password_and_a_cookie_carry_a_token_too(project: Project, client: httpx.Client) -> None:
    """`curl -u any:TOKEN` works, and so does a browser's cookie."""
    token = make_token(project, "*", ["read"], seconds=60)[0]
    assert client.get("/own", auth=("any", token)).status_code == 200
    assert client.get("/own", headers={"Cookie": f"a=b; cogbuild_token={token}"}).status_code == 200


def test_pages_of_other_sites_change_nothing(client: httpx.Client) -> None:
    """What a browser says comes from another site is not carried out; reading is the browser's business."""
    for headers in (
        {"Origin": "http://elsewhere.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        assert client.put("/repos/ada/shop", headers=headers).status_code == 403, headers
        assert client.get("/repos/ada/shop", headers=headers).status_code == 200, headers
    own = {"Origin": str(client.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    assert client.put("/repos/ada/shop", headers=own).status_code == 200


def test_an_endpoint_that_does_not_say_what_it_needs_does_not_come_to_be() -> None:
    """Forgetting the judgement is an error when the program starts."""

    def endpoint() -> None: ...

    with pytest.raises(TypeError, match="endpoint does not say what it needs"):
        APIRouter(route_class=Guarded).get("/")(endpoint)


def test_is_loopback() -> None:
    """Only this machine's own names and addresses are nobody else's."""
    assert [is_loopback(name) for name in ("localhost", "127.0.0.1", "127.8.9.1", "::1", "[::1]")] == [
        True
    ] * 5
    assert not any(
        map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "localhost.example", "", "127.0.0.1.example"))
    )


@pytest.mark.parametrize(
    ("headers", "path", "status"),
    [
        (lambda _project: {}, "/repos/ada/shop", b"401"),
        (lambda project: bearer(project, "ada/shop", "read"), "/repos/ada/shop", b"403"),
        (lambda project: bearer(project, "ada/shop", "read", "push"), "/repos/bob/shop", b"404"),
    ],
)
def test_the_answer_comes_before_the_body(
    project: Project, headers: Callable[[Project], dict[str, Any]], path: str, status: bytes
) -> None:
    """A request that only announces its body is answered at once when it may not be."""
    given = headers(project)
    with (
        served(app_over(project, always=True)) as (host, port),
        socket.create_connection((host, port), timeout=5) as con,
    ):
        lines = [f"PUT {path} HTTP/1.1", f"Host: {host}:{port}", "Content-Length: 1000000000"]
        lines += [f"{name}: {value}" for name, value in given.items()]
        con.sendall("\r\n".join([*lines, "", ""]).encode())
        assert con.recv(4096).split()[1] == status
