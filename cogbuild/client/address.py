"""Where a server is and with what we are let in: checked before anything is sent, and safe to print."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cogbuild.errors.client import NoServer, ServerUrlBad, ServerUrlSecret, TokenUnusable

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Address", "address"]

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Address:
    """A server's URL without a slash at its end, and the token, which is never shown."""

    url: str
    token: str | None = field(default=None, repr=False)

    @property
    def loopback(self) -> bool:
        """Whether nothing leaves this machine."""
        return urlsplit(self.url).hostname in _LOOPBACK

    @property
    def in_the_clear(self) -> bool:
        """Whether anybody on the way could read the token."""
        return self.token is not None and self.url.startswith("http:") and not self.loopback

    def masked(self, text: str) -> str:
        """Return *text* without the token, should somebody have put it there."""
        return text.replace(self.token, "***") if self.token else text

    def named(self, text: str) -> str:
        """Return *text*, an error's of the server, with its address in commands: it can't know how we reach it."""
        return text.replace("--server URL", f"--server {shlex.quote(self.url)}")


def address(server: str | None, token: str | None, environ: Mapping[str, str] | None = None) -> Address:
    """Return the address that options name, or else ``COGBUILD_SERVER`` and ``COGBUILD_TOKEN``."""
    environ = os.environ if environ is None else environ
    url = server or environ.get("COGBUILD_SERVER")
    if not url:
        raise NoServer
    return Address(_checked(url.strip()), _token(token or environ.get("COGBUILD_TOKEN")))


def _checked(url: str) -> str:
    if "@" in url.partition("?")[0]:
        raise ServerUrlSecret(server=url.partition("://")[0][:8] + "://***@" + url.rpartition("@")[2])
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as trouble:
        raise ServerUrlBad(server=repr(url), reason=str(trouble)) from None
    reason = None
    if parts.scheme not in ("http", "https"):
        reason = "it does not begin with http:// or https://"
    elif not host:
        reason = "it names no host"
    elif parts.query or parts.fragment:
        reason = "it has a ? or # in it"
    elif not url.isascii() or not url.isprintable() or " " in url:
        reason = "it has characters that addresses can't have"
    if reason is not None:
        raise ServerUrlBad(server=repr(url), reason=reason)
    return url.rstrip("/")


def _token(text: str | None) -> str | None:
    text = (text or "").strip()
    if not text:
        return None
    if not text.isascii() or not text.isprintable() or " " in text:
        raise TokenUnusable(reason="it has spaces, line ends or letters that a token can't have")
    return text
