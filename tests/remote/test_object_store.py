"""Artifacts in an object store, over real HTTP: sent once, by digest, before anything is recorded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cloud import Cloud, running
from conftest import Sandbox

from cogbuild.database import pairs
from cogbuild.database.pairs import Artifact
from cogbuild.digest import hexdigest
from cogbuild.engine import Status
from cogbuild.errors.remote import StoreAway, StoreNameUnusable
from cogbuild.remote import Remote, forget_stores, upload

pytestmark = pytest.mark.slow

SIMPLE = "#!/bin/sh\necho hello > $COG_OUTPUT_DIR/a.txt; echo a.txt\n"
HELLO = hexdigest(b"hello\n")
AT = f"site/one/{HELLO[:2]}/{HELLO[2:]}/a.txt"


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """An S3 on loopback."""
    with running(monkeypatch) as it:
        yield it


@pytest.fixture
def far(box: Sandbox, cloud: Cloud) -> Sandbox:
    """A project whose artifacts go to the bucket."""
    box.configure(artifact_store="s3://bucket/site/one")
    return box


def kept(box: Sandbox) -> tuple[Artifact, ...]:
    """Return the artifacts of the only outcome, none where there is none."""
    with box.project() as project:
        outcomes = list(pairs.outcomes(project.con).values())
    return outcomes[0].artifacts if outcomes else ()


# -- a build ------------------------------------------------------------------------------------------------------


def test_what_was_made_is_in_the_bucket_by_its_digest(far: Sandbox, cloud: Cloud) -> None:
    """Under ``ab/cdef…/<name>`` below the prefix; the URI is what is recorded, with digest and size; no copy stays here."""
    far.adapter("one", SIMPLE)
    far.add("a")
    run = far.adapt()
    assert run.results["a one"].uris == (f"s3://bucket/{AT}",)
    assert kept(far) == (Artifact("", f"s3://bucket/{AT}", digest=HELLO, size=6),)
    assert cloud.objects() == {AT: b"hello\n"}
    assert not (far.data / "artifacts").exists()


def test_the_same_bytes_are_sent_once(far: Sandbox, cloud: Cloud) -> None:
    """Forced, of another model, or after the database is gone: what is there is not sent again."""
    far.adapter("one", SIMPLE)
    far.add("a")
    far.adapt()
    assert cloud.sent() == [f"bucket/{AT}"]
    far.adapt(force=True)
    far.add("b")
    assert far.adapt().status("b one") is Status.BUILT
    assert cloud.sent() == []


def test_the_test_and_what_needs_it_get_its_uri(far: Sandbox) -> None:
    """As it is recorded; what is read as a path is another question (``test_reading.py``)."""
    far.adapter("one", SIMPLE, test='#!/bin/sh\necho "test $COG_ARTIFACT_URI" >&2\n')
    far.adapter("two", '#!/bin/sh\necho "need $COG_ARTIFACT_ONE" >&2\necho x:y\n', needs=["one"])
    far.add("a")
    assert far.adapt().log[:2] == [f"a one test s3://bucket/{AT}", f"a two need s3://bucket/{AT}"]


def test_a_restored_pair_asks_nobody(far: Sandbox, cloud: Cloud) -> None:
    """The record names what is there."""
    far.adapter("one", SIMPLE, uses=[])
    far.add("a")
    far.adapt()
    cloud.asked.clear()
    far.add("b", {"weights.bin": "a"})
    assert far.adapt().status("b one") is Status.RESTORED
    assert cloud.asked == []


def cogbuild(box: Sandbox, *words: object) -> subprocess.CompletedProcess[str]:
    """Run the command in the project."""
    command = [sys.executable, "-m", "cogbuild", *map(str, words)]
    return subprocess.run(command, cwd=box.root / "site", capture_output=True, text=True, check=False)


def test_adapters_are_tried_without_sending_anything(far: Sandbox, cloud: Cloud) -> None:
    """`adapters check` keeps what it makes to itself."""
    directory = far.adapter("one", SIMPLE)
    far.add("a")
    assert cogbuild(far, "adapters", "check", directory, "--quick").returncode == 0
    assert cloud.asked == []


# -- directories --------------------------------------------------------------------------------------------------

FOLDER = """#!/bin/sh
cd $COG_OUTPUT_DIR; mkdir -p m/sub/empty; echo 1 > m/a.bin; echo 22 > 'm/sub/b c.bin'; echo x > m/run; chmod +x m/run; ln -s a.bin m/l
echo m
"""


def test_a_directory_is_sent_file_by_file_and_the_list_of_it_last(far: Sandbox, cloud: Cloud) -> None:
    """What an object store can't hold, links and empty directories, is in the list."""
    far.adapter("one", FOLDER)
    far.add("a")
    far.adapt()
    (made,) = kept(far)
    assert made.digest is not None
    key = f"site/one/{made.digest[:2]}/{made.digest[2:]}/m"
    assert (made.uri, made.size) == (f"s3://bucket/{key}", 7)
    sent = cloud.sent()
    assert sent[-1] == f"bucket/{key}.files.json"
    there = cloud.objects()
    listed = json.loads(there.pop(f"{key}.files.json"))
    assert there == {f"{key}/a.bin": b"1\n", f"{key}/run": b"x\n", f"{key}/sub/b c.bin": b"22\n"}
    assert listed["digest"] == made.digest
    assert [(row["path"], row["kind"]) for row in listed["files"]] == [
        ("a.bin", "file"),
        ("l", "link"),
        ("run", "executable"),
        ("sub/b c.bin", "file"),
        ("sub/empty", "directory"),
    ]
    far.adapt(force=True)
    assert cloud.sent() == []


def test_what_a_directory_lacks_is_sent_again(far: Sandbox, cloud: Cloud) -> None:
    """One file that went is put back, and nothing else."""
    far.adapter("one", FOLDER)
    far.add("a")
    far.adapt()
    key = kept(far)[0].uri.removeprefix("s3://bucket/")
    cloud.damage(f"{key}/run", None)
    cloud.sent()
    far.adapt(force=True)
    assert cloud.sent() == [f"bucket/{key}/run"]


# -- large files --------------------------------------------------------------------------------------------------


def large(box: Sandbox, mib: int) -> None:
    """Have an adapter make a file of so many MiB."""
    box.adapter("one", f"#!/bin/sh\nhead -c {mib}M /dev/zero > $COG_OUTPUT_DIR/big; echo big\n")
    box.add("a")


def test_a_large_file_goes_in_pieces_and_is_told_of(far: Sandbox, cloud: Cloud) -> None:
    """A multipart upload; the log and whoever watches hear how far it is."""
    large(far, 72)
    run = far.adapt()
    assert run.status("a one") is Status.BUILT
    pieces = [item for item in cloud.sent() if "partNumber=" in item]
    assert len(pieces) == 9
    assert len(cloud.objects()[kept(far)[0].uri.removeprefix("s3://bucket/")]) == 72 << 20
    said = [line for line in run.log if "sending big" in line]
    assert said[0] == "a one sending big: 8 of 72 MiB"
    assert said[-1] == "a one sending big: 72 of 72 MiB"


def test_a_store_that_dies_half_way(far: Sandbox, cloud: Cloud) -> None:
    """The pair fails in words and leaves nothing to be seen; the next run sends it."""
    large(far, 20)
    cloud.refuse = lambda request: "503 Service Unavailable" if "partNumber=2" in request else None
    run = far.adapt()
    assert run.error("a one").splitlines()[0] == "the artifact store s3://bucket/site/one can't be used now"
    assert "  reason   it says 503 Service Unavailable" in run.error("a one").splitlines()
    assert (kept(far), cloud.objects()) == ((), {})
    cloud.refuse = lambda _request: None
    assert far.adapt().status("a one") is Status.BUILT
    assert list(cloud.objects().values()) == [bytes(20 << 20)]


# -- what goes wrong ----------------------------------------------------------------------------------------------


def failed(far: Sandbox) -> str:
    """Return the error of a simple upload, with what changes from run to run named."""
    far.adapter("one", SIMPLE)
    model = far.add("a").model
    far.adapter("other", "#!/bin/sh\necho x:y\n")
    run = far.adapt()
    assert run.status("a other") is Status.BUILT
    assert run.exit_code == 1
    return run.error("a one").replace(model[:12], "ID")


def test_a_store_that_is_away(far: Sandbox, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pair fails alone."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert failed(far) == (
        "the artifact store s3://bucket/site/one can't be used now\n"
        "  adapter  one\n"
        "  model    local/a@ID\n"
        "  reason   HTTP error: error sending request\n"
        "hint: run it again when it can: what it has already is not sent again"
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{cloud.port}")
    forget_stores()
    assert far.adapt().status("a one") is Status.BUILT


def test_no_such_bucket(far: Sandbox, cloud: Cloud) -> None:
    """Said as such, with what to do."""
    far.configure(artifact_store="s3://nobody/x")
    assert failed(far) == (
        "the artifact store s3://nobody/x is not there\n"
        "  adapter  one\n"
        "  model    local/a@ID\n"
        "  reason   it says 404 Not Found, NoSuchBucket\n"
        "hint: make it, or correct artifact_store: in the settings"
    )


def test_a_store_that_lets_nobody_in(far: Sandbox, cloud: Cloud) -> None:
    """Said as such, and which variables would help."""
    cloud.refuse = lambda request: "403 Forbidden" if "bucket" in request else None
    assert failed(far) == (
        "the artifact store s3://bucket/site/one does not let this user in\n"
        "  adapter  one\n"
        "  model    local/a@ID\n"
        "  reason   it says 403 Forbidden\n"
        "hint: give cogbuild credentials in its environment, e.g. AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )


def test_a_store_that_keeps_something_else(far: Sandbox, cloud: Cloud) -> None:
    """What was sent is asked for: a store that answers well and has nothing is found out."""
    cloud.refuse = lambda request: "200 OK" if request.startswith("PUT ") else None
    assert (
        failed(far).splitlines()[0]
        == "what the artifact store s3://bucket/site/one has of a.txt is not what was sent"
    )
    assert cloud.objects() == {}


def test_a_name_that_no_store_takes(tmp_path: Path, cloud: Cloud) -> None:
    """Refused before anything is sent."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a\nb").write_text("x")
    for source, called in ((tmp_path / "d", "d"), (tmp_path / "d" / "a\nb", "a\nb")):
        with pytest.raises(StoreNameUnusable, match="can't have a file of this name"):
            upload(Remote("s3://bucket"), source, called)
    assert cloud.sent() == []


def test_plain_http_is_for_this_machine_only(
    tmp_path: Path, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere nothing is sent without TLS unless AWS_ALLOW_HTTP says so."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store.invalid")
    (tmp_path / "a").write_text("x")
    with pytest.raises(StoreAway) as caught:
        upload(Remote("s3://bucket"), tmp_path / "a", "a")
    assert caught.value.facts["reason"] == (
        "http: is for stores on this machine only, unless AWS_ALLOW_HTTP is true"
    )


# -- verify -------------------------------------------------------------------------------------------------------


def test_verify_asks_the_store(far: Sandbox, cloud: Cloud) -> None:
    """What went or has another size is lost and made again; a store that does not say loses nothing."""
    far.adapter("one", SIMPLE)
    model = far.add("a").model
    far.adapt()
    assert cogbuild(far, "artifacts", "verify").stdout == "1 there\n"
    cloud.refuse = lambda request: "403 Forbidden" if request.startswith("HEAD ") else None
    said = cogbuild(far, "artifacts", "verify")
    assert (said.stdout, said.returncode) == (
        (
            f"not known  local/a@{model[:12]}:one: the artifact store s3://bucket does not let this user in: it says 403 "
            f"Forbidden\n  s3://bucket/{AT}\n1 not known\n"
        ),
        0,
    )
    cloud.refuse = lambda _request: None
    cloud.damage(AT, b"hell")
    said = cogbuild(far, "artifacts", "verify")
    assert said.stdout.splitlines()[0].endswith(":one: it has 4 bytes, 6 were uploaded")
    assert said.returncode == 1
    assert far.adapt().status("a one") is Status.BUILT
    assert cogbuild(far, "artifacts", "verify").stdout == "1 there\n"
    cloud.damage(AT, None)
    assert cogbuild(far, "artifacts", "verify").stdout.splitlines()[0].endswith(":one: it is not there")
    assert far.adapt().status("a one") is Status.BUILT
    assert cloud.objects() == {AT: b"hello\n"}


def test_verify_looks_at_every_file_of_a_directory(far: Sandbox, cloud: Cloud) -> None:
    """By the list of it."""
    far.adapter("one", FOLDER)
    far.add("a")
    far.adapt()
    assert cogbuild(far, "artifacts", "verify").stdout == "1 there\n"
    key = kept(far)[0].uri.removeprefix("s3://bucket/")
    cloud.damage(f"{key}/run", b"longer")
    said = cogbuild(far, "artifacts", "verify").stdout
    assert said.splitlines()[0].endswith(":one: run in it has 6 bytes, 2 were uploaded")
    cloud.damage(f"{key}/run", None)
    said = cogbuild(far, "artifacts", "verify").stdout
    assert said.splitlines()[0].endswith(":one: run in it is not there")
    far.adapt()
    cloud.damage(f"{key}.files.json", None)
    said = cogbuild(far, "artifacts", "verify").stdout
    assert said.splitlines()[0].endswith(":one: the list of its files is not there")


def test_verify_asks_for_what_adapters_put_there_themselves(box: Sandbox, cloud: Cloud) -> None:
    """An object, or anything below a name; a bucket that is not there may be a wrong setting, so nothing is lost."""
    places = {"object": "bucket/x", "below": "bucket/dir/", "gone": "bucket/y", "nobody": "nobody/x"}
    for name, place in places.items():
        box.adapter(name, f"#!/bin/sh\necho s3://{place}\n")
    box.add("a")
    box.adapt()
    cloud.damage("x", b"1")
    cloud.damage("dir/f", b"1")
    said = cogbuild(box, "artifacts", "verify", "--json")
    found = {
        row["pair"].partition(":")[2]: (row["state"], row["detail"])
        for row in json.loads(said.stdout)["artifacts"]
    }
    assert found == {
        "object": ("there", None),
        "below": ("there", None),
        "gone": ("lost", "it is not there"),
        "nobody": (
            "not known",
            "the artifact store s3://nobody is not there: it says 404 Not Found, NoSuchBucket",
        ),
    }


# -- get ----------------------------------------------------------------------------------------------------------


def test_get_fetches_a_file_and_a_directory(far: Sandbox, cloud: Cloud) -> None:
    """As they were made: links, executable bits, empty directories."""
    far.adapter("one", SIMPLE)
    far.adapter("two", FOLDER)
    model = far.add("a").model
    far.adapt()
    out = far.root / "out"
    out.mkdir()
    for name in ("one", "two"):
        said = cogbuild(far, "artifacts", "get", model, name, "-o", out)
        assert said.returncode == 0, said.stderr
    assert (out / "a.txt").read_text() == "hello\n"
    at = out / "m"
    assert {str(path.relative_to(at)) for path in at.rglob("*")} == {
        "a.bin",
        "l",
        "run",
        "sub",
        "sub/b c.bin",
        "sub/empty",
    }
    assert (os.readlink(at / "l"), os.access(at / "run", os.X_OK), (at / "sub/b c.bin").read_text()) == (
        "a.bin",
        True,
        "22\n",
    )


def test_get_hands_out_nothing_damaged(far: Sandbox, cloud: Cloud) -> None:
    """What is fetched is hashed; the pair is made again."""
    far.adapter("one", SIMPLE)
    model = far.add("a").model
    far.adapt()
    cloud.damage(AT, b"jello\n")
    said = cogbuild(far, "artifacts", "get", model, "one", "-o", far.root / "x")
    assert "its content changed" in said.stderr
    assert not (far.root / "x").exists()


@pytest.mark.parametrize("path", ["../escaped", "l/escaped", "/escaped"])
def test_get_writes_nowhere_else(far: Sandbox, cloud: Cloud, path: str) -> None:
    """A list of files that somebody else wrote names nothing outside, nor through its links."""
    far.adapter("one", FOLDER)
    model = far.add("a").model
    far.adapt()
    key = kept(far)[0].uri.removeprefix("s3://bucket/")
    rows = [{"path": "l", "kind": "link", "target": str(far.root)}, {"path": path, "kind": "file", "size": 2}]
    cloud.damage(f"{key}.files.json", json.dumps({"files": rows}).encode())
    said = cogbuild(far, "artifacts", "get", model, "one", "-o", far.root / "x")
    assert f"names '{path}'" in said.stderr
    assert not (far.root / "x").exists()
    assert not list(far.root.rglob("escaped"))


def test_an_upload_is_broken_off(tmp_path: Path, cloud: Cloud) -> None:
    """Between two pieces, when the run is cancelled; nothing of it is to be seen."""
    (tmp_path / "big").write_bytes(bytes(20 << 20))
    answers = iter([False, True])
    with pytest.raises(StoreAway) as caught:
        upload(Remote("s3://bucket"), tmp_path / "big", "big", cancelled=lambda: next(answers, True))
    assert caught.value.facts["reason"] == "it was broken off"
    assert cloud.objects() == {}


# -- other kinds --------------------------------------------------------------------------------------------------


def test_google_cloud_storage(box: Sandbox, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """It speaks the same language; who we are is in its own file."""
    account = {"gcs_base_url": f"http://127.0.0.1:{cloud.port}", "disable_oauth": True}
    (box.root / "account.json").write_text(
        json.dumps(account | dict.fromkeys(("client_email", "private_key", "private_key_id"), ""))
    )
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(box.root / "account.json"))
    box.configure(artifact_store="gs://bucket/site/one")
    box.adapter("one", SIMPLE)
    model = box.add("a").model
    assert box.adapt().results["a one"].uris == (f"gs://bucket/{AT}",)
    assert cloud.objects() == {AT: b"hello\n"}
    assert cogbuild(box, "artifacts", "verify").stdout == "1 there\n"
    assert cogbuild(box, "artifacts", "get", model, "one", "-o", box.root / "x").returncode == 0
    assert (box.root / "x").read_text() == "hello\n"


def test_azure_without_an_account_is_said(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is sent."""
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    forget_stores()
    with pytest.raises(StoreAway) as caught:
        upload(Remote("az://container/x"), Path(__file__), "x")
    assert caught.value.facts["reason"] == "Generic MicrosoftAzure error: Account must be specified"
