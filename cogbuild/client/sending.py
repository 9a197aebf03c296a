"""What a server lacks of a model, sent: asked by digest first, several files at once, each in constant memory."""

from __future__ import annotations

import json
import secrets
import threading
from itertools import chain
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from cogbuild.client.jobs import begun
from cogbuild.client.pack import manifest, pieces
from cogbuild.errors.client import AnswerNotUnderstood

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cogbuild.client.http import Server
    from cogbuild.client.pack import Model
    from cogbuild.fingerprint.trees import Entry

__all__ = ["Accepted", "Interrupted", "Progress", "send"]

_AT_ONCE = 4  # requests on their way
# Files smaller than this go together, so many of them and so many bytes in one request: a server takes 1,000 and 4 MiB.
_SMALL = 64 << 10
_TOGETHER = 500
_BYTES_TOGETHER = 1 << 20
_ASKED = 10_000  # digests in one question
_ROUNDS = 5  # what was there can be collected meanwhile, but not for ever


class Progress(Protocol):
    """Hears how far sending is, from several threads."""

    def begin(self, files: int, size: int, there: int) -> None:
        """Hear that so many files, of *size* bytes, are sent, and so many are *there* already."""

    def sent(self, size: int) -> None:
        """Hear that so many more bytes are on their way; fewer than none where a file begins anew."""

    def close(self) -> None:
        """Hear that sending has ended, well or not."""


class Accepted(NamedTuple):
    """The job that a server has begun, and what it took."""

    job: str
    files: int
    size: int  # bytes that were sent


class Interrupted(KeyboardInterrupt):
    """Ctrl-C came while files were sent, of which *kept* have arrived."""

    def __init__(self, kept: int) -> None:
        super().__init__()
        self.kept = kept


def send(
    server: Server,
    model: Model,
    repo: str,
    progress: Progress,
    *,
    adapters: Sequence[str] | None = None,
    force: bool = False,
) -> Accepted:
    """Send what *server* lacks of *model*, then the tree; return the job that it began, once however often we ask.

    Raises ``Interrupted`` for ``KeyboardInterrupt``.
    """
    kept: list[Entry] = []
    try:
        return _send(server, model, repo, progress, kept=kept, adapters=adapters, force=force)
    except KeyboardInterrupt:
        raise Interrupted(len(kept)) from None


def _send(
    server: Server,
    model: Model,
    repo: str,
    progress: Progress,
    *,
    kept: list[Entry],
    adapters: Sequence[str] | None,
    force: bool,
) -> Accepted:
    body = {
        "model": model.tree.model_id,
        "entries": manifest(model.tree),
        "wishes": model.wishes.decode("utf-8", "surrogateescape") if model.wishes is not None else None,
        "adapters": list(adapters) if adapters else None,
        "force": force,
    }
    # Escaped, so that names which are not UTF-8 go through.
    content = json.dumps(body).encode("ascii")
    headers = {"content-type": "application/json", "idempotency-key": secrets.token_hex(16)}
    missing = _missing(server, model, repo)
    files = size = 0
    for _ in range(_ROUNDS):
        files += len(missing)
        size += sum(entry.size for entry in missing)
        _send_files(server, model, repo, missing, progress, kept=kept)
        answer = server.ask(
            "POST", f"/v2/repos/{repo}/models", content=lambda: content, headers=headers, check=False
        )
        if answer.status_code == 409 and (wanted := server.object_of(answer).get("missing")):
            missing = _entries(server, model, wanted)
            continue
        return Accepted(begun(server, server.object_of(server.checked(answer))), files, size)
    raise AnswerNotUnderstood(server=server.at.url, reason="it wants the same files again and again")


def _missing(server: Server, model: Model, repo: str) -> list[Entry]:
    digests = list(model.files)
    found: list[Entry] = []
    for start in range(0, len(digests), _ASKED):
        asked = {"repo": repo, "digests": digests[start : start + _ASKED]}
        said = server.ask_json("POST", "/v2/objects/missing", json=asked)
        found += _entries(server, model, said.get("missing"))
    return found


def _entries(server: Server, model: Model, digests: object) -> list[Entry]:
    files = model.files
    if not isinstance(digests, list) or not all(digest in files for digest in digests):
        raise AnswerNotUnderstood(server=server.at.url, reason="it lacks files that the model does not have")
    return [files[digest] for digest in digests]


def _send_files(
    server: Server, model: Model, repo: str, files: list[Entry], progress: Progress, *, kept: list[Entry]
) -> None:
    """Send files, several at once, and add those that arrived to *kept*; the first error ends all."""
    progress.begin(len(files), sum(entry.size for entry in files), len(model.files) - len(files))
    waiting: SimpleQueue[list[Entry]] = SimpleQueue()
    requests = _requests(files)
    for request in requests:
        waiting.put(request)
    sending = _Sending(server, model, repo, progress, kept=kept)
    # Not a pool: its threads are waited for at exit, and who presses Ctrl-C twice does not want to wait.
    threads = [
        threading.Thread(target=sending.work, args=(waiting,), daemon=True)
        for _ in range(min(_AT_ONCE, len(requests)))
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.2)  # a bare join would not hear signals
    finally:
        sending.stopped.set()
        progress.close()
    if sending.trouble is not None:
        raise sending.trouble


def _requests(files: list[Entry]) -> list[list[Entry]]:
    """Return the files of each request, the largest first: the last ones on their way are then short."""
    requests: list[list[Entry]] = []
    size = 0
    for entry in sorted(files, key=lambda entry: -entry.size):
        small = entry.size < _SMALL
        if not (small and size and size + entry.size <= _BYTES_TOGETHER and len(requests[-1]) < _TOGETHER):
            requests.append([])
            size = 0
        requests[-1].append(entry)
        size += max(entry.size, 1) if small else 0
    return requests


class _Sending:
    """Files under way."""

    def __init__(
        self, server: Server, model: Model, repo: str, progress: Progress, *, kept: list[Entry]
    ) -> None:
        self._server, self._model, self._repo, self._progress = server, model, repo, progress
        self._kept = kept
        self.stopped = threading.Event()
        self.trouble: BaseException | None = None

    def work(self, waiting: SimpleQueue[list[Entry]]) -> None:
        """Send files until there are none, or something went wrong."""
        while not self.stopped.is_set():
            try:
                self._send(waiting.get_nowait())
            except Empty:
                return
            except BaseException as trouble:  # noqa: BLE001 - raised again by the thread that waits
                self.trouble = self.trouble or trouble
                self.stopped.set()

    def _send(self, entries: list[Entry]) -> None:
        told = 0
        first = b""
        if len(entries) > 1:
            first = json.dumps([[entry.value, entry.size] for entry in entries]).encode() + b"\n"

        def content() -> Iterator[bytes]:
            nonlocal told
            if told:  # the connection broke, and it begins anew
                self._progress.sent(-told)
                told = 0
            if first:
                yield first
            for piece in chain.from_iterable(pieces(self._model, entry) for entry in entries):
                if self.stopped.is_set():
                    raise InterruptedError("sending was broken off")
                yield piece
                told += len(piece)
                self._progress.sent(len(piece))

        headers: dict[str, Any] = {
            "content-type": "application/octet-stream",
            "content-length": str(len(first) + sum(entry.size for entry in entries)),
        }
        together = len(entries) > 1
        self._server.ask(
            "POST" if together else "PUT",
            "/v2/objects" if together else f"/v2/objects/{entries[0].value}",
            content=content,
            headers=headers,
            params={"repo": self._repo},
        )
        self._kept.extend(entries)
