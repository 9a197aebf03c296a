"""Who we are to a registry: the site's variables, or what ``docker login`` and ``podman login`` wrote.

Files hold logins, or name a program ``docker-credential-…`` that does. The first file that knows a login for the
repository is believed.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["HUB", "Login", "Logins", "LoginsUnreadable"]

#: Docker's own registry, as names of images call it.
HUB = "docker.io"
# What Docker calls it where it keeps logins.
_HUB_NAMES = ("https://index.docker.io/v1/", "index.docker.io", HUB)
_PATIENCE = 20.0  # seconds for a helper
_TOKEN_USER = "<token>"  # noqa: S105 - what helpers call the owner of an identity token
_NOT_FOUND = "credentials not found"
_SHOWN = 200


class LoginsUnreadable(Exception):
    """A file of logins is none; the text says which."""


class Login(NamedTuple):
    """User and password; without a user, *secret* is an identity token, to be exchanged where tokens come from."""

    user: str
    secret: str

    @property
    def basic(self) -> str | None:
        """What is said as ``Authorization``, where user and password are asked for."""
        text = base64.b64encode(f"{self.user}:{self.secret}".encode()).decode()
        return f"Basic {text}" if self.user else None


class Logins:
    """The logins that one command knows; each helper is asked once for a host."""

    def __init__(self, environ: Mapping[str, str], site: str) -> None:
        self._environ = environ
        self._site = site.partition("/")[0]
        self._asked: dict[tuple[str, str], Login | None] = {}  # by helper and server
        self.notes: dict[str, str] = {}  # by host: why a helper gave nothing

    def find(self, host: str, repository: str) -> Login | None:
        """Return the login for a repository of *host*. Raises ``LoginsUnreadable``.

        ``REGISTRY_USER`` and ``REGISTRY_PASSWORD`` are for the site's registry and are shown to no other.
        """
        user, password = self._environ.get("REGISTRY_USER"), self._environ.get("REGISTRY_PASSWORD")
        if user and password and host == self._site:
            return Login(user, password)
        for file in self._files():
            try:
                config = json.loads(file.read_bytes())
                found = self._from_helper(config, host) or _from_file(config, host, repository)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
                raise LoginsUnreadable(f"docker's logins can't be read: {file}") from None
            if found is not None:
                return found
        return None

    def _files(self) -> Iterator[Path]:
        """Yield where logins may be, in the order in which they are looked at: docker's, then podman's."""
        environ, home = self._environ, Path(self._environ.get("HOME") or "/")
        if named := environ.get("REGISTRY_AUTH_FILE"):
            yield Path(named)
        yield Path(environ.get("DOCKER_CONFIG") or home / ".docker", "config.json")
        runtime = f"/run/containers/{os.getuid()}"
        yield Path(environ.get("XDG_RUNTIME_DIR") or runtime, "containers/auth.json")
        yield Path(runtime, "auth.json")
        yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config", "containers/auth.json")

    def _from_helper(self, config: dict[str, Any], host: str) -> Login | None:
        names = _HUB_NAMES if host == HUB else (host,)
        special = config.get("credHelpers") or {}
        helper = next((special[name] for name in names if special.get(name)), None) or config.get(
            "credsStore"
        )
        if not helper:
            return None
        asked = (f"docker-credential-{helper}", names[0])
        if asked not in self._asked:
            self._asked[asked] = self._said(*asked, host)
        return self._asked[asked]

    def _said(self, command: str, server: str, host: str) -> Login | None:
        from cogbuild.process import capture

        try:
            done = capture([command, "get"], env=self._environ, said=server.encode(), timeout=_PATIENCE)
        except OSError as trouble:
            self.notes[host] = f"{command}: {(trouble.strerror or 'it can not be run').lower()}"
            return None
        said = " ".join((done.stdout + done.stderr).decode("utf-8", "replace").split())[:_SHOWN]
        if done.timed_out or done.code:
            if _NOT_FOUND not in said:
                late = f"it gave none within {_PATIENCE:g} s" if done.timed_out else f"exit code {done.code}"
                self.notes[host] = f"{command}: {said or late}"
            return None
        answer = json.loads(done.stdout)
        user = answer["Username"]
        return Login("" if user == _TOKEN_USER else user, answer["Secret"])


def _from_file(config: dict[str, Any], host: str, repository: str) -> Login | None:
    auths = config.get("auths") or {}
    # podman keeps logins for a part of a registry too: the closest one counts.
    for name in sorted(auths, key=len, reverse=True):
        if _is_for(name, host, repository) and (found := _login(auths[name])):
            return found
    return None


def _is_for(name: str, host: str, repository: str) -> bool:
    if host == HUB and name in _HUB_NAMES:
        return True
    # docker writes hosts, and for some registries the address of an API.
    place, _, path = (name.partition("://")[2] or name).rstrip("/").partition("/")
    whole = not path or "://" in name or path in ("v1", "v2")
    return place == host and (whole or f"{repository}/".startswith(f"{path}/"))


def _login(entry: dict[str, Any]) -> Login | None:
    """Return the login in one entry of a file."""
    if token := entry.get("identitytoken"):
        return Login("", token)
    if entry.get("username"):
        return Login(entry["username"], entry.get("password", ""))
    user, colon, password = base64.b64decode(entry.get("auth") or "", validate=True).decode().partition(":")
    return Login(user, password.rstrip("\0")) if colon else None
