"""Is what is derived and pushed the base with exactly the change asked for, and always the same?"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from image_fixtures import at_home, images, quickly, registry  # noqa: F401 - pytest finds fixtures by name
from registries import DockerRegistry, needs_registry, serving

pytestmark = needs_registry
needs_skopeo = pytest.mark.skipif(
    shutil.which("skopeo") is None, reason="skopeo is not installed (Debian: skopeo)"
)


def pushed_base(images: Any, registry: DockerRegistry, name: str = "library/base:1", **changes: Any) -> str:
    """Push a small base and return its name by digest."""
    settings = {"env": {"PATH": "/bin", "LANG": "C.UTF-8"}, "entrypoint": ["/bin/tini", "--"], **changes}
    base = images.derive(
        images.empty(), [images.layer({"/etc/os": "a base\n"}, comment="a base")], **settings
    )
    pushed: str = base.push(f"{registry.host}/{name}")
    return pushed


def copied(reference: str, into: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Let skopeo, which checks every digest, copy an image; return its manifest and configuration."""
    subprocess.run(
        ["skopeo", "copy", "--quiet", "--src-tls-verify=false", f"docker://{reference}", f"dir:{into}"],
        check=True,
    )
    manifest = json.loads((into / "manifest.json").read_bytes())
    return manifest, json.loads((into / manifest["config"]["digest"].removeprefix("sha256:")).read_bytes())


@needs_skopeo
def test_the_derived_image_is_the_base_and_the_change(
    images: Any, registry: DockerRegistry, tmp_path: Path
) -> None:
    """Layers come on top; what is set is set, what is not stays; the history goes on."""
    base = pushed_base(images, registry)
    shim = images.layer({"/opt/shim": "#!/bin/sh\n"}, comment="the shim")
    image = images.derive(
        base, [shim], cmd=["serve"], env={"PORT": "8080", "PATH": "/opt:/bin"}, labels={"run.by": "us"}, ports=[8080],
        workdir="/src",
    )  # fmt: skip
    name = image.push(f"{registry.host}/ada/model:1")
    assert name == f"{registry.host}/ada/model@{image.digest}"
    manifest, config = copied(name, tmp_path / "copy")
    assert [layer["digest"] for layer in manifest["layers"]][1:] == [shim.digest]
    assert config["config"] == {
        "Cmd": ["serve"],
        "Entrypoint": ["/bin/tini", "--"],
        "Env": ["PATH=/opt:/bin", "LANG=C.UTF-8", "PORT=8080"],
        "ExposedPorts": {"8080/tcp": {}},
        "Labels": {"run.by": "us"},
        "WorkingDir": "/src",
    }
    assert [step["created_by"] for step in config["history"]] == ["cogbuild: a base", "cogbuild: the shim"]
    assert (config["os"], config["architecture"], len(config["rootfs"]["diff_ids"])) == ("linux", "amd64", 2)


def test_deriving_twice_gives_one_digest(images: Any, registry: DockerRegistry) -> None:
    """The same base, layers and settings are the same image; other settings are another."""
    base = pushed_base(images, registry)

    def made(**changes: Any) -> str:
        layers = [images.layer({"/src/predict.py": "pass\n"})]
        digest: str = images.derive(base, layers, env={"A": "1", **changes}, ports=[5000]).digest
        return digest

    assert made() == made()
    assert made() != made(B="2")


def test_an_index_gives_the_image_for_the_platform(images: Any, registry: DockerRegistry) -> None:
    """Of several platforms linux/amd64 is taken, or the one asked for; one that is not there is named."""
    parts = []
    for platform in ("linux/arm64", "linux/amd64", "linux/arm/v7"):
        image = images.derive(images.empty(platform), [images.layer({"/etc/machine": platform})])
        image.push(f"{registry.host}/library/many")
        system, machine, *variant = platform.split("/")
        described = {"os": system, "architecture": machine, **({"variant": variant[0]} if variant else {})}
        size = len(image.manifest)
        parts.append(
            {"mediaType": image.media_type, "digest": image.digest, "size": size, "platform": described}
        )
    kind = "application/vnd.oci.image.index.v1+json"
    name = images.parse(f"{registry.host}/library/many:1")
    index = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": parts}).encode()
    images.Repository(name).put_manifest("1", index, kind)
    assert images.fetch(name).digest == parts[1]["digest"]
    assert images.fetch(name, "linux/arm/v7").digest == parts[2]["digest"]
    with pytest.raises(images.RegistryError) as raised:
        images.derive(name, platform="linux/s390x")
    assert (
        str(raised.value)
        == f"{name} has no image for linux/s390x, only for linux/arm64, linux/amd64, linux/arm/v7"
    )


@needs_skopeo
def test_an_image_of_dockers_own_format_stays_one(
    images: Any, registry: DockerRegistry, tmp_path: Path
) -> None:
    """Media types of manifest, configuration and layers stay in the family."""
    base = pushed_base(images, registry)
    command = "skopeo copy --quiet --format=v2s2 --src-tls-verify=false --dest-tls-verify=false"
    ends = [f"docker://{base}", f"docker://{registry.host}/library/docker:1"]
    subprocess.run([*command.split(), *ends], check=True)
    derived = images.derive(f"{registry.host}/library/docker:1", [images.layer({"/a": "b"})], cmd=["a"])
    manifest, config = copied(derived.push(f"{registry.host}/ada/docker"), tmp_path / "copy")
    assert manifest["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
    assert manifest["config"]["mediaType"] == "application/vnd.docker.container.image.v1+json"
    assert {layer["mediaType"] for layer in manifest["layers"]} == {
        "application/vnd.docker.image.rootfs.diff.tar.gzip"
    }
    assert config["config"]["Cmd"] == ["a"]


def test_layers_of_another_repository_are_mounted(
    images: Any, registry: DockerRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    """Within one registry nothing of the base is copied."""
    image = images.derive(pushed_base(images, registry), [images.layer({"/a": "b"}, comment="it")])
    capsys.readouterr()
    name = image.push(f"{registry.host}/ada/mounted")
    said = capsys.readouterr().out
    assert "copying" not in said
    assert "sending the layer of it" in said
    assert images.fetch(name).missing() == []


def test_a_base_of_another_registry_is_copied(images: Any, registry: DockerRegistry, tmp_path: Path) -> None:
    """What can't be mounted goes through this machine."""
    with serving(tmp_path / "other") as other:
        base = pushed_base(images, other)
        name = images.derive(base, cmd=["a"]).push(f"{registry.host}/ada/copied:1")
        assert registry.blobs() >= {
            layer["digest"] for layer in json.loads(images.fetch(base).manifest)["layers"]
        }
    assert images.fetch(name).settings["Cmd"] == ["a"]
    assert images.fetch(name).missing() == []


def test_pushing_again_sends_nothing(
    images: Any, registry: DockerRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is there is not sent again, under whatever tag."""
    image = images.derive(pushed_base(images, registry), [images.layer({"/a": "b"})])
    first = image.push(f"{registry.host}/ada/twice:1")
    capsys.readouterr()
    assert image.push(f"{registry.host}/ada/twice:2") == first
    assert capsys.readouterr().out == ""


def test_an_image_derived_from_one_not_pushed_yet(images: Any, registry: DockerRegistry) -> None:
    """Steps can follow each other before anything is sent."""
    first = images.derive(pushed_base(images, registry), [images.layer({"/a": "1"})], env={"A": "1"})
    name = images.derive(first, [images.layer({"/b": "2"})], env={"B": "2"}).push(
        f"{registry.host}/ada/steps"
    )
    found = images.fetch(name)
    assert found.missing() == []
    assert len(json.loads(found.manifest)["layers"]) == 3
    assert found.env == {"PATH": "/bin", "LANG": "C.UTF-8", "A": "1", "B": "2"}


@pytest.mark.parametrize(
    ("data", "says"),
    [(b'{"schemaVersion": 2, "layers": []}', "is no image that can be read here"), (b"[]", "sends as")],
)
def test_what_is_no_image(data: bytes, says: str, images: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that are not images are refused, by name."""
    kind = "application/vnd.oci.image.manifest.v1+json"
    monkeypatch.setattr(images.Repository, "manifest", lambda *_: (data, kind))
    with pytest.raises(images.RegistryError, match=says):
        images.fetch("registry.local/a:1")
