"""Asking container registries whether they have an image: one HEAD, logged in where they want that.

Logins come from ``REGISTRY_USER`` and ``REGISTRY_PASSWORD`` for the site's registry, else from what ``docker login`` wrote.
"""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from email.message import Message

__all__ = ["NoAnswer", "Registries", "names_registry"]

_PATIENCE = 20.0  # seconds for one answer
_LARGEST = 1 << 20
_LOOPBACK = re.compile(r"(localhost|127\.[0-9.]+|\[::1\])(:[0-9]+)?")
_HUB, _HUB_API, _HUB_LOGIN = "docker.io", "registry-1.docker.io", "index.docker.io"
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
        self._site = site.partition("/")[0]
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
            raise NoAnswer(f"the registry {image.host} does not let this user in: use `docker login`")
        raise NoAnswer(f"the registry {image.host} says {said.status}")

    def _base(self, host: str) -> str:
        return f"{'http' if self._plain(host) else 'https'}://{_HUB_API if host == _HUB else host}"

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
        known = self._credentials(image.host)
        basic = f"Basic {base64.b64encode(':'.join(known).encode()).decode()}" if known else None
        wanted = [item.partition(" ") for item in said.headers.get_all("WWW-Authenticate") or ()]
        for kind, _, rest in wanted:
            if kind.lower() == "bearer":
                fields = dict(re.findall(r'(\w+)="([^"]*)"', rest))
                self._logins[image.host, image.repository] = f"Bearer {self._token(image, fields, basic)}"
                return
            if kind.lower() == "basic" and basic is not None:
                self._logins[image.host, image.repository] = basic
                return

    def _token(self, image: _Image, fields: dict[str, str], basic: str | None) -> str:
        realm = fields.get("realm", "")
        parts = urlsplit(realm)
        if parts.scheme != "https" and not (parts.scheme == "http" and self._plain(parts.netloc)):
            raise NoAnswer(f"the registry {image.host} wants a login at {realm!r}, which is not https")
        query = {"service": fields.get("service", ""), "scope": f"repository:{image.repository}:pull"}
        headers = {"Authorization": basic} if basic else {}
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

    def _answer(self, host: str, method: str, url: str, headers: dict[str, str]) -> _Said:
        import http.client
        from urllib.error import HTTPError, URLError
        from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

        class Stay(HTTPRedirectHandler):
            def redirect_request(self, *_arguments: Any) -> None:
                """Go nowhere else: our login is nobody else's business."""

        proxies = [ProxyHandler({})] if _LOOPBACK.fullmatch(urlsplit(url).netloc) else []
        try:
            request = Request(url, headers=headers, method=method)
            with build_opener(Stay, *proxies).open(request, timeout=_PATIENCE) as answer:
                return _Said(answer.status, answer.headers, answer.read(_LARGEST))
        except HTTPError as refused:
            with refused:
                return _Said(refused.code, refused.headers, b"")
        except URLError as trouble:
            raise NoAnswer(f"the registry {host} does not answer: {_words(trouble.reason)}") from trouble
        except (OSError, http.client.HTTPException, ValueError) as trouble:
            raise NoAnswer(f"the registry {host} does not answer: {_words(trouble)}") from trouble

    # -- who we are -----------------------------------------------------------------------------------------------

    def _credentials(self, host: str) -> tuple[str, str] | None:
        user, password = self._environ.get("REGISTRY_USER"), self._environ.get("REGISTRY_PASSWORD")
        if user and password and host == self._site:
            return user, password
        home = self._environ.get("HOME", "")
        file = Path(self._environ.get("DOCKER_CONFIG") or os.path.join(home, ".docker"), "config.json")
        try:
            listed = json.loads(file.read_bytes()).get("auths", {}).items()
            return next((login for name, entry in listed if (login := _login(host, name, entry))), None)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, AttributeError, TypeError, RecursionError):
            raise NoAnswer(f"docker's logins can't be read: {file}") from None


def _login(host: str, name: str, entry: dict[str, Any]) -> tuple[str, str] | None:
    """Return the login in one entry of docker's configuration, where it is for *host*."""
    # docker writes hosts, and for some registries the address of an API.
    named = (name.partition("://")[2] or name).partition("/")[0]
    if named != host and (host, named) != (_HUB, _HUB_LOGIN):
        return None
    if entry.get("username"):
        return entry["username"], entry.get("password", "")
    user, colon, password = base64.b64decode(entry.get("auth", ""), validate=True).decode().partition(":")
    return (user, password.rstrip("\0")) if colon else None


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
    if host == _HUB and "/" not in repository:
        repository = f"library/{repository}"
    return _Image(host, repository, digest or tag or "latest")


def _words(trouble: object) -> str:
    if isinstance(trouble, OSError) and trouble.strerror:
        return trouble.strerror.lower()
    return str(trouble) or type(trouble).__name__
