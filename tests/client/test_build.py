"""`cogbuild build` against a real server: what it sends, shows and comes to."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from conftest import Sandbox
from servers import Cutting, Serving, command

FAILING = "#!/bin/sh\necho 'it is broken' >&2\nexit 3\n"


@pytest.fixture
def site(box: Sandbox) -> Sandbox:
    """A sandbox whose adapters cost nothing, the model's test among them, and a model to send."""
    box.adapter("cog-test")
    box.adapter("count")
    box.model(
        "m",
        {"large.bin": "x" * 300_000, "twin.bin": "x" * 300_000, "cog-adapters.yaml": "adapters: [count]\n"},
    )
    return box


def settled(text: str) -> str:
    """Replace what differs from run to run."""
    text = re.sub(r"file://\S*/artifacts/../[0-9a-f]{62}", "file:///STORE", text)
    text = re.sub(r"\b[0-9a-f]{40}\b", "ID40", text)
    text = re.sub(r"\b[0-9a-f]{12}\b", "ID", text)
    return re.sub(r"\b\d+\.\d s\b", "T s", text)


@pytest.mark.slow
def test_small_files_share_requests(site: Sandbox) -> None:
    """More of them than one request holds, and each arrives."""
    files = {f"d/{number}.bin": f"{number:04d}" * 1250 for number in range(400)}
    model = site.model("n", files)
    with Serving(site) as server:
        sent = command(site, "build", model, "--server", server.url, "--repo", "ada/n")
        assert (sent.returncode, sent.stderr.splitlines()[0]) == (0, "sending 403 files, 2.0 MB"), sent.stderr
        again = command(site, "build", model, "--server", server.url, "--repo", "ada/n")
        assert again.stderr.startswith("nothing to send: 403 files are there\n")


@pytest.mark.slow
def test_a_model_is_sent_once_and_built_once(site: Sandbox) -> None:
    """Everything is sent and built; then nothing is; then the one file that changed."""
    with Serving(site) as server:
        model = site.root / "models" / "m"
        build = ("build", model, "--server", server.url, "--repo", "ada/m")
        first = command(site, *build)
        assert (first.returncode, settled(first.stdout)) == (
            0,
            (
                "built    ada/m@ID:cog-test  T s\n"
                "  file:///STORE/made.txt\n"
                "built    ada/m@ID:count  T s\n"
                "  file:///STORE/made.txt\n"
                "ID40  ada/m\n"
                "count: file:///STORE/made.txt\n"
                "2 built\n"
            ),
        )
        assert first.stderr.startswith("sending 4 files, 300.1 kB\nStoring the model\n")
        again = command(site, *build)
        assert (again.returncode, settled(again.stdout)) == (
            0,
            "ID40  ada/m\ncount: file:///STORE/made.txt\n2 fresh\n",
        )
        assert again.stderr.startswith("nothing to send: 4 files are there\n")
        (model / "weights.bin").write_text("other")
        changed = command(site, *build)
        assert changed.returncode == 0
        assert changed.stderr.startswith("sending 1 file, 5 B; 3 are there\n")
        told = json.loads(command(site, *build, "--json").stdout)
    assert site.ran() == ["m cog-test", "m count"] * 2
    assert sorted(told) == sorted(
        [
            "model",
            "repo",
            "artifacts",
            "run_arguments",
            "job",
            "sent",
            "results",
            "summary",
            "problems",
            "notes",
            "error",
            "exit_code",
        ]
    )
    assert (told["repo"], told["sent"], told["summary"]["fresh"]) == ("ada/m", {"files": 0, "size": 0}, 2)
    assert [item["target"] for item in told["artifacts"]] == ["count"]


@pytest.mark.slow
def test_what_fails_there_fails_here(site: Sandbox) -> None:
    """An adapter that fails, one that is not there, a model that is refused: the words and codes of a run here."""
    site.adapter("broken", FAILING)
    with Serving(site) as server:
        build = ("build", site.root / "models" / "m", "--server", server.url, "--repo", "ada/m")
        failed = command(site, *build, "--adapter", "broken", "--adapter", "count")
        assert failed.returncode == 1
        assert "ada/m@" in failed.stderr
        assert ":broken | it is broken\n" in failed.stderr
        assert re.search(
            r"^failed   ada/m@\w{12}:broken: broken failed on ada/m@\w{12}", failed.stdout, re.MULTILINE
        )
        assert "\n  it said  it is broken\n" in failed.stdout
        assert failed.stdout.endswith("2 built, 1 failed\n")
        unknown = command(site, *build, "--adapter", "onx")
        assert (unknown.returncode, unknown.stdout) == (2, "")
        assert "\nno adapter is called onx\n" in unknown.stderr
        followed = command(site, "build", "--server", server.url, "--job", "0" * 16)
        assert (followed.returncode, followed.stderr) == (2, f"no job has the ID {'0' * 16}\n")
        nameless = command(site, "build", "--server", server.url)
        assert nameless.returncode == 2
        (site.root / "models" / "m" / "cog.yaml").write_text("build: {}\n")
        assert command(site, *build).stderr.splitlines()[0].endswith("names no class to run")


@pytest.mark.slow
def test_a_model_that_fails_its_test_is_none(site: Sandbox) -> None:
    """The test's words are told, the exit code says that it failed, and no model is there."""
    site.adapter("cog-test", FAILING)
    with Serving(site) as server:
        build = command(site, "build", site.root / "models" / "m", "--server", server.url, "--repo", "ada/m")
        assert build.returncode == 1
        assert ":cog-test | it is broken\n" in build.stderr
        hinted = re.search(r"^hint: `cogbuild (logs .*?)`", build.stderr, re.MULTILINE)
        assert hinted, build.stdout + build.stderr
        assert hinted[1].endswith(f" cog-test --server {server.url}")
        assert command(site, *hinted[1].split()).stdout == "it is broken\n"
        assert command(site, "models", "ls").stdout.startswith("no models")


@pytest.mark.slow
def test_a_path_too_many_in_the_address_is_told(site: Sandbox) -> None:
    """Nothing is below it; what the server does know at the right address, it speaks of itself."""
    with Serving(site) as server:
        model = site.root / "models" / "m"
        wrong = f"{server.url}/nope"
        for words in (
            ("status",),
            ("build", model, "--repo", "ada/m"),
            ("adapt",),
            ("logs", "0123456", "count"),
        ):
            said = command(site, *words, "--server", wrong)
            assert (said.returncode, said.stderr.splitlines()) == (
                2,
                [
                    f"{wrong} is not a Cog server",
                    "  it answered  404 Not Found, application/json",
                    "hint: check the address, its port and its path",
                ],
            ), words
        said = command(site, "explain", "0123456", "count", "--server", server.url)
        assert (said.returncode, said.stderr.splitlines()[0]) == (
            2,
            "no model has the ID 0123456",
        )


@pytest.mark.slow
def test_tokens_let_in(site: Sandbox) -> None:
    """With a token on the server none, a wrong one and one for another repo are refused, and none is repeated."""
    new = command(site, "tokens", "new", "--repo", "ada/m", "--can", "push,adapt,read", "--json")
    token = json.loads(new.stdout)["token"]
    model = site.root / "models" / "m"
    with Serving(site) as server:
        build = ("build", model, "--server", server.url)
        none = command(site, *build, "--repo", "ada/m")
        assert (none.returncode, none.stderr.splitlines()[0]) == (2, f"{server.url} wants a token")
        wrong = command(site, *build, "--repo", "ada/m", COGBUILD_TOKEN="cog_wrong")
        assert (wrong.returncode, wrong.stderr.splitlines()[0]) == (
            2,
            f"{server.url} does not know this token",
        )
        other = command(site, *build, "--repo", "bob/m", COGBUILD_TOKEN=token)
        assert (other.returncode, other.stderr) == (2, "there is no repo bob/m that this token may push to\n")
        mine = command(site, *build, "--repo", "ada/m", COGBUILD_TOKEN=token)
        assert (mine.returncode, mine.stdout.endswith("2 built\n")) == (0, True)
        assert command(site, *build, "--repo", "ada/m", "--token", token).returncode == 0
    for said in (none, wrong, other, mine):
        assert token not in said.stdout + said.stderr
        assert "cog_wrong" not in said.stdout + said.stderr


@pytest.mark.slow
def test_names_and_files_of_every_kind_arrive(site: Sandbox) -> None:
    """Bytes that are no UTF-8, links, executables, empty directories: the same ID here, there and in a project."""
    model = site.model("kinds", {"a/b/ü": "1", ".dockerignore": "no/\n", "no/x": "2", "tool": "#!/bin/sh\n"})
    (model / "tool").chmod(0o755)
    (model / "link").symlink_to("a/b")
    (model / "empty").mkdir()
    (model / os.fsdecode(b"caf\xe9")).write_text("3")
    with Serving(site) as server:
        told = command(site, "build", model, "--server", server.url, "--repo", "ada/kinds", "--json")
        assert told.returncode == 0, told.stderr
        here = command(site, "models", "add", model, "--repo", "local/kinds", "--json")
    assert json.loads(told.stdout)["model"] == json.loads(here.stdout)["models"][0]["model"]


@pytest.mark.slow
def test_a_server_of_2021_takes_a_zip(site: Sandbox, tmp_path: Path) -> None:
    """Where there is no /v2 the model goes as one zip; choosing adapters is refused in words."""
    (tmp_path / "old.py").write_text(OLD)
    with Serving(site, program=tmp_path / "old.py") as server:
        build = ("build", site.root / "models" / "m", "--server", server.url, "--repo", "ada/m")
        refused = command(site, *build, "--adapter", "count")
        assert (refused.returncode, refused.stderr) == (
            2,
            (
                f"{server.url} is a Cog server of 2021, which can't be told --adapter\n"
                "hint: leave it out: what it builds is decided where it was started\n"
            ),
        )
        done = command(site, *build)
        assert (done.returncode, settled(done.stdout)) == (0, "ID40  ada/m\ncount: file:///STORE/made.txt\n")
        assert "Storing the model\n" in done.stderr
        site.adapter("cog-test", FAILING)
        failed = command(site, *build)
        assert failed.returncode == 1
        assert (
            f"\n{server.url} could not build the model\n  it said  the model's test failed" in failed.stderr
        )


@pytest.mark.slow
def test_an_upload_to_a_server_of_2021_that_breaks_is_told(site: Sandbox, tmp_path: Path) -> None:
    """At once, since it is not tried again, and without a word on what such a server does not do."""
    (tmp_path / "old.py").write_text(OLD)
    with Serving(site, program=tmp_path / "old.py") as server:
        proxy = Cutting(server.port, [("answer", 750)])  # two answers, and some of the third
        broke = command(site, "build", site.root / "models" / "m", "--server", proxy.url, "--repo", "ada/m")
        proxy.close()
    assert broke.returncode == 3
    assert "\nStoring the model\n" in broke.stderr
    assert re.search(
        f"\nthe connection to {proxy.url} broke before it had answered to the end\n"
        "  reason  .*\n"
        "hint: run the command again; it begins anew, since this can't be taken up where it was\n$",
        broke.stderr,
    ), broke.stderr


#: The server without what is newer than 2021.
OLD = """
import sys
from cogbuild.server import app
app.ROUTERS = ("v1",)
app.Versioned = lambda app: app
from cogbuild.__main__ import console
console()
"""


#: A server whose jobs end without a word on how.
SILENT = """
from cogbuild.cli import main
from cogbuild.server.feeds import Feeds

Feeds.end = lambda self, job, last: None
if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
def test_a_failed_job_that_does_not_say_so_is_a_failure(site: Sandbox) -> None:
    """What the server knows of the job is asked for, and is what counts for the exit code, in words and in JSON."""
    site.adapter("cog-test", FAILING)
    program = site.root / "silent.py"
    program.write_text(SILENT)
    with Serving(site, program=program) as server:
        words = ["build", site.root / "models" / "m", "--server", server.url, "--repo", "ada/m"]
        built = command(site, *words)
        assert (built.returncode, built.stdout.splitlines()[-1]) == (1, "failed"), built.stderr
        built = command(site, *words, "--json")
        assert (built.returncode, json.loads(built.stdout)["exit_code"]) == (1, 1)
        job = json.loads(built.stdout)["job"]
        assert command(site, "build", "--job", job, "--server", server.url).returncode == 1
