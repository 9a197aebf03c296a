"""Which registry, repository and image does a name mean?"""

from __future__ import annotations

from typing import Any

import pytest
from image_fixtures import at_home, images, quickly, registry  # noqa: F401 - pytest finds fixtures by name

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("registry.local/a", ("registry.local", "a", "", "")),
        ("registry.local/a/b_c/d-e:v1.2", ("registry.local", "a/b_c/d-e", "v1.2", "")),
        ("localhost/a:1", ("localhost", "a", "1", "")),
        ("host:5000/a/b", ("host:5000", "a/b", "", "")),
        (f"host:5000/a:t@{DIGEST}", ("host:5000", "a", "t", DIGEST)),
    ],
)
def test_a_full_name(text: str, parts: tuple[str, ...], images: Any) -> None:
    """The first part is a host where it has a dot or a port, or is localhost."""
    name = images.parse(text)
    assert (name.host, name.repository, name.tag, name.digest) == parts
    assert str(name) == text


@pytest.mark.parametrize(
    "text", ["registry.local/A", "registry.local/", "host:1/a:b:c", "host:1/a@sha256:12", "host:1/a b"]
)
def test_what_is_no_name(text: str, images: Any) -> None:
    """Capitals, empty parts, two tags and short digests are refused."""
    with pytest.raises(Exception, match="is no name of an image, such as HOST/user/name:tag"):
        images.parse(text)


@pytest.mark.parametrize(
    ("site", "meant"),
    [("mirror:5000", "mirror:5000/python:3.11"), ("mirror/team", "mirror/team/python:3.11")],
)
def test_a_name_without_a_host_is_the_sites(
    site: str, meant: str, images: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below the site's registry, and the path in it that is the site's."""
    monkeypatch.setenv("COG_DOCKER_REGISTRY", site)
    assert str(images.parse("python:3.11")) == meant
    assert str(images.below_site("python:3.11")) == meant


def test_a_name_without_a_host_where_the_site_has_no_registry(images: Any) -> None:
    """The error says both ways out."""
    with pytest.raises(Exception) as raised:
        images.parse("python:3.11")
    assert str(raised.value) == (
        "the image 'python:3.11' names no registry, and the site has none: "
        "write HOST/python:3.11, or set docker_registry in cogbuild.yaml"
    )


def test_a_repository_is_named_after_any_repo(images: Any) -> None:
    """Capitals and other signs become what registries take."""
    assert images.repository_name("Ada.L", "My__Model--2") == "ada-l/my-model-2"
