"""Whether a registry still has an image, asked as `artifacts verify` asks: against Debian's docker-registry."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from image_fixtures import at_home, images, quickly, registry  # noqa: F401 - pytest finds fixtures by name
from registries import (
    PASSWORD,
    USER,
    DockerRegistry,
    needs_openssl,
    needs_registry,
    serving,
    tokens,
    with_password,
)
from test_derive import pushed_base
from test_registry import log_in

from cogbuild.housekeeping.registries import NoAnswer, Registries, names_registry

GONE = "sha256:" + "0" * 64


def has(reference: str, site: str = "", **more: str) -> bool:
    """Ask with the environment as it is."""
    return Registries(dict(os.environ) | more, site).has(reference)


def why_not(reference: str, **more: str) -> str:
    """Return why a registry did not say."""
    with pytest.raises(NoAnswer) as caught:
        has(reference, **more)
    return str(caught.value)


@needs_registry
def test_an_image_is_there_by_digest_and_by_tag(images: Any, registry: DockerRegistry) -> None:
    """What was pushed is there; another digest, tag or repository is not."""
    pushed = pushed_base(images, registry)
    name, _, digest = pushed.partition("@")
    assert has(pushed)
    assert has(f"{registry.host}/library/base:1")
    assert has(f"{registry.host}/library/base:other@{digest}")
    assert not has(f"{name}@{GONE}")
    assert not has(f"{registry.host}/library/base:2")
    assert not has(f"{registry.host}/library/nothing:1")


@needs_registry
def test_a_login_from_dockers_configuration_or_the_site(images: Any, tmp_path: Path, at_home: Path) -> None:
    """Without one nothing is claimed; ``REGISTRY_USER`` is shown to the site's registry only."""
    (tmp_path / "registry").mkdir()
    with serving(tmp_path / "registry", with_password(tmp_path / "registry")) as registry:
        refused = f"the registry {registry.host} does not let this user in: use `docker login`"
        assert why_not(f"{registry.host}/a/b:1") == refused
        login = {"REGISTRY_USER": USER, "REGISTRY_PASSWORD": PASSWORD}
        assert why_not(f"{registry.host}/a/b:1", **login) == refused
        assert not has(f"{registry.host}/a/b:1", f"{registry.host}/team", **login)
        log_in(at_home, registry.host)
        pushed = pushed_base(images, registry)
        assert has(pushed)
        assert not has(f"{pushed.partition('@')[0]}@{GONE}")
        (at_home / ".docker" / "config.json").write_text("{")
        assert why_not(pushed) == f"docker's logins can't be read: {at_home}/.docker/config.json"


@needs_registry
@needs_openssl
def test_a_token_is_asked_for_reading(images: Any, tmp_path: Path, at_home: Path) -> None:
    """Anonymously where that is enough, else with the login."""
    with (
        tokens(tmp_path / "tokens") as server,
        serving(tmp_path / "registry", {**server.setting()}) as registry,
    ):
        log_in(at_home, registry.host)
        public, private = (pushed_base(images, registry, f"{name}/base:1") for name in ("public", "private"))
        assert has(private)
        assert not has(f"{registry.host}/private/base:2")
        (at_home / ".docker" / "config.json").unlink()
        server.asked.clear()
        assert has(public)
        assert server.asked == ["repository:public/base:pull"]
        assert why_not(private) == (
            f"the registry {registry.host} does not let this user in: use `docker login`"
        )


# -- strangers --------------------------------------------------------------------------------------------------------


class _Stranger(BaseHTTPRequestHandler):
    server: Stranger

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers.get("Authorization")))
        status, headers = self.server.answers.get(self.path, (404, {}))
        self.send_response(status)
        for name, value in {**headers, "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815  # the name in the standard library

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name in the standard library
        pass


class Stranger(ThreadingHTTPServer):
    """A server that answers what a test says."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Stranger)
        self.host = f"127.0.0.1:{self.server_port}"
        self.answers: dict[str, tuple[int, dict[str, str]]] = {}
        self.seen: list[tuple[str, str | None]] = []


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    """A running Stranger."""
    with Stranger() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def test_what_is_no_registry_loses_nothing(stranger: Stranger) -> None:
    """Another server on the host says 404 to everything; so does one that is broken, or goes elsewhere."""
    assert why_not(f"{stranger.host}/a/b:1") == f"the registry {stranger.host} says 404"
    stranger.answers["/v2/a/b/manifests/1"] = (503, {})
    assert why_not(f"{stranger.host}/a/b:1") == f"the registry {stranger.host} says 503"
    stranger.answers["/v2/a/b/manifests/1"] = (307, {"Location": f"http://{stranger.host}/else"})
    assert why_not(f"{stranger.host}/a/b:1") == f"the registry {stranger.host} says 307"
    assert all(path != "/else" for path, _ in stranger.seen)


def test_a_login_goes_nowhere_without_tls(stranger: Stranger, at_home: Path) -> None:
    """A registry that sends us to an open place for its token gets no login."""
    log_in(at_home, stranger.host)
    realm = "http://elsewhere.invalid/token"
    stranger.answers["/v2/a/b/manifests/1"] = (
        401,
        {"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'},
    )
    assert why_not(f"{stranger.host}/a/b:1") == (
        f"the registry {stranger.host} wants a login at '{realm}', which is not https"
    )


def test_a_token_that_is_none(stranger: Stranger) -> None:
    """Nothing of it is ever sent as a header."""
    realm = f'Bearer realm="http://{stranger.host}/token",service="x"'
    stranger.answers["/v2/a/b/manifests/1"] = (401, {"WWW-Authenticate": realm})
    stranger.answers["/token?service=x&scope=repository%3Aa%2Fb%3Apull"] = (200, {})
    assert why_not(f"{stranger.host}/a/b:1") == (
        f"the registry {stranger.host} gives no token: use `docker login`"
    )


def test_a_registry_that_is_away() -> None:
    """Said as such."""
    assert why_not("127.0.0.1:9/a/b:1") == "the registry 127.0.0.1:9 does not answer: connection refused"


def test_a_name_without_a_registry_may_be_an_engines_own() -> None:
    """Of such an image nothing can be known here."""
    assert [names_registry(name) for name in ("model:1", "team/model:1", "localhost/m", "h.example/m")] == [
        False,
        False,
        True,
        True,
    ]
