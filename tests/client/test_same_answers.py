"""With ``--server`` a command prints what it prints beside the server's project: the same text, JSON and exit code."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from typing import Any

import pytest
from conftest import Sandbox
from servers import Inside, Serving, command, inside  # noqa: F401 - a fixture

LOUD = """#!/bin/sh
printf 'step \\033[31mred \\377\\n' >&2
exit {code}
"""


@pytest.fixture
def site(box: Sandbox) -> Sandbox:
    """A site with two repos of a model, an adapter that works, one that fails and one that does not apply."""
    box.configure(adapters=[])
    box.adapter("cog-test", activate=False)
    box.adapter("count", params={"level": 1})
    box.adapter("broken", LOUD.format(code=3))
    box.adapter("never", LOUD.format(code=100), api=1)
    box.add("m", repo="ada/m")
    box.add("m", repo="bob/m")
    box.add("a-second-one", repo="ada/second", cpu_image="registry.test/x/y@sha256:" + "0" * 64)
    command(box, "adapt")  # the sandbox reads what adapters say as UTF-8, which this is not
    box.adapter("later")
    return box


def serving(site: Sandbox) -> Serving:
    """Return a server over the site, one adapter at a time, whose test of models costs nothing."""
    return Serving(site, "--adapter", str(site.root / "adapters" / "cog-test"), "-j", "1")


def rows(inside: Inside, *more: str) -> list[dict[str, Any]]:
    """Return the models as JSON."""
    found: list[dict[str, Any]] = json.loads(inside("models", "ls", "--json", *more)[1])["models"]
    return found


QUESTIONS = [
    "models ls",
    "models ls --repo ada/m",
    "models ls --repo no/body",
    "models show {model}",
    "models show {model} --repo bob/m",
    "models show 1234567",
    "models show 12",
    "status",
    "status --repo ada/second --adapter count",
    "status --page 2",
    "status --all",
    "status --adapter nothing",
    "explain {model} count",
    "explain {model} broken",
    "explain {model} never --repo bob/m",
    "explain {model} later",
    "explain {model} nobody",
    "logs {model} broken --repo ada/m",
    "logs {model} broken",
    "logs {model} broken --repo ada/m --list",
    "logs {model} broken --repo ada/m --attempt 7",
    "logs {model} broken --repo ada/m --attempt -1 --follow",
    "logs {model} count --repo ada/m",
    "logs {model} later",
]
FORETOLD = [
    "adapt --dry-run",
    "adapt --dry-run --json",
    "adapt --dry-run --repo ada/second --adapter count --force",
    "adapt --dry-run --model 7654321",
]


@pytest.mark.slow
def test_every_question_has_the_answer_that_it_has_there(site: Sandbox, inside: Inside) -> None:
    """Text in two widths, JSON, exit codes and what goes to stderr, byte for byte, of every command that takes --server."""
    with (
        contextlib.closing(sqlite3.connect(site.data / "cog.db")) as con,
        con,
    ):  # so that no age moves meanwhile
        con.execute("UPDATE entries SET added = added - 7200")
        con.execute("UPDATE outcomes SET made = made - 7200, seen = seen - 7200")
        con.execute("UPDATE attempts SET started = started - 7200")
    site.adapter("cog-test")  # which a server adds to what is active where the site has none
    model = rows(inside, "--repo", "bob/m")[0]["model"][:9]
    with Serving(site) as server:
        for question in QUESTIONS:
            words = question.format(model=model).split()
            for more, columns in (([], 80), ([], 44), (["--json"], 80)):
                if "--follow" in words and more:
                    continue
                here = inside(*words, *more, columns=columns)
                there = inside(*words, *more, "--server", server.url, columns=columns)
                assert there == here, (question, more, columns)


@pytest.mark.slow
def test_a_list_that_comes_in_pages_is_one_list(
    site: Sandbox, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More models than a server tells at once are asked for page by page."""
    import httpx

    def two(self: httpx.Client, method: str, url: str, **more: Any) -> httpx.Response:
        more["params"] = {**more["params"], "limit": 2}
        return asked(self, method, url, **more)

    asked = httpx.Client.request
    with serving(site) as server:
        monkeypatch.setattr(httpx.Client, "request", two)
        for more in ([], ["--json"]):
            there = inside("models", "ls", *more, "--server", server.url)
            assert ages(there[1]) == ages(inside("models", "ls", *more)[1])
            assert there[1].count(b"118b24ef5959") == 2


def ages(text: bytes) -> bytes:
    """Replace what moves as time goes by."""
    return re.sub(rb" +\d+ s\b", b" T", text)


@pytest.mark.slow
def test_bytes_of_a_log_arrive_as_they_are(site: Sandbox, inside: Inside) -> None:
    """--raw prints control characters and bytes that are no UTF-8; followed, a log is text."""
    words = ["logs", rows(inside)[0]["model"], "broken", "--raw"]
    with serving(site) as server:
        there = inside(*words, "--server", server.url)
        refused = inside(*words, "--follow", "--server", server.url)
    assert there[1] == inside(*words)[1] == b"step \x1b[31mred \xff\n"
    reason = b"--follow can't be used with --server: a log that grows is told as text, so leave out --raw\n"
    assert refused == (2, b"", reason)


@pytest.mark.slow
def test_changes_are_made_there_in_the_same_words(site: Sandbox, inside: Inside) -> None:
    """Settings and leave-taking, as text and JSON; what is wrong is refused in the same words."""
    second, first = (
        rows(inside, "--repo", "ada/second")[0]["model"],
        rows(inside, "--repo", "bob/m")[0]["model"],
    )
    steps = [
        f"models set {first} --adapter cuont --param count.lvel=5 --param brokn.x=1 --repo bob/m",
        f"models set {first} --adapter cuont --json --repo bob/m",
        f"models set {first} --adapter count --param count.level=5 --repo bob/m",
        f"models set {second} --all-adapters --cpu-image=",
        f"models set {second} --all-adapters --json",
        f"models set {second}",
        f"models set {second} --param count",
        f"models set {second} --all-adapters --adapter count",
        "models set 1234567 --all-adapters",
    ]
    with serving(site) as server:
        for step in steps:
            there = inside(*step.split(), "--server", server.url)
            after = rows(inside)
            assert there == inside(*step.split()), step
            assert rows(inside) == after, step
        leaving = ("models", "rm", first[:9], "--repo", "bob/m", "--server", server.url)
        assert inside(*leaving) == (0, f"removed  bob/m@{first[:12]}\n".encode(), b"")
        assert inside(*leaving)[0] == 2
    left = rows(inside)
    assert [row["repo"] for row in left] == ["ada/second", "ada/m"]
    assert (left[0]["cpu_image"], left[0]["adapters"]) == (None, None)


@pytest.mark.slow
def test_pairs_are_built_there_as_they_would_be_here(site: Sandbox, inside: Inside) -> None:
    """`adapt` over the wire: results, log lines, failures, totals, JSON and exit code are those of a run here."""
    runs = [
        "adapt",
        "adapt --adapter broken --fail-fast",
        "adapt --adapter never --force",
        "adapt --repo no/body",
    ]
    with serving(site) as server:
        for run in FORETOLD:
            assert inside(*run.split(), "--server", server.url) == inside(*run.split()), run
        code, out, _ = inside("adapt", "--adapter", "later", "--server", server.url)
        assert (code, out.count(b"built    "), out.splitlines()[-1]) == (0, 3, b"3 built")
        for run in runs:
            here = inside(*run.split(), "-j", 1)
            there = inside(*run.split(), "--server", server.url)
            assert [there[0], *map(settled, there[1:])] == [here[0], *map(settled, here[1:])], run
        one = json.loads(inside("adapt", "--json", "-j", 1)[1])
        other = json.loads(inside("adapt", "--json", "--server", server.url)[1])
    assert other.keys() == one.keys()
    assert other["summary"] == one["summary"]
    assert [(row["pair"], row.keys()) for row in other["results"]] == [
        (row["pair"], row.keys()) for row in one["results"]
    ]


def settled(text: bytes) -> list[str]:
    """Return the lines without attempts and times."""
    return re.sub(r"\b\d+\.\d s\b", "T", re.sub(r"\b[0-9a-f]{18}\b", "ATTEMPT", text.decode())).splitlines()


def test_what_is_of_this_machine_is_refused(inside: Inside) -> None:
    """Before anything is asked, in words."""
    for words, reason in (
        (["adapt", "--adapter-dir", "x"], HERE),
        (["status", "--adapter-dir", "x"], HERE),
        (["explain", "1234567", "a", "--adapter-dir", "x"], HERE),
        (
            ["adapt", "-j", "2"],
            b"--jobs can't be used with --server: the server decides how many run at once\n",
        ),
    ):
        assert inside(*words, "--server", "http://127.0.0.1:1") == (2, b"", reason)
    code, _, err = inside("adapt", "--job", "1")
    assert (code, b"say --server too" in err) == (2, True)


HERE = b"--adapter-dir can't be used with --server: the directory is on this machine, and the adapters run on the server's\n"
