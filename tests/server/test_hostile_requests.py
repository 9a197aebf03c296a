"""What no text or number can be is refused in words, shown as everywhere, and breaks no answer for anybody else."""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from site_of_tests import CONFIG, PREDICT, Site, followed, put, zip_of

from cogbuild.digest import hexdigest
from cogbuild.fingerprint.trees import read_tree
from cogbuild.project import Project
from cogbuild.server.grants import make_token


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with an adapter."""
    return Site(tmp_path, "one")


@pytest.fixture
def client(site: Site) -> Iterator[httpx.Client]:
    """A client of a server of the site."""
    with site.client() as client:
        yield client


def test_a_password_that_is_no_text_is_a_wrong_one(site: Site, client: httpx.Client) -> None:
    """Nobody is let in by it."""
    with Project(site.data) as project:
        make_token(project, "*", ["read"], seconds=60)
    for value in (b"Basic \xe9\xe9", b"Basic 6Q==", b"Basic =", b"Bearer \xe9"):
        assert client.get("/v2/models", headers={b"Authorization": value}).status_code == 401


def test_an_origin_that_is_none_is_another_site(client: httpx.Client) -> None:
    """Nothing is changed for it."""
    refused = client.post("/v2/adapt", json={}, headers={"Origin": "http://["})
    assert (refused.status_code, refused.json()["error"]["error"]) == (403, "CrossSite")


WRONG = ['"\\ud800"', "NaN", "1e999", "-Infinity", '["\\u0000"]', "[" * 20_000, "[" * 66 + "]" * 66]


def test_parameters_that_could_not_be_read_back_are_refused(client: httpx.Client) -> None:
    """Nothing is kept of them, so the list of models stays readable for everybody."""
    model = put(client, zip_of("x"))[-1]["model"]["id"]
    for value in WRONG:
        refused = client.patch(f"/v2/models/{model}", json={"params": [f"one.x={value}"]})
        assert (refused.status_code, refused.json()["error"]["error"]) == (422, "BadParam"), value
    for more in ('{"adapters": ["\\ud800"]}', '{"cpu_image": "\\ud800"}', '{"\\ud800": 1}'):
        assert client.patch(f"/v2/models/{model}", content=more).status_code == 422, more
    kept = {"deep": [[["é", -1.5, None, True]]]}
    said = client.patch(f"/v2/models/{model}", json={"params": [f"one.x={json.dumps(kept)}"]})
    assert said.json() == {"models": client.get("/v2/models").json()["models"]}
    assert said.json()["models"][0]["params"] == {"one": {"x": kept}}


def test_wishes_that_are_no_text_are_refused(client: httpx.Client) -> None:
    """Half a character by the list of files; bytes that are no UTF-8 by whoever reads ``cog-adapters.yaml``."""
    body, model = sent(client, {b"cog.yaml": CONFIG, b"predict.py": PREDICT, b"weights.bin": "x"})
    url = "/v2/repos/ada/words/models"
    half = client.post(url, content=json.dumps({**body, "wishes": "\ud800"}))
    assert (half.status_code, half.json()["error"]["facts"]) == (422, {"problem": "wishes: text is wanted"})
    job = client.post(url, content=json.dumps({**body, "wishes": "# \udcff"})).json()["job"]
    assert followed(client, job)[-1][1]["event"]["error"]["error"] == "DeclarationNotText"
    job = client.post(url, content=json.dumps({**body, "wishes": "# é"})).json()["job"]
    assert followed(client, job)[-1][1]["event"]["exit_code"] == 0
    assert [item["model"] for item in client.get("/v2/models").json()["models"]] == [model]


def test_a_forms_secret_that_is_no_text_is_a_wrong_one(client: httpx.Client) -> None:
    """A form may come in a charset that has half characters."""
    body = b'--B\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n+2AA-\r\n--B--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=B; charset=utf-7"}
    assert client.post("/jobs/abc/cancel", content=body, headers=headers).status_code == 403


# -- names that are no UTF-8 -------------------------------------------------------------------------------------------


def sent(client: httpx.Client, files: dict[bytes, str]) -> tuple[dict[str, object], str]:
    """Send contents; return the list of them, and the ID of the model that they are."""
    entries: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as directory:
        for name, text in files.items():
            (Path(directory) / os.fsdecode(name)).write_text(text)
            digest = hexdigest(text.encode())
            client.put(f"/v2/objects/{digest}?repo=ada/words", content=text.encode())
            entries.append({"path": os.fsdecode(name), "kind": "f", "digest": digest, "size": len(text)})
        model = read_tree(Path(directory)).tree.model_id
    return {"model": model, "entries": entries}, model


FILES = {
    b"cog.yaml": CONFIG,
    b"predict.py": PREDICT,
    b"weights.bin": "x",
    b"f\xff.txt": "latin",
    "é.txt".encode(): "utf-8",
}


@pytest.mark.slow
def test_names_that_are_no_utf8_are_shown_and_come_back(client: httpx.Client) -> None:
    """In JSON as on a terminal; in a zip byte by byte, and sending that gives the same model."""
    body, model = sent(client, FILES)
    job = client.post("/v2/repos/ada/words/models", content=json.dumps(body)).json()["job"]
    assert followed(client, job)[-1][1]["event"]["exit_code"] == 0
    for path in (f"models/{model}", f"explain/{model}/one", f"attempts/{model}/one", "plan", "status"):
        assert client.get(f"/v2/{path}").status_code == 200
    assert r"f\xff.txt" in json.dumps(client.get(f"/v2/explain/{model}/one").json()).replace("\\\\", "\\")
    whole = client.get(f"/v1/repos/ada/words/packages/{model}.zip").content
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        assert archive.testzip() is None
        names = {item.orig_filename: bool(item.flag_bits & 0x800) for item in archive.infolist()}
    assert names[b"f\xff.txt".decode("cp437")] is False
    assert names["é.txt"] is True
    assert put(client, whole, "ada/again")[-1]["model"]["id"] == model
