"""Asking whether artifacts still exist, and what is to be done with those that do not."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from cogbuild.damage import set_aside
from cogbuild.database import pairs, upkeep
from cogbuild.housekeeping.registries import NoAnswer, Registries, names_registry
from cogbuild.planner.judged import artifact_file
from cogbuild.remote import STORES, located

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from cogbuild.database.pairs import Artifact
    from cogbuild.housekeeping.made import Made
    from cogbuild.project import Project

__all__ = ["Looked", "State", "verify"]

_PATIENCE = 20.0  # seconds for one answer
_ASKED_AT_ONCE = 8
_GONE = (404, 410)
_AWAY = ("does not answer", "can't be used now")


class State(StrEnum):
    """What a look at an artifact came to."""

    THERE = "there"
    LOST = "lost"
    NOT_CHECKED = "not checked"
    NOT_KNOWN = "not known"  # the place that would know did not say


@dataclass(frozen=True)
class Looked:
    """One artifact, and whether it is there."""

    made: Made
    artifact: Artifact
    state: State
    detail: str = ""
    aside: Path | None = None  # where a damaged one is now


def verify(project: Project, found: Iterable[Made], *, deep: bool = False) -> Iterator[Looked]:
    """Look at every artifact and yield what came of it; the database knows it by then.

    A published artifact whose bytes changed (*deep* reads them all) is moved to ``aside/`` of the data directory.
    """
    from concurrent.futures import ThreadPoolExecutor

    eyes = _Eyes(project, deep=deep)
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        for batch in _batches(found):
            wanted = [(item, artifact) for item in batch for artifact in item.outcome.artifacts]
            answers = pool.map(lambda pair: eyes.look(pair[1]), wanted)
            looked = [
                _judged(project, item, artifact, *answer)
                for (item, artifact), answer in zip(wanted, answers, strict=True)
            ]
            _record(project, batch, looked)
            yield from looked


def _batches(found: Iterable[Made], size: int = 64) -> Iterator[list[Made]]:
    batch: list[Made] = []
    for item in found:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


class _Eyes:
    """How one command looks at artifacts; what did not answer once is not waited for again."""

    def __init__(self, project: Project, *, deep: bool) -> None:
        self._project = project
        self._deep = deep
        self._registries = Registries(project.environ, project.settings.docker_registry)
        self._away: dict[str, str] = {}

    def look(self, artifact: Artifact) -> tuple[State, str]:
        if artifact.published:
            wrong = self._project.objects.artifact_state(
                artifact.digest or "", artifact_file(artifact), artifact.size or 0, deep=self._deep
            )
            return (State.THERE, "") if wrong is None else (State.LOST, wrong)
        scheme = urlsplit(artifact.uri).scheme
        if scheme in ("http", "https"):
            return _ask(artifact.uri)
        if scheme == "file":
            there = os.path.lexists(unquote(urlsplit(artifact.uri).path))
            return (State.THERE, "") if there else (State.LOST, "it is not there")
        if scheme in STORES and artifact.uri.startswith(f"{scheme}://"):
            return self._unless_away(artifact.uri, lambda: _in_store(artifact))
        # With its colons an ARN could pass for an image in a registry on some port.
        if scheme and artifact.uri.startswith((f"{scheme}:/", "arn:aws")):
            return State.NOT_CHECKED, f"cogbuild can't look at {scheme}: yet"
        return self._unless_away(artifact.uri, lambda: self._image(artifact.uri))

    def _image(self, reference: str) -> tuple[State, str]:
        if not names_registry(reference):
            return State.NOT_CHECKED, "it names no registry"
        try:
            there = self._registries.has(reference)
        except NoAnswer as trouble:
            return State.NOT_KNOWN, str(trouble)
        return (State.THERE, "") if there else (State.LOST, "the registry does not have it")

    def _unless_away(self, uri: str, look: Callable[[], tuple[State, str]]) -> tuple[State, str]:
        whom = "/".join(uri.split("/")[: 3 if "://" in uri else 1])
        if whom in self._away:
            return State.NOT_KNOWN, self._away[whom]
        state, detail = look()
        if state is State.NOT_KNOWN and any(word in detail for word in _AWAY):
            self._away[whom] = detail
        return state, detail


def _in_store(artifact: Artifact) -> tuple[State, str]:
    from cogbuild.errors.remote import StoreError

    place = located(artifact.uri)
    if place is None:
        return State.NOT_CHECKED, "it names no object"
    store, key = place
    try:
        wrong = store.wrong(key, artifact.size)
    except StoreError as trouble:
        return State.NOT_KNOWN, f"{trouble.title}: {trouble.facts.get('reason')}"
    return (State.THERE, "") if wrong is None else (State.LOST, wrong)


def _ask(uri: str) -> tuple[State, str]:
    """Ask a web server for the head of a file, and for its first byte where it does not like that."""
    status, why = _answer(uri, "HEAD")
    if status is None or status >= 400:
        status, why = _answer(uri, "GET")
    if status is None:
        return State.NOT_KNOWN, why
    if status < 400 or status == 416:  # 416: the file has no first byte, but it is there
        return State.THERE, ""
    said = f"the server says {status}"
    return (State.LOST if status in _GONE else State.NOT_KNOWN), said


def _answer(uri: str, method: str) -> tuple[int | None, str]:
    import http.client
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    headers = {"Range": "bytes=0-0"} if method == "GET" else {}
    try:
        with urlopen(Request(uri, headers=headers, method=method), timeout=_PATIENCE) as answer:
            answer.read(1)
            return answer.status, ""
    except HTTPError as refused:
        refused.close()
        return refused.code, ""
    except URLError as trouble:
        return None, f"the server does not answer: {_words(trouble.reason)}"
    except (OSError, http.client.HTTPException, ValueError) as trouble:
        return None, f"the server does not answer: {_words(trouble)}"


def _words(trouble: object) -> str:
    if isinstance(trouble, OSError) and trouble.strerror:
        return trouble.strerror.lower()
    return str(trouble) or type(trouble).__name__


def _judged(project: Project, made: Made, artifact: Artifact, state: State, detail: str) -> Looked:
    aside = None
    if state is State.LOST and artifact.published:
        aside = set_aside(project, artifact)
    return Looked(made, artifact, state, detail, aside)


def _record(project: Project, batch: Sequence[Made], looked: Sequence[Looked]) -> None:
    now = time.time()

    def work(con: sqlite3.Connection) -> None:
        for made in batch:
            of = [item for item in looked if item.made is made]
            for item in of:
                if item.state is State.LOST:
                    upkeep.lose(con, item.artifact, item.detail)
            if all(item.state is State.THERE for item in of):
                pairs.mark_seen(con, made.outcome.eid, made.outcome.aid, now)
                upkeep.found_again(con, made.outcome.artifacts)

    project.database.write(work)
