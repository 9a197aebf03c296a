"""Who we are to a registry: the site's variables, or what ``docker login`` and ``podman login`` wrote.

Files hold logins, or name a program ``docker-credential-…`` that does. The first file that knows a login for the
repository is believed.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cogbuild_adapter.contract import AdapterError
from cogbuild_adapter.images.reference import HUB, site_host

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE = 60  # seconds for a helper
_TOKEN_USER = "<token>"  # what helpers call the owner of an identity token
_NOT_FOUND = "credentials not found"
#: What Docker calls its own registry where it keeps logins.
_HUB_NAMES = ("https://index.docker.io/v1/", "index.docker.io", HUB)


class Login(NamedTuple):
    """User and password; without a user, *secret* is an identity token, to be exchanged where tokens come from."""

    user: str
    secret: str


def credentials(host: str, repository: str) -> Login | None:
    """Return the login for a repository of *host*, or ``None``.

    ``REGISTRY_USER`` and ``REGISTRY_PASSWORD`` are for the site's registry and are shown to no other.
    """
    user, password = os.environ.get("REGISTRY_USER"), os.environ.get("REGISTRY_PASSWORD")
    if user and password and host == site_host():
        return Login(user, password)
    for file in login_files():
        try:
            config = json.loads(file.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            raise AdapterError(f"{file} cannot be read: {error}") from None
        try:
            found = _from_helper(config, host) or _from_file(config, host, repository)
        except (AttributeError, KeyError, TypeError, ValueError, binascii.Error):
            raise AdapterError(f"{file} holds no logins as docker writes them: log in again") from None
        if found is not None:
            return found
    return None


def login_files() -> Iterator[Path]:
    """Yield where logins may be, in the order in which they are looked at: docker's, then podman's."""
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        yield Path(named)
    home = Path.home()
    yield Path(os.environ.get("DOCKER_CONFIG") or home / ".docker", "config.json")
    yield Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/containers/{os.getuid()}", "containers/auth.json")
    yield Path(f"/run/containers/{os.getuid()}/auth.json")
    yield Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config", "containers/auth.json")


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
    if token := entry.get("identitytoken"):
        return Login("", token)
    if entry.get("username"):
        return Login(entry["username"], entry.get("password", ""))
    text = base64.b64decode(entry.get("auth") or "", validate=True).decode()
    user, colon, password = text.partition(":")
    return Login(user, password.rstrip("\0")) if colon else None


def _from_helper(config: dict[str, Any], host: str) -> Login | None:
    names = _HUB_NAMES if host == HUB else (host,)
    special = config.get("credHelpers") or {}
    helper = next((special[name] for name in names if special.get(name)), None) or config.get("credsStore")
    if not helper:
        return None
    command = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [command, "get"], input=names[0], capture_output=True, text=True, check=False, timeout=_PATIENCE
        )
    except FileNotFoundError:
        print(f"note: docker's configuration names {command}, which is not installed")
        return None
    except subprocess.TimeoutExpired:
        raise AdapterError(f"{command} gave no login for {host} within {_PATIENCE} s") from None
    if done.returncode:
        said = " ".join((done.stdout + done.stderr).split())[:200]
        if _NOT_FOUND not in said:
            print(f"note: {command} gives no login for {host}: {said or f'exit code {done.returncode}'}")
        return None
    answer = json.loads(done.stdout)
    user = answer["Username"]
    return Login("" if user == _TOKEN_USER else user, answer["Secret"])
