"""What becomes of an upload?"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import resource
import shutil
import socket
import sqlite3
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from site_of_tests import TEST, Site, eventually, followed, listed, put, zip_of

from cogbuild.digest import hexdigest
from cogbuild.environment import python
from cogbuild.fingerprint.trees import read_tree
from cogbuild.project import Project
from cogbuild.server import backfill, batches, intake
from cogbuild.server.grants import make_token
from cogbuild.server.trees import read_sent
from cogbuild.server.v2 import uploads


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with two adapters."""
    return Site(tmp_path, "one", "two")


@pytest.fixture
def client(site: Site) -> Iterator[httpx.Client]:
    """A client of a server of the site."""
    with site.client() as client:
        yield client


def test_an_upload_is_tested_let_in_and_built(site: Site, client: httpx.Client) -> None:
    """The messages come as they did in 2021, and the model is the last of them."""
    said = put(client, zip_of("x"))
    assert [set(message) for message in said] == [{"type", "data", "model"}] * len(said)
    assert [message["data"] for message in said if message["type"] == "log_line"] == ["copying"] * 2
    model = said[-1]["model"]
    assert [item["target"] for item in model["artifacts"]] == ["one", "two"]
    assert model["run_arguments"] == {"text": {"type": "str", "default": None}}
    assert model["config"]["predict"] == model["config"]["model"] == "predict.py:Predictor"
    assert listed(client) == [model]
    assert client.get(f"/v1/repos/ada/words/packages/{model['id']}").json() == model
    assert site.ran() == ["words one", "words test", "words two"]
    assert client.get("/ping").text == "pong"


@pytest.mark.slow
def test_what_uploads_built_is_counted_as_done(tmp_path: Path) -> None:
    """No run of everything has to come by: numbers and page say at once how the pairs of uploads stand."""
    site = Site(tmp_path, "one", "two", "bad")
    site.adapter("bad", "#!/bin/sh\nexit 3\n")
    with site.client() as client:
        put(client, zip_of("x"))
        for _ in range(2):
            put(client, zip_of("y"), adapter="one")
        numbers = client.get("/metrics").text
        page = client.get("/").text
    stands: dict[str, dict[str, float]] = {name: {} for name in site.names}
    for name, state, value in re.findall(r'cogbuild_pairs{adapter="(.+)",state="(\w+)"} (\S+)', numbers):
        if float(value):
            stands[name][state] = float(value)
    assert stands == {"cog-test": {}, "one": {"settled": 2}, "two": {"settled": 1}, "bad": {"failed": 1}}
    totals = re.sub(r"<[^>]+>|\s+", " ", page)
    assert re.search(r"3 +done +1 +failed +0 +blocked +0 +waiting", totals), totals[:1500]


@pytest.mark.slow
def test_what_is_fresh_waits_for_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a model wants was changed and changed back: it is looked at by itself, and nothing of it has to be done."""
    monkeypatch.setattr(backfill, "INTERVAL", 0.1)
    with site.client() as client:
        model = put(client, zip_of("x"))[-1]["model"]["id"]
        for wish in ({"adapters": ["one"]}, {"all_adapters": True}):
            assert client.patch(f"/v2/models/{model}", json=wish).status_code == 200
        eventually(
            lambda: 'cogbuild_pairs{adapter="two",state="settled"} 1.0' in client.get("/metrics").text, 20
        )
        numbers = client.get("/metrics").text
        assert not re.search(r'state="(waiting|unseen)"} [^0]', numbers)
    assert site.ran() == ["words one", "words test", "words two"]


def test_an_upload_to_another_place_is_refused(site: Site, client: httpx.Client) -> None:
    """Where artifacts are not at the place that the settings name by now, none are called fresh, and none added there."""
    put(client, zip_of("x"))
    (site.root / "cogbuild.yaml").write_text(f"artifact_store: file://{site.root}/elsewhere\n")
    for data in ("x", "y"):
        assert put(client, zip_of(data))[-1]["data"].startswith(
            "artifact_store was changed, and 3 of 3 artifacts"
        )
    assert len(listed(client)) == 1
    (site.root / "cogbuild.yaml").unlink()
    assert put(client, zip_of("x"))[-1]["type"] == "model"


def test_an_unchanged_upload_runs_nothing(site: Site, client: httpx.Client) -> None:
    """What is there already is answered from what was made."""
    first = put(client, zip_of("x"))[-1]["model"]
    site.ran()
    said = put(client, zip_of("x"))
    assert [message["type"] for message in said] == ["status", "model"]
    assert said[-1]["model"] == first
    assert site.ran() == []


def test_a_failed_test_lets_nothing_in(site: Site, client: httpx.Client) -> None:
    """What was said of it is kept, and the model is nowhere."""
    said = put(client, zip_of("fail"))
    attempt = said[-1]["data"].split("attempt  ")[1][:18]
    model = said[2]["data"].split("@")[1][:12]
    assert said[-1] == {
        "type": "error",
        "data": f"the model's test failed, so {model} was not let into ada/words\n"
        f"  because  cog-test failed on ada/words@{model} after 0.0 s\n"
        "  it said  example 1: the output is 2, not 1\n"
        f"  attempt  {attempt}\n"
        f"hint: `cogbuild logs {model} cog-test --server URL` shows all that it said; to try it where the model is: "
        f"`cogbuild models add DIR`, then `cogbuild adapters test builtin:cog-test --model {model}`",
        "model": None,
    }
    assert listed(client) == []
    assert client.get(f"/v1/repos/ada/words/packages/{model}").status_code == 404
    assert "the output is 2" in (site.data / "logs" / f"{attempt}.log").read_text()
    assert site.ran() == ["words test"]
    assert put(client, zip_of("fail"))[-1]["type"] == "error"  # and it is tried again
    assert site.ran() == ["words test"]
    assert_untold(client, model)
    pair = client.get(f"/pairs/ada/words/{model}/cog-test", headers={"Accept": "text/html"}).text
    assert '<span class="badge is-failed">' in pair.partition('id="lead"')[0]


def assert_untold(client: httpx.Client, model: str) -> None:
    """Pages and `explain` say no more of a model that is in no list than is known: whether it ever was is not."""
    why = "the model was removed, or never let in"
    page, pair = (
        client.get(at, headers={"Accept": "text/html"}).text
        for at in (f"/models/ada/words/{model}", f"/pairs/ada/words/{model}/cog-test")
    )
    facts = dict(re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", page))
    assert list(facts) == ["came", "listed", "files", "predictor", "python"]
    assert facts["listed"] == f"no: {why}"
    assert f"None is judged: {why}." in page
    assert f"It is not judged: {why}." in pair
    said = client.get(f"/v2/explain/{model}/cog-test", headers={"Accept": "text/plain"}).text
    assert said.startswith(f"ada/words@{model}:cog-test is not judged: {why}\n")


def test_a_model_that_was_let_go_of(client: httpx.Client) -> None:
    """It is told of in the same words."""
    model = put(client, zip_of("gone"), adapter="one")[-1]["model"]["id"]
    assert client.delete(f"/v1/repos/ada/words/packages/{model}").status_code == 200
    assert_untold(client, model[:12])


def test_an_image_that_fails_lets_nothing_in(tmp_path: Path) -> None:
    """The error and its hint are about the image, not about the test that was never begun."""
    site = Site(tmp_path, "docker-cpu")
    site.adapter("cog-test", TEST, "needs: [docker-cpu]\n")
    site.adapter("docker-cpu", "#!/bin/sh\necho no room >&2\nexit 3\n")
    with site.client() as client:
        said = put(client, zip_of("x"))[-1]["data"]
        assert listed(client) == []
    assert said.startswith("the model's image failed, so ")
    assert "  it said  no room\n" in said
    assert re.search(
        r"hint: `cogbuild logs \w+ docker-cpu --server URL` .+ test builtin:docker-cpu --model", said
    )


def test_a_failed_adapter_fails_its_artifact_alone(client: httpx.Client) -> None:
    """The model is there with what could be made of it."""
    said = put(client, zip_of("break"))
    assert said[-1]["model"]["artifacts"] == []
    assert sum(message["data"].startswith("failed ") for message in said) == 2
    assert len(listed(client)) == 1


def test_an_upload_may_choose_adapters(site: Site, client: httpx.Client) -> None:
    """Its choice is the model's from then on; what is unknown is refused before anything is stored."""
    said = put(client, zip_of("x"), adapter="two")
    assert [item["target"] for item in said[-1]["model"]["artifacts"]] == ["two"]
    put(client, zip_of("x"))
    assert site.ran() == ["words test", "words two"]
    put(client, zip_of("x"), adapter="one")
    assert site.ran() == ["words one"]
    assert put(client, zip_of("y"), adapter="three") == [
        {
            "type": "error",
            "data": "no adapter is called three\n  active  cog-test, one, two\n"
            "hint: list them with `cogbuild adapters ls`",
            "model": None,
        }
    ]


def test_what_an_upload_changes_of_a_models_wishes_is_said(client: httpx.Client) -> None:
    """A choice that lasts, and an edited file that is not heard: each is said where it is so, and only there."""

    def notes(wishes: str, **chosen: Any) -> list[str]:
        said = put(client, zip_of("x", **{"cog__adapters.yaml": wishes}), **chosen)
        return [item["data"] for item in said if item["type"] == "status" and "note" in item["data"]]

    def wants(names: str) -> str:
        return (
            f"note: from now on the model wants {names} and nothing else; `cogbuild models set` changes that"
        )

    assert notes("adapters: [one]") == notes("adapters: [one]", adapter="one") == []
    assert notes("adapters: [one]", adapter=["two", "one"]) == [wants("one, two")]
    assert notes("adapters: [one]", adapter="two") == []
    (unheard,) = notes("adapters: [two]")
    assert unheard.endswith("is not read again; change what it wants with `cogbuild models set`")
    put(client, zip_of("y"))
    assert notes("adapters: [one, two]") == []
    said = put(client, zip_of("z"), adapter="two")
    assert said[1]["data"] == wants("two")


def test_a_mistyped_wish_is_told_of(client: httpx.Client) -> None:
    """As the command here says it, in JSON too; what excludes each other is refused and not half heard."""
    at = f"/v2/models/{put(client, zip_of('x'))[-1]['model']['id']}"
    for accept in ("text/plain", "application/json"):
        asked = {"adapters": ["onee", "two"], "params": ["two.level=1", "tow.level=1"]}
        answer = client.patch(at, json=asked, headers={"Accept": accept})
        assert unquote(answer.headers["Cogbuild-Stderr"]) == (
            "note: no active adapter is called onee; closest: one\n"
            "note: no active adapter is called tow; closest: two\n"
            "note: two declares no parameter level\n"
        )
    many = client.patch(
        at, json={"adapters": [f"{number:03d}" + "\U0001f600" * 197 for number in range(1000)]}
    )
    assert len(many.headers["Cogbuild-Stderr"]) < 10_000
    both = client.patch(at, json={"adapters": ["one"], "all_adapters": True})
    assert (both.status_code, "exclude each other" in both.json()["text"]) == (422, True)
    assert len(client.get(at).json()["models"][0]["adapters"]) == 1000
    every = client.patch(at, json={"adapters": [], "all_adapters": True})
    assert every.json()["models"][0]["adapters"] is None


def test_the_test_stands_also_where_adapters_are_chosen(client: httpx.Client) -> None:
    """Each model was tested when it came: that is shown and explained, whichever adapters the model names."""
    for weights, chosen in (("x", {}), ("y", {"adapter": "one"})):
        model = put(client, zip_of(weights), **chosen)[-1]["model"]["id"]
        pairs = {"cog-test": "fresh", "one": "fresh"} | ({} if chosen else {"two": "fresh"})
        for path in ("/v2/status", "/v2/status?all=1", "/v2/status?state=fresh"):
            rows = {item["model"]: item["pairs"] for item in client.get(path).json()["models"]}
            assert {pair["adapter"]: pair["state"] for pair in rows[model]} == pairs
        (pair,) = client.get(f"/v2/explain/{model}/cog-test").json()["pairs"]
        assert (pair["verdict"], pair["unjudged"]) == ("fresh", None)
        page = client.get(f"/models/ada/words/{model}").text
        assert f'href="/pairs/ada/words/{model[:12]}/cog-test"' in page


def test_a_models_own_wishes_choose_adapters(client: httpx.Client) -> None:
    """``cog-adapters.yaml`` in the upload is heard."""
    said = put(client, zip_of("x", **{"cog__adapters.yaml": "adapters: [one]\n"}))
    assert [item["target"] for item in said[-1]["model"]["artifacts"]] == ["one"]


def test_the_zip_that_comes_back_is_the_same_every_time(client: httpx.Client) -> None:
    """It has the same bytes, and adding it gives the same model."""
    model = put(client, zip_of("x", **{"deep/er.txt": "y"}))[-1]["model"]["id"]
    first, second = (client.get(f"/v1/repos/ada/words/packages/{model}.zip").content for _ in range(2))
    assert hashlib.sha256(first).digest() == hashlib.sha256(second).digest()
    assert put(client, first, "ada/again")[-1]["model"]["id"] == model


def test_a_deleted_model_is_gone(client: httpx.Client) -> None:
    """And comes back with the same upload, from what was made before."""
    model = put(client, zip_of("x"))[-1]["model"]["id"]
    assert client.delete(f"/v1/repos/ada/words/packages/{model}").text == f"Deleted {model}"
    assert listed(client) == []
    assert put(client, zip_of("x"))[-1]["model"]["id"] == model


NO_MODELS: list[tuple[dict[str, Any], str]] = [
    ({"files": {"file": b"no zip"}}, "the upload is not a zip"),
    ({"files": {"file": zip_of("x")[:200]}}, "the upload"),
    ({"files": {"file": zip_of("x", **{"cog.yaml": "predict: nobody"})}}, "the upload/cog.yaml"),
]
NO_FORMS: list[tuple[dict[str, Any], str]] = [
    ({"content": b"x"}, "it is no multipart form"),
    ({"files": {"other": b"x"}}, "it has no field `file`"),
    ({"files": [("file", b"x"), ("file", b"y")]}, "it has more than one field `file`"),
    (
        {"files": {"file": b"x"}, "data": {"adapter": "x" * 70000}},
        "its form has more text than a form needs",
    ),
]


def test_what_is_no_model_is_told_in_the_clients_own_words(client: httpx.Client) -> None:
    """It comes as a message where Cog's client reads nothing else, and nothing of it stays."""
    for given, text in NO_MODELS:
        answer = client.put("/v1/repos/ada/words/packages/", **given)
        assert answer.status_code == 200
        assert '"type":"error"' in answer.text
        assert text in answer.text
        assert str(Path.cwd()) not in answer.text
    for given, text in NO_FORMS:
        answer = client.put("/v1/repos/ada/words/packages/", **given)
        assert answer.status_code == 422
        assert answer.json()["text"] == (
            f"the upload can't be read: {text}\n"
            "hint: send a zip as the multipart field `file`, e.g. curl -X PUT -F file=@model.zip"
        )


def test_half_an_upload_starts_nothing(site: Site, client: httpx.Client) -> None:
    """Of a client that goes away while it sends, nothing stays."""
    with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as line:
        line.sendall(
            b"PUT /v1/repos/ada/words/packages/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="m"\r\n\r\nPK'
        )
        eventually(lambda: list(site.data.glob("uploads/*.zip")))
    eventually(lambda: not list(site.data.glob("uploads/*.zip")))
    assert client.get("/v2/jobs").json()["jobs"] == []


def test_who_goes_away_ends_nothing(site: Site, client: httpx.Client) -> None:
    """The job goes on, and its messages are there for whoever asks."""
    with client.stream(
        "PUT", "/v1/repos/ada/words/packages/", files={"file": ("m.zip", zip_of("slow"))}
    ) as answer:
        next(answer.iter_lines())
    site.go.touch()
    job = client.get("/v2/jobs").json()["jobs"][0]["job"]
    said = followed(client, job)
    assert [number for number, _ in said] == list(range(1, len(said) + 1))
    assert said[-1][1]["event"]["state"] == "done"
    assert followed(client, job, after=3) == said[3:]
    assert len(listed(client)) == 1


# -- content by content -----------------------------------------------------------------------------------------------


def _entries(files: dict[str, bytes]) -> list[dict[str, object]]:
    return [
        {"path": name, "kind": "f", "digest": hexdigest(data), "size": len(data)}
        for name, data in sorted(files.items())
    ]


def _id(files: dict[str, bytes]) -> str:
    with tempfile.TemporaryDirectory() as directory:
        for name, data in files.items():
            (Path(directory) / name).write_bytes(data)
        return read_tree(Path(directory)).tree.model_id


def _files(weights: str) -> dict[str, bytes]:
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(zip_of(weights))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_only_what_is_missing_is_sent(site: Site, client: httpx.Client) -> None:
    """A second version sends the file that changed; the same request again is the same job."""
    known = put(client, zip_of("x"))[-1]["model"]["id"]
    files = _files("y")
    digests = [hexdigest(data) for data in files.values()]
    asked = {"repo": "ada/words", "digests": digests}
    missing = client.post("/v2/objects/missing", json=asked).json()["missing"]
    assert missing == [hexdigest(b"y")]
    model = put(client, zip_of("y"), "ada/other")[-1]["model"]["id"]
    body = {"model": model, "entries": _entries(files)}
    url, once = "/v2/repos/ada/words/models", {"Idempotency-Key": "k1"}
    client.delete(f"/v1/repos/ada/other/packages/{model}")
    refused = client.post(url, json=body)
    assert refused.status_code == 409
    assert refused.json()["missing"] == missing
    assert refused.json()["text"].startswith("1 of the model's files are not here\n")
    sent = f"/v2/objects/{missing[0]}?repo=ada/words"
    assert client.put(sent, content=b"z").status_code == 422
    assert [client.put(sent, content=b"y").status_code for _ in range(2)] == [201, 200]
    assert client.post("/v2/objects/missing", json=asked).json()["missing"] == []
    first, second = (client.post(url, json=body, headers=once) for _ in range(2))
    assert first.status_code == second.status_code == 202
    assert first.json() == second.json()
    end = followed(client, first.json()["job"])[-1][1]
    assert end["event"]["exit_code"] == 0
    assert {item["id"] for item in listed(client)} == {known, model}
    assert len(client.get("/v2/jobs").json()["jobs"]) == 3


def _sent(site: Site) -> list[str]:
    """Return the digests of contents that wait for a tree."""
    return sorted(path.name for path in (site.data / "uploads" / "sent").rglob("*") if path.is_file())


def _send(client: httpx.Client, files: dict[str, bytes]) -> None:
    for data in files.values():
        client.put(f"/v2/objects/{hexdigest(data)}?repo=ada/words", content=data)


@pytest.mark.slow
def test_contents_are_on_the_disk_once(site: Site, client: httpx.Client) -> None:
    """What a model that was let in holds waits no longer; what else was sent does, and what a failed model holds."""
    files, url = _files("wait x"), "/v2/repos/ada/words/models"
    _send(client, {**files, "other": b"other", "failed": b"fail"})
    body = {"model": _id(files), "entries": _entries(files)}
    first, second = (client.post(url, json=body).json()["job"] for _ in range(2))
    eventually(lambda: client.get(f"/v2/jobs/{first}").json()["state"] == "running")
    assert len(_sent(site)) == len(files) + 2
    site.go.touch()
    ends = [followed(client, job)[-1][1]["event"]["exit_code"] for job in (first, second)]
    assert (ends, _sent(site)) == ([0, 0], sorted(map(hexdigest, (b"other", b"fail"))))
    # Whoever had been told that it need not be sent: the model's files are found in the store.
    assert followed(client, client.post(url, json=body).json()["job"])[-1][1]["event"]["exit_code"] == 0
    failing = {**files, "weights.bin": b"fail"}
    job = client.post(url, json={"model": _id(failing), "entries": _entries(failing)}).json()["job"]
    assert followed(client, job)[-1][1]["event"]["state"] == "failed"
    assert hexdigest(b"fail") in _sent(site)


@pytest.mark.slow
def test_a_token_that_reads_nothing_is_told_what_to_send_again(site: Site, client: httpx.Client) -> None:
    """What it had sent for one upload is no longer there for another that counted on it."""
    with Project(site.data) as project:
        token, _ = make_token(project, "ada/words", ["push"], seconds=60)
    client.headers["Authorization"] = f"Bearer {token}"
    files, url = _files("x"), "/v2/repos/ada/words/models"
    _send(client, files)
    asked = {"repo": "ada/words", "digests": [hexdigest(data) for data in files.values()]}
    body = {"model": _id(files), "entries": _entries(files)}
    job = client.post(url, json=body).json()["job"]
    told = client.post("/v2/objects/missing", json=asked).json()["missing"]
    assert (told, followed(client, job)[-1][1]["event"]["exit_code"]) == ([], 0)
    refused = client.post(url, json=body)
    assert (refused.status_code, refused.json()["missing"]) == (409, sorted(asked["digests"]))
    _send(client, files)
    assert followed(client, client.post(url, json=body).json()["job"])[-1][1]["event"]["exit_code"] == 0


def test_contents_are_not_waited_for_for_ever(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are older than a day go while the server runs."""
    monkeypatch.setattr(intake, "_INTERVAL", 0.05)
    with site.client() as client:
        _send(client, {"old": b"old", "new": b"new"})
        (old,) = (site.data / "uploads" / "sent").rglob(hexdigest(b"old"))
        os.utime(old, (0, 0))
        eventually(lambda: _sent(site) == [hexdigest(b"new")], 10)
    assert not [thread for thread in threading.enumerate() if thread.name == "intake"]


def test_a_key_is_that_of_one_request(client: httpx.Client) -> None:
    """Another request under the same key is refused in words, and the first is still known by it."""
    model = put(client, zip_of("x"))[-1]["model"]["id"]
    key = {"Idempotency-Key": "k1"}
    tree = {"model": model, "entries": _entries(_files("x"))}
    requests: list[tuple[str, dict[str, Any]]] = [
        ("/v2/adapt", {"force": True}),
        ("/v2/repos/ada/words/models", tree),
    ]
    job = client.post("/v2/adapt", json={}, headers=key).json()["job"]
    for url, asked in requests:
        refused = client.post(url, json=asked, headers=key)
        words = f"the Idempotency-Key k1 is that of another request, which began the job {job}\n"
        assert (refused.status_code, refused.json()["text"].startswith(words)) == (422, True), refused.text
    assert client.post("/v2/adapt", json={}, headers=key).json()["job"] == job
    key = {"Idempotency-Key": "k2"}
    first = client.post("/v2/repos/ada/words/models", json=tree, headers=key)
    assert first.status_code == 202
    for url, asked in (
        ("/v2/repos/ada/other/models", tree),
        ("/v2/repos/ada/words/models", {**tree, "force": True}),
        ("/v2/repos/ada/words/models", {**tree, "wishes": "adapters: [one]\n"}),
    ):
        assert client.post(url, json=asked, headers=key).status_code == 422
    assert client.post("/v2/repos/ada/words/models", json=tree, headers=key).json() == first.json()
    assert followed(client, first.json()["job"])[-1][1]["event"]["state"] == "done"


def _batch(*contents: bytes, more: bytes = b"") -> bytes:
    rows = [[hexdigest(data), len(data)] for data in contents]
    return json.dumps(rows).encode() + b"\n" + b"".join(contents) + more


def test_small_contents_go_together(site: Site, client: httpx.Client) -> None:
    """As many as a request of each would have sent, each under its digest; sent again they are there."""
    files = [b"", b"one", *(f"file {number}\n".encode() for number in range(200))]
    url = "/v2/objects?repo=ada/words"
    said = [client.post(url, content=_batch(*files, b"one")) for _ in range(2)]
    assert [(item.status_code, item.json()) for item in said] == [(201, {"new": 202}), (201, {"new": 0})]
    asked = {"repo": "ada/words", "digests": [hexdigest(data) for data in [*files, b"other"]]}
    assert client.post("/v2/objects/missing", json=asked).json()["missing"] == [hexdigest(b"other")]
    sent = sorted(path for path in (site.data / "uploads" / "sent").rglob("*") if path.is_file())
    assert sorted(hexdigest(path.read_bytes()) for path in sent) == [path.name for path in sent]


def test_a_batch_may_be_as_large_as_is_said(client: httpx.Client) -> None:
    """It is an upload, to which the limit of other requests does not apply."""
    files = [os.urandom(65_535) for _ in range(64)]
    said = client.post("/v2/objects?repo=ada/words", content=_batch(*files))
    assert (said.status_code, said.json()) == (201, {"new": 64})


def test_what_had_come_of_a_batch_is_kept(client: httpx.Client) -> None:
    """Where it breaks off, what is whole need not be sent again."""
    cut = client.post("/v2/objects?repo=ada/words", content=_batch(b"one", b"two")[:-1])
    assert (cut.status_code, cut.json()["error"]["error"]) == (422, "UploadCut")
    asked = {"repo": "ada/words", "digests": [hexdigest(b"one"), hexdigest(b"two")]}
    assert client.post("/v2/objects/missing", json=asked).json()["missing"] == [hexdigest(b"two")]


def test_a_batch_takes_few_descriptors(tmp_path: Path) -> None:
    """Forty threads of a server may be at one at the same time."""
    contents = [(hexdigest(data), data) for data in (str(number).encode() for number in range(200))]
    held = max(map(int, os.listdir("/proc/self/fd")))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (held + 8, hard))
    try:
        assert batches._keep(contents, lambda digest: tmp_path / digest) == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict(contents)


NO_BATCHES = [
    (b"", "the upload ended before its end"),
    (b"[", "the upload ended before its end"),
    (b"[\n", "its first line is no JSON"),
    (b"[" * 100_000 + b"\n", "its first line is no JSON"),
    (b"{}\n", "its first line is no list of digests with sizes"),
    (b'[["00", 1]]\nx', "its first line is no list of digests with sizes"),
    (b'[["%s", true]]\nx' % (b"0" * 64), "its first line is no list of digests with sizes"),
    (b'[["%s", -1]]\n' % (b"0" * 64), "its first line is no list of digests with sizes"),
    (b'[["%s", 5000000]]\n' % (b"0" * 64), "more than 1000 contents or 4 MiB at once"),
    (b"[" + b" " * 300_000, "its first line is too long"),
    (b'[["%s", 1]]\nx' % (b"0" * 64), "the bytes that came are not those of 0000"),
    (_batch(b"x")[:-1], "the upload ended before its end"),
    (_batch(b"x", more=b"y"), "more came than its list says"),
    (_batch(*[b""] * 1001), "more than 1000 contents or 4 MiB at once"),
]


@pytest.mark.parametrize(("body", "text"), NO_BATCHES, ids=range(len(NO_BATCHES)))
def test_contents_that_are_not_as_listed_are_refused(
    site: Site, client: httpx.Client, body: bytes, text: str
) -> None:
    """Why is said, and nothing of it is kept."""
    answer = client.post("/v2/objects?repo=ada/words", content=body)
    assert (answer.status_code, text in answer.text) == (422, True), answer.text
    assert not [path for path in (site.data / "uploads").rglob("*") if path.is_file()]


def test_damaged_contents_are_not_served_and_are_wanted_again(site: Site, client: httpx.Client) -> None:
    """A bit that flipped in the store: no zip is begun, the content counts as missing, and sending it puts it right."""
    model = put(client, zip_of("x", **{"more.txt": "more"}))[-1]["model"]["id"]
    url = f"/v1/repos/ada/words/packages/{model}.zip"
    whole = client.get(url).content
    digest = hexdigest(b"more")
    at = site.data / "objects" / digest[:2] / digest[2:]
    os.chmod(at, 0o644)
    at.write_bytes(b"nore")
    files = {**_files("x"), "more.txt": b"more"}
    asked = {"repo": "ada/words", "digests": [hexdigest(data) for data in files.values()]}
    assert client.post("/v2/objects/missing", json=asked).json()["missing"] == [digest]
    body = {"model": model, "entries": _entries(files)}
    assert client.post("/v2/repos/ada/words/models", json=body).json()["missing"] == [digest]
    refused = client.get(url)
    assert refused.status_code == 503, refused.text
    assert "a stored file no longer matches its name" in refused.text
    assert client.put(f"/v2/objects/{digest}?repo=ada/words", content=b"more").status_code == 201
    job = client.post("/v2/repos/ada/words/models", json=body).json()["job"]
    assert followed(client, job)[-1][1]["event"]["exit_code"] == 0
    assert client.get(url).content == whole


BAD_ROWS: list[tuple[dict[str, Any], str]] = [
    ({"path": "../x"}, "../x: it leaves the model, or is not in one form"),
    ({"path": "/x"}, "/x: it leaves the model, or is not in one form"),
    ({"path": "a//b"}, "a//b: it leaves the model, or is not in one form"),
    ({"path": "a\0b"}, "a\\x00b: such a name can't be used"),
    ({"path": "x" * 300}, "x" * 200 + ": it is too long or too deep"),
    ({"path": "\ud800"}, "\\ud800: such a name can't be used"),
    ({"kind": "p"}, "x: its kind is one of f, x, l and d"),
    ({"digest": "12"}, "x: its digest is no digest"),
    ({"size": -1}, "x: its size is no size"),
    ({"kind": "l", "target": ""}, "x: it leads nowhere"),
]


def test_a_list_that_can_not_be_used_says_why(client: httpx.Client) -> None:
    """Names that leave the model or that no file can have are refused before anything is made."""
    for change, text in BAD_ROWS:
        row = {"path": "x", "kind": "f", "digest": "0" * 64, "size": 1, **change}
        body = json.dumps({"model": "0" * 40, "entries": [row]})
        answer = client.post("/v2/repos/ada/words/models", content=body)
        assert (answer.status_code, answer.json()["error"]["facts"]) == (422, {"problem": text})


@pytest.mark.slow
def test_a_list_that_is_too_long_is_not_made_anything_of(client: httpx.Client) -> None:
    """Two bytes of it would be 64 in memory."""
    head = b'{"model":"%s","entries":[' % (b"0" * 40)
    for piece in (b"[],", b"{},", b'"ab",'):
        body = head + piece * 5_000_000 + b"1]}"
        tracemalloc.start()
        try:
            answer = client.post("/v2/repos/ada/words/models", content=body)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        told = {"problem": "entries: there are more than 1,000,000"}
        assert (answer.status_code, answer.json()["error"]["facts"]) == (422, told)
        assert peak < 3 * len(body)


def test_lists_that_come_slowly_wait_on_the_disk(site: Site, client: httpx.Client) -> None:
    """Many that are not at their end take no memory, and leave nothing where they are broken off."""
    size, count = 6 << 20, 6
    head = f"POST /v2/repos/ada/words/models HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {size}\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        tracemalloc.start()
        stack.callback(tracemalloc.stop)
        for _ in range(count):
            sock = socket.create_connection((client.base_url.host, client.base_url.port or 0))
            stack.callback(sock.close)
            sock.sendall(head + b" " * (size - 1))
        uploads = site.data / "uploads"
        eventually(lambda: _on_disk(uploads) >= count * (size - (1 << 20)))
        assert tracemalloc.get_traced_memory()[0] < count * size / 2
    eventually(lambda: _on_disk(uploads) == 0)


def _on_disk(place: Path) -> int:
    """Return the bytes of files below *place* that this process has open, also where they have no name any more."""
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if str(link.readlink()).startswith(str(place)):
                found += link.stat().st_size
    return found


def test_lists_are_read_one_at_a_time(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """What several need in memory does not add up."""
    reading: list[int] = []
    most: list[int] = []

    def read(body: bytes) -> Any:
        reading.append(1)
        most.append(len(reading))
        time.sleep(0.02)
        try:
            return read_sent(body)
        finally:
            reading.pop()

    monkeypatch.setattr(uploads, "read_sent", read)
    send = partial(client.post, "/v2/repos/ada/words/models", content=b"{}")
    threads = [threading.Thread(target=send) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 5


def test_a_link_is_made_last_and_led_nowhere_else(client: httpx.Client, tmp_path: Path) -> None:
    """Nothing is written through a link, and one that leads out is refused."""
    files = _files("x")
    for data in files.values():
        client.put(f"/v2/objects/{hexdigest(data)}?repo=ada/words", content=data)
    outside = tmp_path / "outside"
    outside.mkdir()
    link = {"path": "a", "kind": "l", "target": str(outside)}
    through = {"path": "a/b", "kind": "f", "digest": hexdigest(b"x"), "size": 1}
    url = "/v2/repos/ada/words/models"
    for more in ([link], [link, through], [through, link]):
        answer = client.post(url, json={"model": "0" * 40, "entries": [*_entries(files), *more]})
        if answer.status_code == 202:
            assert followed(client, answer.json()["job"])[-1][1]["type"] == "error"
        else:
            assert answer.json()["error"]["error"] == "BadTree"
    assert os.listdir(outside) == []
    assert listed(client) == []


def test_a_wrong_id_is_noticed(client: httpx.Client) -> None:
    """What was sent is not taken for another model."""
    files = _files("x")
    for data in files.values():
        client.put(f"/v2/objects/{hexdigest(data)}?repo=ada/words", content=data)
    body = {"model": "0" * 40, "entries": _entries(files)}
    job = client.post("/v2/repos/ada/words/models", json=body).json()["job"]
    assert "not of 0000" in followed(client, job)[-1][1]["data"]
    assert listed(client) == []


# -- jobs -------------------------------------------------------------------------------------------------------------


def test_a_job_can_be_cancelled(site: Site, client: httpx.Client) -> None:
    """What runs is ended, and what it brought is not let in."""
    files = {"file": ("m.zip", zip_of("wait"))}
    with client.stream("PUT", "/v1/repos/ada/words/packages/", files=files) as answer:
        lines = answer.iter_lines()
        assert any("waiting" in line for line in lines)
        job = client.get("/v2/jobs").json()["jobs"][0]["job"]
        client.delete(f"/v2/jobs/{job}")
        assert '"type":"error","data":"cancelled"' in list(lines)[-1]
    assert client.get(f"/v2/jobs/{job}").json()["state"] == "cancelled"
    again = client.delete(f"/v2/jobs/{job}")
    assert (again.status_code, again.json()["text"]) == (409, f"the job {job} has ended already: cancelled")
    assert listed(client) == []
    unknown = client.get("/v2/jobs/0123")
    assert (unknown.status_code, unknown.json()["text"]) == (404, "no job has the ID 0123")


def test_pairs_are_built_when_they_are_asked_for(site: Site, client: httpx.Client) -> None:
    """``POST /v2/adapt`` builds what is not fresh, forced or not, and refuses what it does not know."""
    put(client, zip_of("x"))
    site.ran()
    for asked, ran in (({}, []), ({"force": True, "adapters": ["one"]}, ["words one"])):
        job = client.post("/v2/adapt", json=asked).json()["job"]
        end = followed(client, job)[-1][1]
        assert (end["event"]["state"], site.ran()) == ("done", ran)
    for wrong in ({"adapters": ["three"]}, {"repos": ["ada/no"]}, {"models": ["1234567"]}):
        assert client.post("/v2/adapt", json=wrong).status_code == 404


@pytest.mark.slow
def test_an_upload_that_waits_for_the_database_holds_nobody_up(site: Site, client: httpx.Client) -> None:
    """Another process writes to it meanwhile; who asks for anything else is answered."""
    put(client, zip_of("x"))
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append(put(client, zip_of("y"))[-1]["type"]))
    other = sqlite3.connect(site.data / "cog.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        thread.start()
        eventually(lambda: list((site.data / "uploads").glob("*.zip")))
        for _ in range(5):
            time.sleep(0.1)
            assert client.get("/ping", timeout=5).text == "pong"
        assert said == []
    finally:
        other.execute("ROLLBACK")
        other.close()
        thread.join()
    assert said == ["model"]


def test_side_by_side(site: Site, client: httpx.Client) -> None:
    """The same model sent four times at once is built once."""
    ended: list[str] = []

    def upload() -> None:
        ended.append(put(client, zip_of("x"))[-1]["type"])

    threads = [threading.Thread(target=upload) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended == ["model"] * 4
    assert site.ran() == ["words one", "words test", "words two"]
    assert len(listed(client)) == 1


VERSION = """#!/usr/bin/env python3
import os, platform
out = os.path.join(os.environ["COG_OUTPUT_DIR"], "version")
with open(out, "w") as file:
    file.write(platform.python_version())
print(out)
"""


@pytest.mark.slow  # it asks every interpreter there is
def test_a_python_that_is_installed_later_needs_no_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next model that asks for it is built with it."""
    others = [item for item in python._installed("3") if item[1] != python.find_python().version]
    if not others:
        pytest.skip("only one Python is installed here")
    path, version = others[0]
    place = tmp_path / "bin"
    place.mkdir()
    (place / "grep").symlink_to(shutil.which("grep") or "")
    monkeypatch.setenv("PATH", str(place))
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path / "none"))
    python.find_python.cache_clear()
    site = Site(tmp_path)
    site.adapter("one", VERSION, "python: {packages: [], with_model: true}\n")
    site.names.append("one")
    config = f'build:\n  python_version: "{version}"\npredict: predict.py:Predictor\n'

    def built(client: httpx.Client, weights: str) -> str:
        model = put(client, zip_of(weights, **{"cog.yaml": config}))[-1]["model"]["id"]
        text: str = client.get(f"/v2/artifacts/{model}/one/content").text
        return text

    with site.client() as client:
        assert built(client, "a") == python.find_python().version
        (place / f"python{version.rpartition('.')[0]}").symlink_to(path)
        assert built(client, "b") == version
    python.find_python.cache_clear()
