"""Names of images: where a registry is, which repository in it, which image in that."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace

from cogbuild_adapter.contract import AdapterError

_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

#: Docker's own registry, as names of images call it.
HUB = "docker.io"


@dataclass(frozen=True)
class Reference:
    """``HOST/REPOSITORY``, with a tag, a digest or both; what has neither means the tag ``latest``."""

    host: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def version(self) -> str:
        """What the registry is asked for."""
        return self.digest or self.tag or "latest"

    def by_digest(self, digest: str) -> Reference:
        """Return the name of exactly one image of the repository."""
        return replace(self, tag="", digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.host}/{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """Return what *text* names; a name without a host is one in the site's registry (``COG_DOCKER_REGISTRY``)."""
    first, slash, rest = text.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first):
        return _parsed(first, rest, text)
    if not os.environ.get("COG_DOCKER_REGISTRY"):
        raise AdapterError(
            f"the image {text!r} names no registry, and the site has none: write HOST/{text}, "
            "or set docker_registry in cogbuild.yaml"
        )
    return below_site(text)


def below_site(text: str) -> Reference:
    """Return the image that *text* names in the site's registry, below its path where it has one."""
    site = os.environ.get("COG_DOCKER_REGISTRY", "")
    if not site:
        raise AdapterError(
            "the site has no container registry: set docker_registry in cogbuild.yaml, "
            "or COGBUILD_DOCKER_REGISTRY, to HOST or HOST/path"
        )
    host, _, path = site.partition("/")
    return _parsed(host, f"{path}/{text}" if path else text, text)


def cpu_image() -> str:
    """Return the model's CPU image; an ``AdapterError`` where there is none."""
    name = os.environ.get("COG_CPU_IMAGE", "")
    if not name:
        raise AdapterError(
            "the model has no CPU image: add builtin:docker-cpu to adapters: in cogbuild.yaml, "
            "or give the image with `cogbuild models add --cpu-image`"
        )
    return name


def site_host() -> str:
    """Return the host of the site's registry, or nothing."""
    return os.environ.get("COG_DOCKER_REGISTRY", "").partition("/")[0]


def repository_name(*parts: str) -> str:
    """Return *parts* as a repository's name, which has no capitals and few signs."""
    names = [re.sub(r"[^a-z0-9]+", "-", part.lower().replace("_", "-")).strip("-") for part in parts]
    if not all(names):
        raise AdapterError(f"{'/'.join(parts)!r} cannot be made the name of an image")
    return "/".join(names)


def _parsed(host: str, rest: str, text: str) -> Reference:
    name, _, digest = rest.partition("@")
    repository, _, tag = name.partition(":")
    if host == HUB and "/" not in repository:
        repository = f"library/{repository}"
    fits = _NAME.fullmatch(repository) and (not tag or _TAG.fullmatch(tag))
    if not fits or (digest and not _DIGEST.fullmatch(digest)):
        raise AdapterError(f"{text!r} is no name of an image, such as HOST/user/name:tag")
    return Reference(host, repository, tag, digest)
