"""Requests to one server: errors in words, and patience where a connection breaks.

Every request that goes through ``ask`` may be sent twice: it reads, it puts bytes under their digest, or it carries an
``Idempotency-Key``. So a broken connection is taken up again, with growing pauses, until nothing came back for
``patience`` seconds. A proxy that answers for a server which is away is as a broken connection.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import httpx

from cogbuild import __version__
from cogbuild.errors.client import (
    AnswerNotUnderstood,
    AuthoritiesUnreadable,
    ConnectionBroke,
    ConnectionLost,
    NotACogServer,
    ServerAway,
    ServerElsewhere,
    ServerTooNew,
    ServerUnproven,
    TokenRefused,
    TokenWanted,
)
from cogbuild.errors.told import told
from cogbuild.report.words import span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cogbuild.client.address import Address
    from cogbuild.errors import CogbuildError

__all__ = ["API", "PATIENCE", "Pauses", "Server", "described"]

#: The version of the interface that this client speaks.
API = 2
#: Seconds without any sign of life before a connection that once worked is given up.
PATIENCE = 120.0
#: Seconds for a proxy to find its server, which may be about to start, where it has not answered yet.
_FIRST_PATIENCE = 5.0

_TIMEOUT = httpx.Timeout(60, connect=10, pool=None)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_AGAIN = (408, 429, 502, 503, 504)  # of which 503 only where it is not cogbuild itself that speaks


class Pauses:
    """How long to wait before the next try, and when to give up."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self._next = _FIRST_PAUSE
        self._since: float | None = None

    def worked(self) -> None:
        """Hear that something came back."""
        self._next, self._since = _FIRST_PAUSE, None

    def over(self, patience: float | None = None) -> bool:
        """Whether nothing has come back for too long; the time counts from the first question."""
        now = time.monotonic()
        self._since = self._since if self._since is not None else now
        return now - self._since >= min(self.patience, self.patience if patience is None else patience)

    def wait(self, wanted: float | None = None) -> None:
        """Sleep; *wanted* is what the server asked for, which is no leave to ask it all the time."""
        time.sleep(max(min(wanted or 0.0, self.patience), self._next))
        self._next = min(self._next * 2, _LONGEST_PAUSE)


class Server:
    """One server, spoken to from any thread."""

    def __init__(self, at: Address, *, patience: float = PATIENCE) -> None:
        self.at = at
        self.patience = patience
        self._met = threading.Event()  # it has answered once, so what breaks later may come back
        self._known = threading.Event()  # which interface it speaks was asked
        headers = {"user-agent": f"cogbuild/{__version__}"}
        if at.token is not None:
            headers["authorization"] = f"Bearer {at.token}"
        self._http = httpx.Client(
            headers=headers,
            timeout=_TIMEOUT,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=16),
            verify=_authorities() if at.url.startswith("https:") else False,
            trust_env=not at.loopback,  # what stays on this machine goes through no proxy
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._http.close()

    # -- asking ---------------------------------------------------------------------------------------------------

    def ask(
        self,
        method: str,
        path: str,
        *,
        content: Callable[[], Any] | None = None,
        goes_on: str | None = None,
        check: bool = True,
        **options: Any,
    ) -> httpx.Response:
        """Send a request that may be sent twice and return the answer, read to its end.

        *content* makes the body anew for each try. Without *check* what the server refuses is returned as well.
        """
        pauses = Pauses(self.patience)
        while True:
            try:
                with self._words():
                    body = content() if content is not None else None
                    answer = self._http.request(method, self.at.url + path, content=body, **options)
                self._meet(answer)
            except _Broken as broken:
                self.broke(pauses, broken, goes_on)
                continue
            if (wanted := _again(answer)) is not None and not pauses.over():
                pauses.wait(wanted)
                continue
            return self.checked(answer) if check else answer

    def ask_json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Return the JSON object that a request is answered with."""
        return self.object_of(self.ask(method, path, **options))

    @contextlib.contextmanager
    def once(self, method: str, path: str, **options: Any) -> Iterator[httpx.Response]:
        """Send a request once and yield the answer, not yet read. Raises ``ConnectionBroke`` where it breaks."""
        try:
            with self._words(), self._http.stream(method, self.at.url + path, **options) as answer:
                self._meet(answer)
                yield answer
        except _Broken as broken:
            kind = ConnectionBroke if self._met.is_set() else ServerAway
            raise kind(server=self.at.url, reason=broken.reason) from broken.__cause__

    @contextlib.contextmanager
    def stream(self, path: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """Yield an answer that is read as it comes. Raises ``Broke`` where the connection breaks."""
        with self._words(), self._http.stream("GET", self.at.url + path, headers=headers) as answer:
            self._meet(answer)
            if answer.status_code != 200:
                answer.read()
                if (wanted := _again(answer)) is not None:
                    raise _Broken(f"it answered {described(answer)}", wanted)
            self.checked(answer)
            yield answer

    def _meet(self, answer: httpx.Response) -> None:
        """Note that the server has answered; raise ``Broke`` where somebody else did, because it is away."""
        wanted = _again(answer)
        if wanted is not None and not answer.headers.get("cogbuild-version"):
            raise _Broken(f"it answered {described(answer)}", wanted)
        self._met.set()

    def broke(self, pauses: Pauses, broken: _Broken, goes_on: str | None = None) -> None:
        """Wait after a broken connection; raise ``ServerAway`` or ``ConnectionLost`` where it is of no more use."""
        if self._met.is_set():
            patience = self.patience
        else:  # where nobody listens at all, the address is wrong more often than the moment
            patience = _FIRST_PATIENCE if broken.wanted is not None else 0.0
        if pauses.over(patience):
            raise self._gone(broken.reason, goes_on)
        pauses.wait(min(broken.wanted or 0.0, patience))

    def _gone(self, reason: str, goes_on: str | None = None) -> CogbuildError:
        if not self._met.is_set():
            return ServerAway(server=self.at.url, reason=reason)
        waited = span(self.patience)
        return ConnectionLost(server=self.at.url, waited=waited, reason=reason, goes_on=goes_on)

    @contextlib.contextmanager
    def _words(self) -> Iterator[None]:
        """Turn what httpx raises into ``_Broken``, or into errors that no patience mends."""
        try:
            yield
        except httpx.TransportError as trouble:
            proof = _cause(trouble, ssl.SSLCertVerificationError)
            if proof is not None:
                reason = getattr(proof, "verify_message", None) or str(proof)
                raise ServerUnproven(server=self.at.url, reason=reason) from None
            raise _Broken(_reason(trouble)) from trouble
        except (httpx.InvalidURL, httpx.DecodingError) as trouble:
            raise AnswerNotUnderstood(server=self.at.url, reason=str(trouble)) from None

    # -- answers --------------------------------------------------------------------------------------------------

    def checked(self, answer: httpx.Response) -> httpx.Response:
        """Return an answer that is good and a Cog server's of our interface; raise what it says otherwise."""
        version, api = (answer.headers.get(name) for name in ("cogbuild-version", "cogbuild-api"))
        if version and api and api != str(API):
            raise self._too_new(api, version)
        if answer.is_success:
            if not version:
                raise NotACogServer(server=self.at.url, it_answered=described(answer))
            if not api and not self._known.is_set():
                self.speaks()
            return answer
        if answer.is_redirect:
            raise ServerElsewhere(server=self.at.url, to=answer.headers.get("location", "nowhere"))
        if answer.status_code == 401:
            raise (TokenRefused if self.at.token else TokenWanted)(server=self.at.url)
        said = self._json(answer)
        error = said.get("error") if isinstance(said, dict) else None
        if isinstance(error, dict) and not _nowhere(answer, error):
            hint = error.get("hint")
            if isinstance(hint, str):
                error = {**error, "hint": self.at.named(hint)}
            raise told(error, self.at.named(self.at.masked(str(said.get("text") or ""))))
        if answer.status_code == 404 or not answer.headers.get("cogbuild-version"):
            raise NotACogServer(server=self.at.url, it_answered=described(answer))
        raise AnswerNotUnderstood(server=self.at.url, it_answered=described(answer))

    def object_of(self, answer: httpx.Response) -> dict[str, Any]:
        """Return the JSON object in an answer."""
        said = self._json(answer)
        if not isinstance(said, dict):
            raise AnswerNotUnderstood(server=self.at.url, it_answered=described(answer))
        return said

    def _json(self, answer: httpx.Response) -> Any:
        try:
            return answer.json()
        except ValueError:
            return None

    def speaks(self) -> int:
        """Return the version of the interface that the server speaks: 2, or 1 of a Cog server of 2021.

        Raises ``NotACogServer`` and ``ServerTooNew``, and what is wrong with the token.
        """
        answer = self.ask("GET", "/v2", check=False)
        if answer.status_code in (404, 405) and not answer.headers.get("cogbuild-version"):
            ping = self.ask("GET", "/ping", check=False)
            if ping.status_code == 200 and "pong" in ping.text[:100].lower():
                return 1
            raise NotACogServer(server=self.at.url, it_answered=described(answer))
        self._known.set()
        said = self._json(self.checked(answer))
        if not isinstance(said, dict) or "cogbuild" not in said:
            raise NotACogServer(server=self.at.url, it_answered=described(answer))
        if said.get("api") != API:
            raise self._too_new(said.get("api"), said["cogbuild"])
        return API

    def _too_new(self, api: object, its_cogbuild: object) -> ServerTooNew:
        return ServerTooNew(server=self.at.url, api=api, known=API, its_cogbuild=its_cogbuild)


def _authorities() -> ssl.SSLContext:
    try:
        return httpx.create_ssl_context()
    except OSError as trouble:
        named = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
        raise AuthoritiesUnreadable(path=named, reason=trouble.strerror or str(trouble)) from None


class _Broken(Exception):
    """The connection broke, or never came about; *wanted* is the pause that who answers for the server wants."""

    def __init__(self, reason: str, wanted: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wanted = wanted


Broke = _Broken


def _cause(trouble: BaseException, kind: type[BaseException]) -> BaseException | None:
    """Return the exception of a *kind* that was behind another."""
    seen: BaseException | None = trouble
    while seen is not None and not isinstance(seen, kind):
        seen = seen.__cause__ or seen.__context__
    return seen


def _reason(trouble: httpx.TransportError) -> str:
    behind = _cause(trouble, OSError)
    if isinstance(behind, OSError) and behind.strerror:
        return behind.strerror.lower()
    if isinstance(trouble, httpx.TimeoutException):
        return "it did not answer in time"
    return str(trouble) or type(trouble).__name__


def _again(answer: httpx.Response) -> float | None:
    """Return after how many seconds a request is to be sent again, None where the answer is final."""
    if answer.status_code not in _AGAIN:
        return None
    wanted = answer.headers.get("retry-after", "")
    if wanted.isascii() and wanted.isdigit():
        return float(wanted)
    ours = bool(answer.headers.get("cogbuild-version"))
    return None if ours and answer.status_code != 429 else 1.0


def _nowhere(answer: httpx.Response, error: Mapping[str, Any]) -> bool:
    """Whether a server of ours has nothing at all at this path; what it does not know there, it calls by name."""
    return answer.status_code == 404 and error.get("error") == "Request"


def described(answer: httpx.Response) -> str:
    """Return an answer in a few words."""
    kind = answer.headers.get("content-type", "").partition(";")[0]
    return f"{answer.status_code} {answer.reason_phrase}".strip() + (f", {kind}" if kind else "")
