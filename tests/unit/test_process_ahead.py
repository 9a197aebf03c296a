"""Commands that are sent to a worker before the one in front of them has ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cogbuild.process import Command, Ended, Level, Pool, Reason
from cogbuild.process.client import Worker, order_for
from cogbuild.process.hearing import Hearing
from cogbuild.process.values import NOT_STARTED


@pytest.fixture
def worker() -> Iterator[Worker]:
    with Pool(1) as pool:
        if not pool.protection.overlay:
            pytest.skip("no private views here, so no worker is lent")
        lent = pool.lend()
        assert lent is not None
        yield lent
        pool.take_back(lent, usable=False)


def send(worker: Worker, script: str, said: list[bytes] | None = None) -> Hearing:
    command = Command(("/bin/sh", "-c", script), {"PATH": "/usr/bin:/bin"}, Path("/"))
    hearing = Hearing(None, 1000, said.append if said is not None else None)
    assert worker.send(order_for(command, mounts=True), hearing, lambda: False)
    return hearing


def heard(worker: Worker, count: int) -> list[tuple[Hearing, Ended | None]]:
    found: list[tuple[Hearing, Ended | None]] = []
    while len(found) < count:
        found += worker.heard()
    return found


def going(worker: Worker, then: str) -> Hearing:
    """Send a command and wait until it runs."""
    said: list[bytes] = []
    sent = send(worker, f"echo going >&2; {then}", said)
    while not said:
        assert worker.heard() == []
    return sent


def test_what_is_sent_ahead_runs_in_its_turn(worker: Worker) -> None:
    """Each command's words and end come to whoever sent it, in order."""
    said: list[list[bytes]] = [[], [], []]
    sent = [send(worker, f"echo {n} >&2; echo {n}; exit {n}", said[n]) for n in range(3)]
    ended = heard(worker, 3)
    assert [hearing for hearing, _ in ended] == sent
    assert [(end.code, end.stdout) for _, end in ended if end] == [(0, b"0\n"), (1, b"1\n"), (2, b"2\n")]
    assert said == [[b"0"], [b"1"], [b"2"]]


def test_what_has_not_begun_is_given_back(worker: Worker) -> None:
    """What waits behind a long command can be called back, and runs when it is sent again."""
    long = going(worker, "sleep 0.3; echo long")
    others = [send(worker, "echo other") for _ in range(2)]
    worker.call_back()
    assert heard(worker, 2) == [(other, None) for other in others]
    assert [(hearing, end and end.stdout) for hearing, end in heard(worker, 1)] == [(long, b"long\n")]
    send(worker, "echo again")
    assert [end and end.stdout for _, end in heard(worker, 1)] == [b"again\n"]


def test_a_stop_ends_what_runs_and_begins_nothing_of_what_waits(worker: Worker, tmp_path: Path) -> None:
    """Cancelling reaches what was sent ahead; what is sent later runs."""
    going(worker, "sleep 20")
    send(worker, f"touch {tmp_path}/begun")
    worker.stop()
    ended = [end for _, end in heard(worker, 2)]
    assert [end and (end.reason, end.detail) for end in ended] == [
        (Reason.CANCELLED, ""),
        (Reason.CANCELLED, NOT_STARTED),
    ]
    assert not (tmp_path / "begun").exists()
    send(worker, "exit 7")
    assert [end and end.code for _, end in heard(worker, 1)] == [7]


def test_of_a_lost_worker_only_what_ran_is_lost(worker: Worker) -> None:
    """What had not begun when the worker was killed is told as such, so that another can run it."""
    first = going(worker, "sleep 20")
    second = send(worker, "true")
    worker._process.kill()
    (one, lost), (other, nothing) = heard(worker, 2)
    assert (one, other, nothing) == (first, second, None)
    assert lost is not None
    assert lost.reason is Reason.LOST


def test_workers_that_were_started_ahead_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool that was warmed starts no further worker for as many commands as it has room for."""
    with Pool(2) as pool:
        pool.warm()
        started = list(pool._starting)
        if pool.protection.level is Level.BUBBLEWRAP:
            pytest.skip("each command has a worker of its own here")
        monkeypatch.setattr("cogbuild.process.pool.Worker", None)
        command = Command(("/bin/true",), {}, Path("/"))
        assert [pool.run(command).code for _ in range(3)] == [0, 0, 0]
        assert len(started) == 2
