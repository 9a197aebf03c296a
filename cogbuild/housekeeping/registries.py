"""Asking container registries whether they have an image: one HEAD, logged in where they want that.

Logins are those that ``housekeeping.logins`` finds.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from cogbuild.housekeeping.logins import HUB, Logins, LoginsUnreadable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from email.message import Message

    from cogbuild.housekeeping.logins import Login

__all__ = ["NoAnswer", "Registries", "names_registry"]

_PATIENCE = 20.0  # seconds for one answer
_LARGEST = 1 << 20
_LOOPBACK = re.compile(r"(localhost|127\.[0-9.]+|\[::1\])(:[0-9]+)?")
_HUB_API = "registry-1.docker.io"
_MANIFESTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)


class NoAnswer(Exception):
    """A registry did not say whether it has an image; the text says why not."""


class _Said(NamedTuple):
    status: int
    headers: Message
    body: bytes


class _Image(NamedTuple):
    host: str
    repository: str
    version: str  # digest or tag


class Registries:
    """The registries that one command asks."""

    def __init__(self, environ: Mapping[str, str], site: str) -> None:
        self._environ = environ
        self._known = Logins(environ, site)
        self._logins: dict[tuple[str, str], str] = {}  # what is said as Authorization, by host and repository

    def has(self, reference: str) -> bool:
        """Whether the registry that *reference* names has the image. Raises ``NoAnswer``."""
        image = _parsed(reference)
        if image is None:
            raise NoAnswer("it names no registry")
        url = f"{self._base(image.host)}/v2/{image.repository}/manifests/{image.version}"
        said = self._ask(image, url)
        if said.status == 401:
            self._log_in(image, said)
            said = self._ask(image, url)
        if said.status == 200:
            return True
        if said.status == 404 and self._is_registry(image):
            return False
        if said.status in (401, 403):
            note = self._known.notes.get(image.host)
            why = f" ({note})" if note else ""
            raise NoAnswer(f"the registry {image.host} does not let this user in{why}: use `docker login`")
        raise NoAnswer(f"the registry {image.host} says {said.status}")

    def _base(self, host: str) -> str:
        return f"{'http' if self._plain(host) else 'https'}://{_HUB_API if host == HUB else host}"

    def _plain(self, host: str) -> bool:
        told = self._environ.get("REGISTRY_PLAIN_HTTP", "").replace(",", " ").split()
        return host in told or _LOOPBACK.fullmatch(host) is not None

    def _ask(self, image: _Image, url: str) -> _Said:
        headers = {"Accept": ", ".join(_MANIFESTS)}
        if login := self._logins.get((image.host, image.repository)):
            headers["Authorization"] = login
        return self._answer(image.host, "HEAD", url, headers)

    def _is_registry(self, image: _Image) -> bool:
        """Whether it is a registry that says 404, and not whoever took its place."""
        return self._answer(image.host, "GET", f"{self._base(image.host)}/v2/", {}).status in (200, 401)

    def _log_in(self, image: _Image, said: _Said) -> None:
        """Get what the registry asks for: user and password, or a token for reading this repository."""
        try:
            known = self._known.find(image.host, image.repository)
        except LoginsUnreadable as trouble:
            raise NoAnswer(str(trouble)) from trouble
        wanted = [item.partition(" ") for item in said.headers.get_all("WWW-Authenticate") or ()]
        for kind, _, rest in wanted:
            if kind.lower() == "bearer":
                fields = dict(re.findall(r'(\w+)="([^"]*)"', rest))
                self._logins[image.host, image.repository] = f"Bearer {self._token(image, fields, known)}"
                return
            if kind.lower() == "basic" and known is not None and known.basic is not None:
                self._logins[image.host, image.repository] = known.basic
                return

    def _token(self, image: _Image, fields: dict[str, str], known: Login | None) -> str:
        realm = fields.get("realm", "")
        parts = urlsplit(realm)
        if parts.scheme != "https" and not (parts.scheme == "http" and self._plain(parts.netloc)):
            raise NoAnswer(f"the registry {image.host} wants a login at {realm!r}, which is not https")
        query = {"service": fields.get("service", ""), "scope": f"repository:{image.repository}:pull"}
        if known is not None and not known.user:
            form = {"grant_type": "refresh_token", "client_id": "cogbuild", "refresh_token": known.secret}
            said = self._answer(image.host, "POST", realm, {}, urlencode(query | form).encode())
        else:
            headers = {"Authorization": known.basic} if known is not None and known.basic else {}
            url = f"{realm}{'&' if parts.query else '?'}{urlencode(query)}"
            said = self._answer(image.host, "GET", url, headers)
        try:
            found = json.loads(said.body) if said.status == 200 else {}
            token = found.get("token") or found.get("access_token")
        except (ValueError, AttributeError, RecursionError):
            token = None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise NoAnswer(f"the registry {image.host} gives no token: use `docker login`")
        return token

    def _answer(
        self, host: str, method: str, url: str, headers: dict[str, str], data: bytes | None = None
    ) -> _Said:
        import http.client
        from urllib.error import HTTPError, URLError
        from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

        class Stay(HTTPRedirectHandler):
            def redirect_request(self, *_arguments: Any) -> None:
                """Go nowhere else: our login is nobody else's business."""

        proxies = [ProxyHandler({})] if _LOOPBACK.fullmatch(urlsplit(url).netloc) else []
        try:
            request = Request(url, data, headers, method=method)
            with build_opener(Stay, *proxies).open(request, timeout=_PATIENCE) as answer:
                return _Said(answer.status, answer.headers, answer.read(_LARGEST))
        except HTTPError as refused:
            with refused:
                return _Said(refused.code, refused.headers, b"")
        except URLError as trouble:
            raise NoAnswer(f"the registry {host} does not answer: {_words(trouble.reason)}") from trouble
        except (OSError, http.client.HTTPException, ValueError) as trouble:
            raise NoAnswer(f"the registry {host} does not answer: {_words(trouble)}") from trouble


def names_registry(reference: str) -> bool:
    """Whether an image's name says in which registry it is; what does not may be an engine's own."""
    return _parsed(reference) is not None


def _parsed(reference: str) -> _Image | None:
    """Return what *reference* names, None where it says no registry."""
    name, _, digest = reference.partition("@")
    host, slash, repository = name.partition("/")
    if not slash or not (host == "localhost" or "." in host or ":" in host):
        return None
    repository, _, tag = repository.partition(":")
    if host == HUB and "/" not in repository:
        repository = f"library/{repository}"
    return _Image(host, repository, digest or tag or "latest")


def _words(trouble: object) -> str:
    if isinstance(trouble, OSError) and trouble.strerror:
        return trouble.strerror.lower()
    return str(trouble) or type(trouble).__name__
