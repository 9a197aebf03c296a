"""Who we are to a registry: the site's variables, or what ``docker login`` wrote."""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from cogbuild_adapter.contract import AdapterError
from cogbuild_adapter.images.reference import site_host


def credentials(host: str) -> tuple[str, str] | None:
    """Return user and password for *host*, or ``None``.

    ``REGISTRY_USER`` and ``REGISTRY_PASSWORD`` are for the site's registry and are shown to no other.
    """
    user, password = os.environ.get("REGISTRY_USER"), os.environ.get("REGISTRY_PASSWORD")
    if user and password and host == site_host():
        return user, password
    file = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker", "config.json")
    try:
        config = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise AdapterError(f"{file} cannot be read: {error}") from None
    return _from_helper(config, host) or _from_file(config, host, file)


def _from_file(config: dict[str, Any], host: str, file: Path) -> tuple[str, str] | None:
    for name, entry in config.get("auths", {}).items():
        # docker writes hosts, and for some registries the address of an API.
        if name.partition("://")[2].partition("/")[0] != host and name.partition("/")[0] != host:
            continue
        if entry.get("username"):
            return entry["username"], entry.get("password", "")
        try:
            user, colon, password = (
                base64.b64decode(entry.get("auth", ""), validate=True).decode().partition(":")
            )
        except (binascii.Error, UnicodeDecodeError):
            raise AdapterError(f"the entry for {host} in {file} is no login: log in again") from None
        if colon:
            return user, password.rstrip("\0")
    return None


def _from_helper(config: dict[str, Any], host: str) -> tuple[str, str] | None:
    helper = config.get("credHelpers", {}).get(host) or config.get("credsStore")
    if not helper:
        return None
    command = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [command, "get"], input=host, capture_output=True, text=True, check=False, timeout=60
        )
    except FileNotFoundError:
        print(f"note: docker's configuration names {command}, which is not installed")
        return None
    except subprocess.TimeoutExpired:
        raise AdapterError(f"{command} gave no login for {host} within a minute") from None
    if done.returncode:
        return None  # it says on stdout that it knows no login for this host
    answer = json.loads(done.stdout)
    return answer["Username"], answer["Secret"]
