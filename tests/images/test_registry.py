"""Does a push come through logins, tokens and failures, and does it say what is wrong where it can't?"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from image_fixtures import at_home, images, quickly, registry  # noqa: F401 - pytest finds fixtures by name
from registries import (
    PASSWORD,
    USER,
    DockerRegistry,
    breaking,
    exact,
    free_port,
    needs_openssl,
    needs_registry,
    serving,
    tokens,
    with_password,
)
from test_derive import pushed_base

pytestmark = needs_registry


def log_in(home: Path, host: str) -> None:
    """Write what ``docker login`` writes."""
    (home / ".docker").mkdir(exist_ok=True)
    login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (home / ".docker" / "config.json").write_text(json.dumps({"auths": {host: {"auth": login}}}))


def big_layer(images: Any, where: Path, size: int = 8 << 20) -> Any:
    """Return a layer that does not shrink."""
    (where / "weights").write_bytes(os.urandom(size))
    return images.layer({"/src/weights": where / "weights"}, comment="the weights")


# -- logins -----------------------------------------------------------------------------------------------------------


def test_basic_login_from_dockers_configuration(images: Any, tmp_path: Path, at_home: Path) -> None:
    """What ``docker login`` wrote is used."""
    (tmp_path / "registry").mkdir()
    with serving(tmp_path / "registry", with_password(tmp_path / "registry")) as registry:
        log_in(at_home, registry.host)
        assert images.fetch(pushed_base(images, registry)).missing() == []


def test_the_sites_login_is_for_the_sites_registry(
    images: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """User and password from variables open the site's registry, and are shown to no other."""
    (tmp_path / "registry").mkdir()
    with serving(tmp_path / "registry", with_password(tmp_path / "registry")) as registry:
        monkeypatch.setenv("REGISTRY_USER", USER)
        monkeypatch.setenv("REGISTRY_PASSWORD", PASSWORD)
        with pytest.raises(images.RegistryError) as raised:
            images.fetch(f"{registry.host}/library/base")
        assert str(raised.value) == (
            f"the registry {registry.host} wants a login for library/base, and no login for it was found: "
            "use `docker login`, or REGISTRY_USER and REGISTRY_PASSWORD"
        )
        monkeypatch.setenv("COG_DOCKER_REGISTRY", f"{registry.host}/team")
        name = images.derive(images.empty(), [images.layer({"/a": "b"})]).push(images.below_site("model:1"))
        assert name.startswith(f"{registry.host}/team/model@sha256:")


def test_a_wrong_password_is_said(images: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the registry and the repository, not the password."""
    (tmp_path / "registry").mkdir()
    with serving(tmp_path / "registry", with_password(tmp_path / "registry")) as registry:
        for name, value in {"USER": USER, "PASSWORD": "secret"}.items():
            monkeypatch.setenv(f"REGISTRY_{name}", value)
        monkeypatch.setenv("COG_DOCKER_REGISTRY", registry.host)
        with pytest.raises(images.RegistryError) as raised:
            images.fetch("library/base:1")
        assert str(raised.value) == (
            f"the registry {registry.host} wants a login for library/base, and refuses the one it got when "
            "showing "
            f"{registry.host}/library/base:1: use `docker login`, or REGISTRY_USER and REGISTRY_PASSWORD"
        )


@needs_openssl
def test_tokens_are_got_for_what_is_done(images: Any, tmp_path: Path, at_home: Path) -> None:
    """A token for reading is exchanged for one for writing, and for a mount one that reads the other repository."""
    with tokens(tmp_path / "tokens") as server, serving(tmp_path / "registry", server.setting()) as registry:
        log_in(at_home, registry.host)
        base = pushed_base(images, registry)
        image = images.derive(base, [images.layer({"/a": "b"})])
        server.asked.clear()
        name = image.push(f"{registry.host}/ada/model:1")
        assert images.fetch(name).missing() == []
        asked = [set(scope.split(":")[2].split(",")) for scope in server.asked if ":ada/model:" in scope]
        assert asked[0] == {"pull"}
        assert {"pull", "push"} in asked
        assert "repository:library/base:pull" in server.asked


@needs_openssl
def test_a_public_image_needs_no_login(images: Any, tmp_path: Path, at_home: Path) -> None:
    """A token for nobody is enough to read what everybody may read; for more, the error asks for a login."""
    with tokens(tmp_path / "tokens") as server, serving(tmp_path / "registry", server.setting()) as registry:
        log_in(at_home, registry.host)
        base = pushed_base(images, registry, "public/base:1")
        (at_home / ".docker" / "config.json").unlink()
        image = images.fetch(base)
        with pytest.raises(images.RegistryError) as raised:
            image.push(f"{registry.host}/ada/model:1")
        assert str(raised.value).startswith(
            f"the registry {registry.host} wants a login for ada/model, and refuses"
        )


# -- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quickly")
def test_a_registry_that_dies_half_way_is_said_and_the_next_push_goes_on(
    images: Any, registry: DockerRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence says how far it came; then only what is missing is sent."""
    first, second = images.layer({"/first": "1"}, comment="the first"), big_layer(images, tmp_path)
    with breaking(registry, 3 << 20, registry.kill) as line:
        image = images.derive(images.empty(), [first, second])
        with pytest.raises(images.RegistryError) as raised:
            image.push(f"{line.host}/ada/model:1")
        sentence = str(raised.value)
        assert sentence.startswith(
            f"the registry {line.host} gave up while the layer of the weights was sent ("
        )
        assert " of 8.4 MB): " in sentence
        assert sentence.endswith("; the next run goes on with what is missing")
        assert "\n" not in sentence
    registry.start()
    assert registry.blobs() == {first.digest}
    capsys.readouterr()
    name = image.push(f"{registry.host}/ada/model:1")
    said = capsys.readouterr().out
    assert "the first" not in said
    assert "sending the layer of the weights" in said
    assert images.fetch(name).missing() == []


@pytest.mark.usefixtures("quickly")
def test_a_broken_line_only_costs_time(images: Any, registry: DockerRegistry, tmp_path: Path) -> None:
    """The blob is sent again; docker-registry 2.8 does not go on after half a request."""
    made = big_layer(images, tmp_path)
    with breaking(registry, 3 << 20) as line:
        name = images.derive(images.empty(), [made]).push(f"{line.host}/ada/model:1")
        assert images.fetch(name).missing() == []
    assert made.digest in registry.blobs()


@pytest.mark.usefixtures("quickly")
def test_an_upload_goes_on_where_the_line_broke(images: Any, tmp_path: Path) -> None:
    """With a registry that keeps half a request, as the OCI's specification has it, only the rest is sent."""
    made = big_layer(images, tmp_path)
    with exact(breaks_after=5 << 20) as server:
        images.derive(images.empty(), [made]).push(f"127.0.0.1:{server.server_port}/ada/model:1")
    assert server.blobs[made.digest] == made.file.read_bytes()
    assert [start for start, _ in server.patches][:2] == [0, 5 << 20]
    assert sum(size for _, size in server.patches) == made.size + len(server.config)


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize(("busy", "comes_through"), [(3, True), (4, False)])
def test_a_busy_registry_is_asked_again(busy: int, comes_through: bool, images: Any) -> None:
    """Three times; then the error says what it answers."""
    with exact() as server:
        server.busy = busy
        host = f"127.0.0.1:{server.server_port}"
        name = images.parse(f"{host}/a:1")
        if comes_through:
            assert images.Repository(name).has("sha256:0") is False
            return
        with pytest.raises(images.RegistryError) as raised:
            images.Repository(name).has("sha256:0")
        assert str(raised.value) == f"the registry {host} does not answer: 503 Service Unavailable"


@pytest.mark.usefixtures("quickly")
def test_an_upload_that_the_registry_forgot_begins_anew(
    images: Any, registry: DockerRegistry, tmp_path: Path
) -> None:
    """A registry that comes back without the upload gets it from the beginning."""
    made = big_layer(images, tmp_path)

    def forget() -> None:
        for uploads in (registry.directory / "held").glob("**/_uploads/*"):
            for path in sorted(uploads.rglob("*"), reverse=True):
                path.unlink() if path.is_file() else path.rmdir()
            uploads.rmdir()

    with breaking(registry, 3 << 20, forget) as line:
        name = images.derive(images.empty(), [made]).push(f"{line.host}/ada/model:1")
        assert images.fetch(name).missing() == []


@pytest.mark.usefixtures("quickly")
@pytest.mark.slow
def test_a_download_that_breaks_off_is_begun_anew(
    images: Any, registry: DockerRegistry, tmp_path: Path
) -> None:
    """A layer that came in half is not passed on."""
    made = big_layer(images, tmp_path)
    images.derive(images.empty(), [made]).push(f"{registry.host}/library/base:1")
    with serving(tmp_path / "other") as other:
        base = images.fetch(f"{registry.host}/library/base:1")
        blob = next((registry.directory / "held").glob(f"**/{made.digest.removeprefix('sha256:')}/data"))
        whole = blob.read_bytes()
        blob.write_bytes(whole[: 5 << 20])
        with pytest.raises(images.RegistryError, match=r"broke off sending|is something else"):
            base.push(f"{other.host}/ada/model:1")
        assert made.digest not in other.blobs()
        blob.write_bytes(whole)
        assert images.fetch(base.push(f"{other.host}/ada/model:1")).missing() == []


@pytest.mark.usefixtures("quickly")
def test_a_registry_that_is_not_there(images: Any) -> None:
    """One sentence, with the reason."""
    host = f"127.0.0.1:{free_port()}"
    with pytest.raises(images.RegistryError) as raised:
        images.fetch(f"{host}/a:1")
    assert str(raised.value) == (
        f"the registry {host} does not answer: ConnectionRefusedError: [Errno 111] Connection refused"
    )


def test_an_image_that_is_not_there(images: Any, registry: DockerRegistry) -> None:
    """The image is named as it was asked for."""
    with pytest.raises(images.RegistryError) as raised:
        images.fetch(f"{registry.host}/library/nothing:7")
    assert str(raised.value) == f"the registry has no image {registry.host}/library/nothing:7"


@pytest.mark.usefixtures("quickly")
def test_plain_http_only_here_or_where_told(images: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login never leaves this machine in the clear, unless the site says that this is all right."""

    def url(host: str) -> str:
        found: str = images.Repository(images.parse(f"{host}/a")).url
        return found.partition(":")[0]

    assert [url(host) for host in ("localhost:5000", "127.0.0.1:5000", "127.0.0.1.example")] == [
        "http",
        "http",
        "https",
    ]
    assert url("registry.local:5000") == "https"
    monkeypatch.setenv("REGISTRY_PLAIN_HTTP", "other, registry.local:5000")
    assert url("registry.local:5000") == "http"
