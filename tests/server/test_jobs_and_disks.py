"""What becomes of jobs when the disk has no room for a while?"""

from __future__ import annotations

import errno
import io
import json
import os
import sqlite3
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from site_of_tests import Site, eventually, followed, listed, put, zip_of

from cogbuild.database import jobs as job_rows
from cogbuild.digest import hexdigest
from cogbuild.server import feeds, jobs, messages
from cogbuild.server.messages import status


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site with an adapter, whose server tries again at once."""
    monkeypatch.setattr(jobs, "_PAUSE", 0.02)
    return Site(tmp_path, "one")


@pytest.fixture
def client(site: Site) -> Iterator[httpx.Client]:
    """A client of a server of the site."""
    with site.client(backfill="off") as client:
        put(client, zip_of("x"))
        yield client


def _fails(what: Callable[..., Any], trouble: Exception, times: int, when: str = "") -> Callable[..., Any]:
    """Return *what*, which fails the first times that it is about *when*."""
    left = [trouble] * times

    def faulty(*arguments: Any, **named: Any) -> Any:
        if left and when in str(arguments):
            raise left.pop()
        return what(*arguments, **named)

    return faulty


def _workers() -> list[str]:
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("jobs-"))


FULL = sqlite3.OperationalError("database or disk is full")
NO_ROOM = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
#: What there is no room for, and for how often.
FAULTS = {
    "its beginning": (job_rows, "start", FULL, 15, ""),
    "its row's end": (job_rows, "end", FULL, 3, ""),
    "its last message": (feeds, "line_of", NO_ROOM, 3, "'kind': 'end'"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_full_disk_costs_no_job_its_end_and_no_thread_its_life(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, fault: tuple[Any, str, Exception, int, str]
) -> None:
    """The job waits until there is room again, ends as it did, and says so; as many threads work as before."""
    where, name, trouble, times, when = fault
    before = _workers()
    monkeypatch.setattr(where, name, _fails(getattr(where, name), trouble, times, when))
    job = client.post("/v2/adapt", json={"force": True}).json()["job"]
    assert followed(client, job)[-1][1]["event"]["state"] == "done"
    assert client.get(f"/v2/jobs/{job}").json()["state"] == "done"
    assert _workers() == before
    assert (
        followed(client, client.post("/v2/adapt", json={}).json()["job"])[-1][1]["event"]["state"] == "done"
    )


@pytest.mark.slow
def test_what_was_sent_for_a_job_that_can_not_be_kept_is_let_go_of(
    client: httpx.Client, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request is refused, and neither its files nor its feed stay until the next start."""
    opened: list[str] = []
    closed: list[str] = []
    for name, heard in (("open", opened), ("close", closed)):
        monkeypatch.setattr(feeds.Feeds, name, _heard(getattr(feeds.Feeds, name), heard))
    monkeypatch.setattr(job_rows, "add", _fails(job_rows.add, FULL, 2))
    (model,) = listed(client)
    with zipfile.ZipFile(io.BytesIO(zip_of("x"))) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    entries = [
        {"path": name, "kind": "f", "digest": hexdigest(data), "size": len(data)}
        for name, data in sorted(files.items())
    ]
    asked = {"model": model["id"], "entries": entries}
    zipped = {"file": ("m.zip", zip_of("y"))}
    assert client.put("/v1/repos/ada/words/packages/", files=zipped).status_code == 503
    assert client.post("/v2/repos/ada/words/models", json=asked).status_code == 503
    assert [path.name for path in (site.data / "uploads").iterdir() if path.name != "sent"] == []
    assert len(set(opened)) >= 2  # an earlier job may say its last word only now
    assert eventually(lambda: set(opened) <= set(closed), 10)
    job = client.post("/v2/repos/ada/words/models", json=asked).json()["job"]
    assert followed(client, job)[-1][1]["event"]["state"] == "done"


def _heard(what: Callable[..., Any], jobs: list[str]) -> Callable[..., Any]:
    def hearing(self: feeds.Feeds, job: str) -> Any:
        jobs.append(job)
        return what(self, job)

    return hearing


class _Short:
    """A file on a disk that takes five bytes more."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, line: bytes) -> int:
        with self._path.open("ab") as file:
            return file.write(line[:5])

    def close(self) -> None:
        pass


def test_half_a_message_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk took half a line: whoever says it hears of that, and it is no part of what is said next."""
    path = tmp_path / "job.jsonl"
    feed = feeds.Feed(path)
    feed.say(status("one"))
    feed.close()
    monkeypatch.setattr(feed, "_file", _Short(path))
    with pytest.raises(OSError, match="No space left"):
        feed.say(status("two"))
    feed.end(status("three"))
    assert [json.loads(line)["data"] for line in path.read_bytes().splitlines()] == ["one", "three"]


def test_who_follows_is_let_go_of_without_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that stops has no room for its last words: that keeps it from nothing."""
    every = feeds.Feeds(tmp_path)
    opened = [every.open(job) for job in ("one", "two")]
    monkeypatch.setattr("cogbuild.server.feeds.line_of", _fails(messages.line_of, NO_ROOM, 9))
    every.let_go(status("The server stops"))
    assert [feed.closed for feed in opened] == [True, True]
