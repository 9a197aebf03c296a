"""Images: a manifest, a configuration, layers. One is derived from another by arithmetic, and pushed without a daemon."""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cogbuild_adapter.images.layers import Layer, scratch
from cogbuild_adapter.images.progress import size
from cogbuild_adapter.images.reference import Reference, parse
from cogbuild_adapter.images.registry import RegistryError, Repository

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_OCI = "application/vnd.oci.image.manifest.v1+json"
_DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_ACCEPTED = (_OCI, _DOCKER, *_INDEXES)
_LAYER_TYPES = {
    _OCI: "application/vnd.oci.image.layer.v1.tar+gzip",
    _DOCKER: "application/vnd.docker.image.rootfs.diff.tar.gzip",
}
_EPOCH = "1970-01-01T00:00:00Z"


@dataclass(frozen=True)
class Image:
    """An image, in a registry or about to be there."""

    manifest: bytes
    media_type: str
    config: bytes
    source: Reference | None = None  # where the layers are that are not in *layers*
    layers: tuple[Layer, ...] = ()  # those made here

    @property
    def digest(self) -> str:
        """What names the image wherever it is."""
        return _digest(self.manifest)

    @property
    def settings(self) -> dict[str, Any]:
        """How it runs: ``Env``, ``Cmd``, ``Labels`` and so on."""
        found: dict[str, Any] = json.loads(self.config).get("config") or {}
        return found

    @property
    def env(self) -> dict[str, str]:
        """Its environment variables."""
        return dict(item.partition("=")[::2] for item in self.settings.get("Env") or [])

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return dict(self.settings.get("Labels") or {})

    def missing(self) -> list[str]:
        """Return the digests of what its repository does not have of it."""
        assert self.source is not None
        repository = Repository(self.source)
        return [
            part["digest"]
            for part in _parts(self.manifest)
            if not part.get("urls") and not repository.has(part["digest"])
        ]

    def push(self, target: str | Reference) -> str:
        """Send the image to *target*, ``HOST/REPOSITORY`` or with a tag, and return its name by digest.

        Only what the registry does not have is sent; layers of another repository of it are mounted.
        """
        at = parse(target) if isinstance(target, str) else target
        repository = Repository(at)
        made = {layer.digest: layer for layer in self.layers}
        config, *layers = _parts(self.manifest)
        for part in layers:
            if not part.get("urls") and not repository.has(part["digest"]):
                self._send(repository, part, made.get(part["digest"]))
        if not repository.has(config["digest"]):
            with tempfile.TemporaryFile() as file:
                file.write(self.config)
                repository.upload(config["digest"], len(self.config), file, "the configuration")
        repository.put_manifest(at.tag or self.digest, self.manifest, self.media_type)
        return str(at.by_digest(self.digest))

    def _send(self, repository: Repository, part: dict[str, Any], made: Layer | None) -> None:
        digest, total = part["digest"], part["size"]
        if made is not None:
            print(f"sending the layer of {made.comment}, {size(total)}")
            with open(made.file, "rb") as file:
                repository.upload(digest, total, file, f"the layer of {made.comment}")
            return
        assert self.source is not None
        near = self.source.host == repository.host
        if near and repository.mount(digest, self.source.repository):
            return
        print(f"copying {digest[:19]} of {self.source}, {size(total)}")
        with tempfile.TemporaryFile(dir=scratch()) as file:
            Repository(self.source).download(digest, total, file)
            repository.upload(digest, total, file, digest[:19])


def fetch(name: str | Reference, platform: str = "linux/amd64") -> Image:
    """Return the image of that name; of several for several platforms, the one for *platform*."""
    at = parse(name) if isinstance(name, str) else name
    repository = Repository(at)
    data, media_type = repository.manifest(at.version, _ACCEPTED)
    found = _json(data, at)
    media_type = found.get("mediaType") or media_type
    if media_type in _INDEXES or "manifests" in found:
        digest = _chosen(found, platform, at)
        data, media_type = repository.manifest(digest, _ACCEPTED)
        found = _json(data, at)
        media_type = found.get("mediaType") or media_type
    if media_type not in _LAYER_TYPES or "config" not in found:
        raise RegistryError(f"{at} is no image that can be read here: its media type is {media_type}")
    config = repository.blob(found["config"]["digest"])
    if len(_json(config, at).get("rootfs", {}).get("diff_ids") or []) != len(found["layers"]):
        raise RegistryError(f"{at} is no image: its configuration names other layers than its manifest")
    return Image(data, media_type, config, source=at)


def empty(platform: str = "linux/amd64") -> Image:
    """Return the image without files, for one that is made from nothing."""
    system, architecture, *_ = platform.split("/")
    config = _packed(
        {"architecture": architecture, "os": system, "rootfs": {"type": "layers", "diff_ids": []}}
    )
    return Image(_manifest(_OCI, config, []), _OCI, config)


def derive(
    base: str | Reference | Image,
    layers: Sequence[Layer] = (),
    *,
    cmd: Sequence[str] | None = None,
    entrypoint: Sequence[str] | None = None,
    env: Mapping[str, str] = {},
    labels: Mapping[str, str] = {},
    ports: Sequence[int] = (),
    workdir: str | None = None,
    user: str | None = None,
    platform: str = "linux/amd64",
) -> Image:
    """Return *base* with *layers* on top and its settings changed; all that is not given stays as it is.

    The same base, layers and settings give the same digest. Nothing is sent before ``push``.
    """
    image = base if isinstance(base, Image) else fetch(base, platform)
    config = json.loads(image.config)
    settings = config.setdefault("config", {})
    settings["Env"] = [f"{name}={value}" for name, value in {**image.env, **env}.items()]
    settings["Labels"] = {**image.labels, **labels}
    settings["ExposedPorts"] = {
        **(settings.get("ExposedPorts") or {}),
        **{f"{port}/tcp": {} for port in ports},
    }
    given = {"Cmd": cmd, "Entrypoint": entrypoint, "WorkingDir": workdir, "User": user}
    for name, value in given.items():
        if value is not None:
            settings[name] = value if isinstance(value, str) else list(value)
    config["created"] = _EPOCH
    config["rootfs"]["diff_ids"] += [layer.diff_id for layer in layers]
    if config.get("history") or not image.source:  # a base without a history has none to be continued
        steps = [{"created": _EPOCH, "created_by": f"cogbuild: {layer.comment}"} for layer in layers]
        config["history"] = [*(config.get("history") or []), *steps]
    kind = _LAYER_TYPES[image.media_type]
    parts = [{"mediaType": kind, "digest": layer.digest, "size": layer.size} for layer in layers]
    data = _packed(config)
    manifest = _manifest(image.media_type, data, [*_parts(image.manifest)[1:], *parts])
    return Image(manifest, image.media_type, data, image.source, (*image.layers, *layers))


def _manifest(media_type: str, config: bytes, layers: list[dict[str, Any]]) -> bytes:
    kind = media_type.replace("manifest.v1", "config.v1").replace(
        "distribution.manifest.v2", "container.image.v1"
    )
    described = {"mediaType": kind, "digest": _digest(config), "size": len(config)}
    return _packed({"schemaVersion": 2, "mediaType": media_type, "config": described, "layers": layers})


def _parts(manifest: bytes) -> list[dict[str, Any]]:
    """Return the descriptors of the configuration and of each layer."""
    found = json.loads(manifest)
    return [found["config"], *found["layers"]]


def _chosen(index: dict[str, Any], platform: str, at: Reference) -> str:
    system, architecture, *variant = platform.split("/")
    there = []
    for item in index["manifests"]:
        has = item.get("platform") or {}
        there.append("/".join(filter(None, (has.get("os"), has.get("architecture"), has.get("variant")))))
        wanted = not variant or has.get("variant") == variant[0]
        if (has.get("os"), has.get("architecture")) == (system, architecture) and wanted:
            digest: str = item["digest"]
            return digest
    raise RegistryError(
        f"{at} has no image for {platform}, only for {', '.join(filter(None, there)) or 'none'}"
    )


def _json(data: bytes, at: Reference) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise RegistryError(f"what the registry sends as {at} is no image")
    return found


def _packed(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
