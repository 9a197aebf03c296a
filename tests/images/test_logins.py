"""Which login does a registry get? The kit and ``artifacts verify`` look in the same places, as docker and podman do.

Each case is tried with both, and the ones at the end with real registries, skopeo and a real helper program.
"""

from __future__ import annotations

import base64
import importlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from image_fixtures import at_home, images  # noqa: F401 - pytest finds fixtures by name
from registries import (
    IDENTITY,
    PASSWORD,
    USER,
    needs_openssl,
    needs_registry,
    serving,
    tokens,
    with_password,
)
from test_derive import pushed_base

from cogbuild.housekeeping.logins import Logins, LoginsUnreadable
from cogbuild.housekeeping.registries import NoAnswer, Registries

#: A helper as docker's own are: it reads a server's name, answers in JSON, and says so on stdout where it knows none.
HELPER = """#!/bin/sh
[ "$1" = get ] || exit 2
read -r server || [ -n "$server" ]
echo "$server" >>{asked}
case "$server" in
{known}
*) echo "credentials not found in native keychain"; exit 1 ;;
esac
"""
Ask = Callable[[str, str], tuple[str, str] | None]


def auth(user: str, password: str) -> dict[str, str]:
    """Return an entry as ``docker login`` writes it."""
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture(params=["kit", "verify"])
def ask(request: pytest.FixtureRequest, images: Any) -> Ask:
    """Ask one of the two for the login of a repository, with the environment as it is."""
    if request.param == "verify":
        return lambda host, repository: Logins(dict(os.environ), "").find(host, repository)
    kit = importlib.import_module("cogbuild_adapter.images.credentials")
    found: Ask = kit.credentials
    return found


def write(file: Path, content: object) -> None:
    """Write a file of logins."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Install ``docker-credential-vault`` with the logins that it knows, by server; returns what it was asked."""

    def install(script: str | None = None, **known: tuple[str, str]) -> Path:
        asked = tmp_path / "asked"
        file = tmp_path / "bin" / "docker-credential-vault"
        file.parent.mkdir(exist_ok=True)
        cases = [
            f"'{server}') echo '{json.dumps({'ServerURL': server, 'Username': user, 'Secret': secret})}' ;;"
            for server, (user, secret) in known.items()
        ]
        file.write_text(script or HELPER.format(asked=asked, known="\n".join(cases)))
        file.chmod(0o755)
        monkeypatch.setenv("PATH", f"{file.parent}:/usr/bin:/bin")
        return asked

    return install


# -- files --------------------------------------------------------------------------------------------------------


def test_a_login_is_for_its_host(ask: Ask, at_home: Path) -> None:
    """A host, the address of an API, and what is neither."""
    entries = {
        "one.example": auth("a", "1"),
        "https://two.example/v1/": auth("b", "2:3"),
        "three.example/v2/": auth("c", "3"),
    }
    write(at_home / ".docker" / "config.json", {"auths": entries})
    assert ask("one.example", "x/y") == ("a", "1")
    assert ask("two.example", "x") == ("b", "2:3")
    assert ask("three.example", "x") == ("c", "3")
    assert ask("one.example.evil", "x") is None
    assert ask("ne.example", "x") is None


def test_dockers_own_registry_has_another_name_there(ask: Ask, at_home: Path) -> None:
    """``docker login`` without a host writes the address of an API of old."""
    write(
        at_home / ".docker" / "config.json", {"auths": {"https://index.docker.io/v1/": auth("ada", "word")}}
    )
    assert ask("docker.io", "library/python") == ("ada", "word")
    assert ask("docker.io.example", "x") is None


def test_podmans_file_is_read_and_the_closest_entry_counts(ask: Ask, at_home: Path) -> None:
    """Podman keeps logins for parts of a registry; docker's file comes first where it knows one."""
    entries = {
        "r.example": auth("all", "1"),
        "r.example/team": auth("team", "2"),
        "r.example/team/x": auth("x", "3"),
    }
    write(at_home / "xdg_runtime_dir" / "containers" / "auth.json", {"auths": entries})
    assert ask("r.example", "team/x") == ("x", "3")
    assert ask("r.example", "team/xy") == ("team", "2")
    assert ask("r.example", "teams/x") == ("all", "1")
    write(at_home / ".docker" / "config.json", {"auths": {"r.example": auth("docker", "4")}})
    assert ask("r.example", "team/x") == ("docker", "4")


def test_files_named_by_variables_come_first(
    ask: Ask, at_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``REGISTRY_AUTH_FILE``, then ``DOCKER_CONFIG`` in place of the home's, then the home's own configuration."""
    write(
        at_home / "xdg_config_home" / "containers" / "auth.json",
        {"auths": {"r.example": auth("config", "1")}},
    )
    assert ask("r.example", "x") == ("config", "1")
    write(tmp_path / "docker" / "config.json", {"auths": {"r.example": auth("docker", "2")}})
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    assert ask("r.example", "x") == ("docker", "2")
    write(tmp_path / "named.json", {"auths": {"r.example": {"username": "named", "password": "3"}}})
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "named.json"))
    assert ask("r.example", "x") == ("named", "3")


def test_an_identity_token_has_no_user(ask: Ask, at_home: Path) -> None:
    """It is not a password."""
    write(
        at_home / ".docker" / "config.json", {"auths": {"r.example": auth("x", "") | {"identitytoken": "t"}}}
    )
    assert ask("r.example", "x") == ("", "t")


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"auths": {"r.example": {"auth": "?"}}}', '{"auths": {"r.example": 3}}']
)
def test_a_file_that_is_none_is_named(ask: Ask, at_home: Path, content: str) -> None:
    """Whatever is wrong with it."""
    from cogbuild_adapter.contract import AdapterError  # type: ignore[import-not-found]

    (at_home / ".docker").mkdir()
    (at_home / ".docker" / "config.json").write_text(content)
    with pytest.raises((LoginsUnreadable, AdapterError), match=rf"{at_home}/\.docker/config\.json"):
        ask("r.example", "x")


# -- helpers ------------------------------------------------------------------------------------------------------


def test_a_helper_is_asked_for_its_hosts(ask: Ask, at_home: Path, helper: Callable[..., Path]) -> None:
    """``credHelpers`` for some, ``credsStore`` for all; what they do not know may stand in the file."""
    asked = helper(**{"r.example": ("ada", "1"), "https://index.docker.io/v1/": ("hub", "2")})
    at = at_home / ".docker" / "config.json"
    write(
        at, {"credHelpers": {"r.example": "vault"}, "auths": {"r.example": {}, "s.example": auth("s", "3")}}
    )
    assert ask("r.example", "x") == ("ada", "1")
    assert ask("s.example", "x") == ("s", "3")
    assert asked.read_text().split() == ["r.example"]
    write(at, {"credsStore": "vault", "auths": {"s.example": auth("s", "3")}})
    assert ask("docker.io", "library/x") == ("hub", "2")
    assert ask("s.example", "x") == ("s", "3")
    assert ask("t.example", "x") is None
    assert asked.read_text().split()[1:] == ["https://index.docker.io/v1/", "s.example", "t.example"]


def test_a_helpers_token_is_no_password(ask: Ask, at_home: Path, helper: Callable[..., Path]) -> None:
    """Its user is called ``<token>``."""
    helper(**{"r.example": ("<token>", "long")})
    write(at_home / ".docker" / "config.json", {"credsStore": "vault"})
    assert ask("r.example", "x") == ("", "long")


def test_a_helper_that_fails_is_told_of(
    images: Any, at_home: Path, helper: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """What it says, that it is not there, that it says nothing: there is a note, and no login; the kit puts it into the log."""
    kit = importlib.import_module("cogbuild_adapter.images.credentials")
    write(at_home / ".docker" / "config.json", {"credsStore": "vault"})

    def note() -> str:
        known = Logins(dict(os.environ), "")
        assert known.find("r.example", "x") is None
        return known.notes["r.example"]

    helper("#!/bin/sh\necho the vault is locked >&2; exit 1\n")
    assert note() == "docker-credential-vault: the vault is locked"
    assert kit.credentials("r.example", "x") is None
    assert capsys.readouterr().out == (
        "note: docker-credential-vault gives no login for r.example: the vault is locked\n"
    )
    helper("#!/bin/sh\nexit 3\n")
    assert note() == "docker-credential-vault: exit code 3"
    shutil.rmtree(helper().parent / "bin")
    assert note() == "docker-credential-vault: no such file or directory"
    assert kit.credentials("r.example", "x") is None
    assert capsys.readouterr().out == (
        "note: docker's configuration names docker-credential-vault, which is not installed\n"
    )


# -- real registries ----------------------------------------------------------------------------------------------


def there(reference: str) -> bool:
    """Ask as ``artifacts verify`` does."""
    return Registries(dict(os.environ), "").has(reference)


@needs_registry
def test_a_helper_opens_a_registry(
    images: Any, tmp_path: Path, at_home: Path, helper: Callable[..., Path]
) -> None:
    """With user and password, for both."""
    (tmp_path / "registry").mkdir()
    with serving(tmp_path / "registry", with_password(tmp_path / "registry")) as registry:
        write(at_home / ".docker" / "config.json", {"credHelpers": {registry.host: "vault"}})
        helper(**{registry.host: (USER, PASSWORD)})
        pushed = pushed_base(images, registry)
        assert images.fetch(pushed).missing() == []
        assert there(pushed)
        helper("#!/bin/sh\necho the vault is locked; exit 1\n")
        with pytest.raises(NoAnswer) as caught:
            there(pushed)
        assert str(caught.value) == (
            f"the registry {registry.host} does not let this user in "
            "(docker-credential-vault: the vault is locked): use `docker login`"
        )


@needs_registry
@needs_openssl
def test_an_identity_token_is_exchanged(
    images: Any, tmp_path: Path, at_home: Path, helper: Callable[..., Path]
) -> None:
    """Where tokens come from, for what is done; a wrong one is said."""
    with tokens(tmp_path / "tokens") as server, serving(tmp_path / "registry", server.setting()) as registry:
        write(at_home / ".docker" / "config.json", {"credsStore": "vault"})
        helper(**{registry.host: ("<token>", IDENTITY)})
        pushed = pushed_base(images, registry)
        assert images.derive(pushed, [images.layer({"/a": "b"})]).push(f"{registry.host}/ada/model:1")
        assert there(pushed)
        helper(**{registry.host: ("<token>", "an old one")})
        with pytest.raises(images.RegistryError) as raised:
            images.fetch(pushed)
        assert str(raised.value) == (
            f"the registry {registry.host} wants a login for library/base, and its login says 401 to the identity "
            "token: use `docker login`, or REGISTRY_USER and REGISTRY_PASSWORD"
        )
        with pytest.raises(NoAnswer, match="gives no token: use `docker login`"):
            there(pushed)


@needs_registry
@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed (Debian: skopeo)")
def test_what_skopeo_wrote_is_read(
    images: Any, tmp_path: Path, at_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``skopeo login`` keeps logins where podman and buildah do, also for a part of a registry."""
    (tmp_path / "registry").mkdir()
    with serving(tmp_path / "registry", with_password(tmp_path / "registry")) as registry:
        file = tmp_path / "auth.json"
        login = ["skopeo", "login", "--tls-verify=false", f"--authfile={file}", "-u", USER, "-p", PASSWORD]
        subprocess.run([*login, f"{registry.host}/library"], check=True, capture_output=True)
        assert list(json.loads(file.read_text())["auths"]) == [f"{registry.host}/library"]
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(file))
        assert there(pushed_base(images, registry))
        with pytest.raises(images.RegistryError, match="no login for it was found"):
            images.fetch(f"{registry.host}/other/base:1")


def test_a_login_is_sent_nowhere_without_tls(images: Any) -> None:
    """Where tokens come from has to be https, or on this machine, or named in ``REGISTRY_PLAIN_HTTP``."""
    wire = importlib.import_module("cogbuild_adapter.images.wire")
    assert [
        wire.may_be_told(url)
        for url in (
            "https://r.example/token",
            "http://127.0.0.1:5/token",
            "http://r.example/token",
            "ftp://x/",
            "",
        )
    ] == [True, True, False, False, False]


def test_dockers_own_registry_is_asked_where_it_is(images: Any) -> None:
    """Images are called ``docker.io/…``, and its API has another host."""
    at = images.Repository(images.parse("docker.io/python:3.11-slim"))
    assert at.url == "https://registry-1.docker.io/v2/library/python"
    assert str(images.parse("docker.io/python:3.11-slim")) == "docker.io/library/python:3.11-slim"
