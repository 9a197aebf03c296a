"""A server's address and the token are checked before anything is sent, and are safe to print."""

from __future__ import annotations

import pytest

from cogbuild.client.address import address
from cogbuild.errors.client import NoServer, ServerUrlBad, ServerUrlSecret, TokenUnusable

TOKEN = "cog_0123456789abcdef"


def test_options_go_before_variables() -> None:
    """COGBUILD_SERVER and COGBUILD_TOKEN are for what no option says."""
    environ = {"COGBUILD_SERVER": "https://cog.example/build/", "COGBUILD_TOKEN": TOKEN}
    at = address(None, None, environ)
    assert (at.url, at.token) == ("https://cog.example/build", TOKEN)
    at = address("http://127.0.0.1:8080", "other", environ)
    assert (at.url, at.token) == ("http://127.0.0.1:8080", "other")


def test_no_address_at_all() -> None:
    """The message names both ways to give one."""
    with pytest.raises(NoServer) as caught:
        address(None, None, {"COGBUILD_SERVER": ""})
    assert str(caught.value) == "no server was named\nhint: say --server URL, or set COGBUILD_SERVER"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("cog.example", "it does not begin with http:// or https://"),
        ("ftp://cog.example", "it does not begin with http:// or https://"),
        ("http://", "it names no host"),
        ("http://cog.example?x=1", "it has a ? or # in it"),
        ("http://cog.example:port", "Port could not be cast to integer value as 'port'"),
        ("http://cög.example", "it has characters that addresses can't have"),
        ("http://cog example", "it has characters that addresses can't have"),
    ],
)
def test_what_is_no_address(url: str, reason: str) -> None:
    """Each is refused in words, before a name is looked up."""
    with pytest.raises(ServerUrlBad) as caught:
        address(url, None, {})
    assert caught.value.title == f"{url!r} is not the address of a server: {reason}"


@pytest.mark.parametrize("url", ["https://ada:secret@cog.example/x", "https://secret@cog.example/x"])
def test_an_address_with_a_password_is_refused_and_not_repeated(url: str) -> None:
    """The message shows where, and not what."""
    with pytest.raises(ServerUrlSecret) as caught:
        address(url, None, {})
    assert str(caught.value) == (
        "the address https://***@cog.example/x has a name or password in it\n"
        "hint: leave it out: a token is given in COGBUILD_TOKEN"
    )


@pytest.mark.parametrize("token", ["two words", "line\nend", "zwölf"])
def test_a_token_that_no_header_can_hold(token: str) -> None:
    """It is refused without being repeated."""
    with pytest.raises(TokenUnusable) as caught:
        address("http://127.0.0.1", token, {})
    assert token not in str(caught.value)


def test_a_token_is_in_no_text() -> None:
    """Neither in the value's own, nor where a server repeats it."""
    at = address("https://cog.example", TOKEN, {})
    assert TOKEN not in repr(at)
    assert at.masked(f"who said {TOKEN}?") == "who said ***?"
    assert address("https://cog.example", None, {}).masked("same") == "same"


@pytest.mark.parametrize(
    ("url", "loopback", "in_the_clear"),
    [
        ("http://127.0.0.1:1", True, False),
        ("http://[::1]:1", True, False),
        ("http://localhost", True, False),
        ("http://cog.example", False, True),
        ("https://cog.example", False, False),
    ],
)
def test_who_could_read_the_token(url: str, loopback: bool, in_the_clear: bool) -> None:
    """Only what leaves this machine without encryption."""
    at = address(url, TOKEN, {})
    assert (at.loopback, at.in_the_clear) == (loopback, in_the_clear)
