"""One repository of a container registry over HTTP: what is there, get, mount, send.

Sessions and logins are those of the package ``oras``. What it sends is not used: its uploads read a blob into
memory, its retries sleep for two minutes, and a token for reading is never exchanged for one for writing.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlencode, urljoin, urlsplit

from cogbuild_adapter.contract import AdapterError
from cogbuild_adapter.images.credentials import credentials
from cogbuild_adapter.images.progress import Progress, size

try:
    import oras.auth
    import oras.provider
    import requests

    from cogbuild_adapter.images.wire import (
        PIECE,
        Passing,
        Patient,
        Rest,
        api,
        brief,
        fields,
        is_plain,
        may_be_told,
        received,
    )
except ImportError as missing:
    raise AdapterError("the adapter's environment needs the package oras") from missing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cogbuild_adapter.images.reference import Reference

_ATTEMPTS = 4
_FIRST_PAUSE = 1.0  # seconds; then twice as long each time
_PASSING = (408, 429, 500, 502, 503, 504)
_LARGEST_DOCUMENT = 16 << 20  # of a manifest or configuration; registries take 4 MiB


class RegistryError(AdapterError):
    """A registry that refuses, does not answer, or answers what makes no sense; one sentence."""


class Repository:
    """The repository that *reference* is in; one login each, because tokens are for one."""

    def __init__(self, reference: Reference) -> None:
        self.host, self.name = reference.host, reference.repository
        plain = is_plain(self.host)
        self._server = api(self.host)
        self.url = f"{'http' if plain else 'https'}://{self._server}/v2/{self.name}"
        session = oras.provider.Registry(hostname=self.host, insecure=plain).session
        session.mount("http://", Patient())
        session.mount("https://", Patient())
        session.auth = lambda request: request  # else requests puts what ~/.netrc says in place of our token
        self._session = session
        self._headers: dict[str, str] = {}  # our login, once the registry has said which kind it wants

    # -- reading --------------------------------------------------------------------------------------------------

    def manifest(self, version: str, accept: tuple[str, ...]) -> tuple[bytes, str]:
        """Return the manifest of a tag or digest and its media type."""
        url = f"{self.url}/manifests/{version}"
        with self._send("GET", url, headers={"Accept": ", ".join(accept)}, stream=True) as answer:
            if answer.status_code == 404:
                raise RegistryError(f"the registry has no image {self._named(version)}")
            self._expect(answer, (200,), f"showing {self._named(version)}")
            data = self._document(answer, version if version.startswith("sha256:") else None)
            return data, answer.headers.get("Content-Type", "").partition(";")[0]

    def blob(self, digest: str) -> bytes:
        """Return a small blob."""
        with self._send("GET", f"{self.url}/blobs/{digest}", stream=True) as answer:
            self._expect(answer, (200,), f"sending {digest[:19]} of {self.name}")
            return self._document(answer, digest)

    def has(self, digest: str) -> bool:
        """Whether the repository has the blob."""
        answer = self._send("HEAD", f"{self.url}/blobs/{digest}")
        self._expect(answer, (200, 404), f"looking for {digest[:19]} in {self.name}")
        return answer.status_code == 200

    def has_manifest(self, version: str, accept: tuple[str, ...]) -> bool:
        """Whether the repository has the tag or digest."""
        answer = self._send("HEAD", f"{self.url}/manifests/{version}", headers={"Accept": ", ".join(accept)})
        self._expect(answer, (200, 404), f"looking for {self._named(version)}")
        return answer.status_code == 200

    def download(self, digest: str, total: int, into: BinaryIO) -> None:
        """Write a blob of any size to *into*; started anew where the registry breaks off."""
        for attempt in range(_ATTEMPTS):
            into.seek(0)
            into.truncate()
            seen, progress = hashlib.sha256(), Progress(f"fetching {digest[:19]}", total)
            try:
                with self._send("GET", f"{self.url}/blobs/{digest}", stream=True) as answer:
                    self._expect(answer, (200,), f"sending {digest[:19]} of {self.name}")
                    for piece in answer.iter_content(PIECE):
                        into.write(piece)
                        seen.update(piece)
                        progress.add(len(piece))
            except requests.RequestException as error:
                self._wait(
                    attempt, f"the registry {self.host} broke off sending {digest[:19]}: {brief(error)}"
                )
                continue
            if f"sha256:{seen.hexdigest()}" == digest:
                into.seek(0)
                return
            self._wait(attempt, f"what the registry {self.host} sends as {digest[:19]} is something else")

    # -- writing --------------------------------------------------------------------------------------------------

    def mount(self, digest: str, source: str) -> bool:
        """Take over a blob of the repository *source* in the same registry; whether the registry did."""
        url = f"{self.url}/blobs/uploads/?{urlencode({'mount': digest, 'from': source})}"
        answer = self._send("POST", url)
        if answer.status_code == 202:  # it began an upload instead
            self._send("DELETE", self._location(answer))
        return answer.status_code == 201

    def upload(self, digest: str, total: int, file: BinaryIO, what: str) -> None:
        """Send the blob in *file*; what the registry has of it when it breaks off is not sent again."""
        progress = Progress(f"sending {what}", total)
        location, at, attempt = "", 0, 0
        while at < total or not location:
            try:
                location, at = self._resumed(location)
                if at < total:
                    location, at = self._sent(location, Rest(file, at, total, progress), what)
                continue
            except requests.RequestException as error:
                trouble = brief(error)
            sent = f"{size(progress.done)} of {size(total)}"
            self._wait(
                attempt,
                f"the registry {self.host} gave up while {what} was sent ({sent}): {trouble}",
                "the next run goes on with what is missing",
            )
            attempt += 1
        joint = "&" if urlsplit(location).query else "?"
        url = f"{location}{joint}{urlencode({'digest': digest})}"
        answer = self._send("PUT", url, headers={"Content-Length": "0"})
        if answer.status_code == 404 and self.has(digest):  # it had kept the blob before its answer was lost
            return
        self._expect(answer, (201, 204), f"keeping {what}")

    def put_manifest(self, version: str, data: bytes, media_type: str) -> None:
        """Store a manifest by tag or digest."""
        url = f"{self.url}/manifests/{version}"
        answer = self._send("PUT", url, headers={"Content-Type": media_type}, data=data)
        self._expect(answer, (201, 200), f"keeping {self._named(version)}")

    def _resumed(self, location: str) -> tuple[str, int]:
        """Return where to send a blob to, and from which byte on; a new place where there is none to go on with."""
        if location:
            answer = self._asked("GET", location)
            if answer.status_code == 204:
                return self._location(answer, location), received(answer, 0)
        answer = self._asked("POST", f"{self.url}/blobs/uploads/", headers={"Content-Length": "0"})
        self._expect(answer, (202,), f"taking anything for {self.name}")
        return self._location(answer), 0

    def _sent(self, location: str, rest: Rest, what: str) -> tuple[str, int]:
        """Send *rest*; return where the upload goes on and how much of the blob the registry then has."""
        headers = {"Content-Type": "application/octet-stream"}
        if rest.at:
            headers["Content-Range"] = f"{rest.at}-{rest.end - 1}"
        answer = self._once("PATCH", location, headers=headers, data=rest)
        if answer.status_code == 401:  # the token's time ran out
            self._log_in(answer)
        if answer.status_code in (*_PASSING, 401, 404, 416):
            raise Passing(f"it answers {answer.status_code}")
        self._expect(answer, (202,), f"taking {what}")
        kept = received(answer, rest.end)
        if kept <= rest.at:
            raise Passing("it kept nothing of it")
        return self._location(answer, location), kept

    # -- requests -------------------------------------------------------------------------------------------------

    def _send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] = {},
        data: bytes | None = None,
        stream: bool = False,
    ) -> requests.Response:
        """Return the answer; asked again after a moment where the registry is away."""
        for attempt in range(_ATTEMPTS):
            try:
                return self._asked(method, url, headers=headers, data=data, stream=stream)
            except requests.RequestException as error:
                self._wait(attempt, f"the registry {self.host} does not answer: {brief(error)}")
        raise AssertionError  # the last _wait raised

    def _asked(self, method: str, url: str, **named: Any) -> requests.Response:
        """Return the answer to one request, logged in where the registry wants that."""
        answer = self._once(method, url, **named)
        if answer.status_code in (401, 403) and "WWW-Authenticate" in answer.headers:
            self._log_in(answer)
            answer = self._once(method, url, **named)
        if answer.status_code in _PASSING:
            raise Passing(f"{answer.status_code} {answer.reason}", response=answer)
        return answer

    def _once(
        self, method: str, url: str, *, headers: Mapping[str, str] = {}, **named: Any
    ) -> requests.Response:
        # An upload may be told to go elsewhere, where our login is nobody's business.
        ours = self._headers if urlsplit(url).netloc == self._server else {}
        answer: requests.Response = self._session.request(method, url, headers={**headers, **ours}, **named)
        return answer

    def _log_in(self, answer: requests.Response) -> None:
        """Get what the registry asks for in *answer*: a token for that request, or user and password."""
        answer.close()
        known = credentials(self.host, self.name)
        wanted = answer.headers.get("WWW-Authenticate", "")
        kind = wanted.partition(" ")[0].lower()
        if kind == "basic" and (known is None or not known.user):
            raise RegistryError(self._refusal("no login for it was found"))
        if kind != "basic" and known is not None and not may_be_told(fields(wanted).get("realm", "")):
            raise RegistryError(
                self._refusal(f"sends us to {fields(wanted).get('realm')}, which is not https")
            )
        if known is not None and not known.user:
            self._headers = self._exchanged(fields(wanted), known.secret)
            return
        backend = oras.auth.get_auth_backend(
            "basic" if kind == "basic" else "token", self._session, self.url.startswith("http:")
        )
        if known:
            backend.set_basic_auth(*known)
        found, changed = backend.authenticate_request(answer, {}, refresh=True)
        if not changed:
            raise RegistryError(
                self._refusal("it gives no token" + (f" to {known[0]}" if known else " without a login"))
            )
        self._headers = found

    def _exchanged(self, wanted: dict[str, str], token: str) -> dict[str, str]:
        """Return the header for what the registry wants, got for an identity token."""
        form = {"grant_type": "refresh_token", "client_id": "cogbuild", "refresh_token": token}
        form |= {name: wanted[name] for name in ("service", "scope") if name in wanted}
        answer = self._session.post(wanted["realm"], data=form)
        found = answer.json().get("access_token") if answer.status_code == 200 else None
        if not found:
            raise RegistryError(self._refusal(f"its login says {answer.status_code} to the identity token"))
        return {"Authorization": f"Bearer {found}"}

    def _refusal(self, why: str) -> str:
        return (
            f"the registry {self.host} wants a login for {self.name}, and {why}: "
            "use `docker login`, or REGISTRY_USER and REGISTRY_PASSWORD"
        )

    def _expect(self, answer: requests.Response, wanted: tuple[int, ...], doing: str) -> None:
        if answer.status_code in wanted:
            return
        if answer.status_code == 401:
            raise RegistryError(self._refusal(f"refuses the one it got when {doing}"))
        said = " ".join(answer.text[:500].split()) or answer.reason
        raise RegistryError(f"the registry {self.host} answers {answer.status_code} when {doing}: {said}")

    def _wait(self, attempt: int, trouble: str, hint: str = "") -> None:
        """Wait before the next attempt; there is none after the last."""
        if attempt + 1 >= _ATTEMPTS:
            raise RegistryError(f"{trouble}; {hint}" if hint else trouble)
        pause = _FIRST_PAUSE * 2**attempt
        print(f"{trouble}; asking again in {pause:g} s")
        time.sleep(pause)

    def _document(self, answer: requests.Response, digest: str | None) -> bytes:
        data = b""
        for piece in answer.iter_content(PIECE):
            data += piece
            if len(data) > _LARGEST_DOCUMENT:
                raise RegistryError(f"the registry {self.host} sends more than 16 MiB as a manifest")
        if digest and f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            raise RegistryError(f"what the registry {self.host} sends as {digest[:19]} is something else")
        return data

    def _location(self, answer: requests.Response, otherwise: str = "") -> str:
        return urljoin(f"{self.url}/", answer.headers.get("Location", otherwise))

    def _named(self, version: str) -> str:
        return f"{self.host}/{self.name}{'@' if version.startswith('sha256:') else ':'}{version}"
