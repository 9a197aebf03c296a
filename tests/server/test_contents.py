"""Artifacts are downloaded over HTTP: whole and as they were made, or not to their end."""

from __future__ import annotations

import contextlib
import html
import io
import os
import re
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from serving import asking, served

from cogbuild.database import pairs
from cogbuild.server.app import create_app
from cogbuild.server.grants import make_token
from cogbuild.server.service import Service
from cogbuild.using import alone

if TYPE_CHECKING:
    from conftest import Sandbox

    from cogbuild.project import Project


@pytest.fixture
def project(box: Sandbox) -> Iterator[Project]:
    """A project with one model."""
    box.add("shop")
    with box.project() as project:
        yield project


def adapter(box: Sandbox, name: str, script: str) -> None:
    """Write a shell adapter and run it."""
    box.adapter(name, f"#!/bin/sh\n{script}\n")
    box.adapt()


@pytest.fixture
def client(project: Project) -> Iterator[httpx.Client]:
    """A client of its server."""
    with (
        served(create_app(Service(project, backfill="off")), lifespan="on") as (host, port),
        asking(host, port) as client,
    ):
        yield client


def model(project: Project) -> str:
    """Return the ID of the model."""
    row = project.con.execute("SELECT id FROM models").fetchone()
    return str(row[0])


def test_a_file_is_sent_as_it_was_made(box: Sandbox, project: Project, client: httpx.Client) -> None:
    """Its bytes, its name, its size; a browser is told to keep it and not to show it."""
    adapter(
        box,
        "page",
        'printf "<script>1</script>" > "$COG_OUTPUT_DIR/é 1.html"\necho "$COG_OUTPUT_DIR/é 1.html"',
    )
    said = client.get(f"/v2/artifacts/{model(project)[:7]}/page/content")
    assert (said.status_code, said.text) == (200, "<script>1</script>")
    assert said.headers["content-disposition"] == (
        "attachment; filename=\"__1.html\"; filename*=UTF-8''%C3%A9%201.html"
    )
    assert said.headers["content-type"] == "application/octet-stream"
    assert said.headers["content-length"] == "18"


def test_a_directory_is_sent_as_a_zip_the_same_each_time(
    box: Sandbox, project: Project, client: httpx.Client
) -> None:
    """With its modes and links."""
    adapter(
        box, "folder", 'cd "$COG_OUTPUT_DIR"; mkdir d; echo a > d/a; chmod +x d/a; ln -s a d/b; echo "$PWD/d"'
    )
    url = f"/v2/artifacts/{model(project)}/folder/content"
    first = client.get(url)
    assert first.content == client.get(url).content
    with zipfile.ZipFile(io.BytesIO(first.content)) as archive:
        modes = {item.filename: item.external_attr >> 16 for item in archive.infolist()}
        assert modes == {"a": 0o100755, "b": 0o120777}
        assert (archive.read("a"), archive.read("b")) == (b"a\n", b"a")


def test_what_was_damaged_is_not_sent_to_its_end(
    box: Sandbox, project: Project, client: httpx.Client
) -> None:
    """A flipped bit breaks the answer off, and the artifact counts as lost from then on."""
    adapter(box, "big", 'head -c 3000000 /dev/zero > "$COG_OUTPUT_DIR/big"\necho "$COG_OUTPUT_DIR/big"')
    url = f"/v2/artifacts/{model(project)}/big/content"
    assert len(client.get(url).content) == 3_000_000
    (kept,) = project.objects.artifacts.rglob("big")
    whole = kept.read_bytes()
    kept.chmod(0o644)
    kept.write_bytes(whole[:-1] + b"1")
    with pytest.raises(httpx.RemoteProtocolError):
        client.get(url)
    lost = client.get(url)
    assert lost.status_code == 422
    assert "its content changed" in lost.json()["text"]
    box.adapt(force=True)
    assert client.get(url).content == whole


@pytest.mark.slow
def test_who_stops_reading_stops_nobody_else(box: Sandbox, project: Project, client: httpx.Client) -> None:
    """`cache gc` collects meanwhile; an open file is sent to its end all the same, and closed when its reader has gone."""
    adapter(box, "big", 'head -c 30000000 /dev/zero > "$COG_OUTPUT_DIR/big"\necho "$COG_OUTPUT_DIR/big"')
    adapter(
        box,
        "dir",
        'mkdir "$COG_OUTPUT_DIR/d"; cd "$COG_OUTPUT_DIR/d"; head -c 30000000 /dev/zero > large; echo "$PWD"',
    )

    def begun(name: str) -> socket.socket:
        con = socket.create_connection((client.base_url.host, client.base_url.port or 0), 20)
        path = f"/v2/artifacts/{model(project)}/{name}/content"
        con.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        assert con.recv(100).startswith(b"HTTP/1.1 200 ")
        return con

    def held() -> int:
        places = []
        for item in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                places.append(os.readlink(item))
        return sum(place.startswith(str(project.objects.artifacts)) for place in places)

    with begun("big") as whole, begun("big") as gone, begun("dir") as folder:
        time.sleep(0.3)  # until no more goes into the connections
        assert held() == 3
        with alone(project.data) as collects:
            assert collects
        gone.close()
        folder.close()
        deadline = time.monotonic() + 10
        while held() > 1 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert held() == 1
        (kept,) = project.objects.artifacts.rglob("big")
        kept.unlink()
        size = 0
        while data := whole.recv(1 << 20):
            size += len(data)
        assert 30_000_000 < size < 30_002_000
        kept.write_bytes(bytes(30_000_000))  # the store is looked through at the end of each test


class Elsewhere(BaseHTTPRequestHandler):
    """A server that adapters upload to."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"from elsewhere")

    def log_message(self, *_: object) -> None: ...


def test_what_lies_elsewhere_is_fetched_only_where_that_is_allowed(
    box: Sandbox, project: Project, client: httpx.Client
) -> None:
    """Neither another host nor a file of the server's machine, unless the settings name scheme and host."""
    other = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=other.serve_forever, args=(0.01,)).start()
    try:
        origin = f"http://127.0.0.1:{other.server_port}"
        adapter(box, "remote", f"echo {origin}/model.bin")
        adapter(box, "local", "echo file:///etc/passwd")
        urls = [f"/v2/artifacts/{model(project)}/{name}/content" for name in ("remote", "local")]
        for url in urls:
            refused = client.get(url)
            assert refused.status_code == 403
            assert refused.json()["text"].startswith("this server does not fetch ")
        box.configure(server={"fetch": [origin]})
        project.reread()
        assert client.get(urls[0]).content == b"from elsewhere"
        assert client.get(urls[1]).status_code == 403
        assert list((project.data / "uploads").iterdir()) == []
    finally:
        other.shutdown()
        other.server_close()


def test_one_of_several_is_chosen_by_name(box: Sandbox, project: Project, client: httpx.Client) -> None:
    """Without a name the names are said."""
    adapter(
        box,
        "two",
        'for n in a b; do echo $n > "$COG_OUTPUT_DIR/$n"; '
        'printf \'{"name": "%s", "uri": "%s"}\\n\' $n "$COG_OUTPUT_DIR/$n" >> "$COG_ARTIFACTS_FILE"; done',
    )
    url = f"/v2/artifacts/{model(project)}/two/content"
    assert "a, b" in client.get(url).json()["text"]
    assert client.get(url, params={"name": "b"}).text == "b\n"


def test_a_foreign_artifact_is_not_there(box: Sandbox, project: Project, client: httpx.Client) -> None:
    """To a token of another repo it is as unknown as a model that never was."""
    adapter(box, "card", 'echo a > "$COG_OUTPUT_DIR/a"\necho "$COG_OUTPUT_DIR/a"')
    headers = {"Authorization": f"Bearer {make_token(project, 'bob/other', ['admin'], seconds=60)[0]}"}
    real = model(project)
    never = "0" * 40
    said = [client.get(f"/v2/artifacts/{name}/card/content", headers=headers) for name in (real, never)]
    assert [item.status_code for item in said] == [404, 404]
    assert said[0].text.replace(real, never) == said[1].text
    assert pairs.outcomes(project.con)


def test_the_page_of_a_pair_leads_to_what_was_made(
    box: Sandbox, project: Project, client: httpx.Client
) -> None:
    """What cogbuild keeps can be downloaded from there; what somebody else keeps is named and no more."""
    adapter(box, "kept", 'echo a > "$COG_OUTPUT_DIR/a"\necho "$COG_OUTPUT_DIR/a"')
    adapter(box, "remote", "echo https://models.example/m.bin")
    page = f"/pairs/local/shop/{model(project)[:12]}"
    kept = client.get(f"{page}/kept").text
    (link,) = re.findall(r'href="(/v2/artifacts/[^"]*)"', kept)
    assert client.get(html.unescape(link)).text == "a\n"
    remote = client.get(f"{page}/remote").text
    assert "https://models.example/m.bin" in remote
    assert "/v2/artifacts/" not in remote
