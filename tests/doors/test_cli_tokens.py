"""`cogbuild tokens`: made once, kept as a digest, listed, taken back."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from cogbuild.errors.access import AccessDenied
from cogbuild.housekeeping.salvage import copied
from cogbuild.server.grants import authenticate, make_token

if TYPE_CHECKING:
    from conftest import Sandbox
    from door import Door

pytest_plugins = ["door"]


def test_a_token_is_printed_once_and_kept_as_a_digest(box: Sandbox, cogbuild: Door) -> None:
    """Stdout has the token alone; no byte of its secret is in the data directory."""
    said = cogbuild("tokens", "new", "--repo", "ada/shop", "--can", "push,read", "--note", "ci")
    token = said.out.strip()
    assert re.fullmatch(r"cogb_[0-9a-f]{10}_[A-Za-z0-9_-]{43}", token)
    name, secret = token.split("_", 2)[1:]
    assert said.err == f"token {name} for ada/shop: read,push; expires in 90 d. It is not shown again.\n"
    kept = b"".join(path.read_bytes() for path in box.data.rglob("*") if path.is_file())
    assert name.encode() in kept
    assert secret.encode() not in kept


def test_tokens_are_listed_and_taken_back(box: Sandbox, cogbuild: Door) -> None:
    """A listing names them; one that was taken back, by its name or itself, grants nothing any more."""
    first = cogbuild("tokens", "new", "--repo", "ada/*", "--can", "adapt", "--expires", "12h").out.strip()
    second = cogbuild("tokens", "new", "--repo", "*", "--can", "admin", "--expires", "never").out.strip()
    listed = json.loads(cogbuild("tokens", "ls", "--json").out)["tokens"]
    assert [(row["repo"], row["can"]) for row in listed] == [
        ("ada/*", ["adapt"]),
        ("*", ["read", "push", "adapt", "admin"]),
    ]
    assert listed[1]["expires"] is None
    assert cogbuild("tokens", "rm", first.split("_")[1]).code == 0
    gone = cogbuild("tokens", "rm", second)
    assert gone.out == f"removed  {second.split('_')[1]}\n"
    with box.project() as project:
        for token in (first, second):
            with pytest.raises(AccessDenied, match="this token is not known here"):
                authenticate(project, token)
    assert cogbuild("tokens", "ls").out.startswith("no tokens; make one with")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("new", "--repo", "ada"), "a token can't be for 'ada'"),
        (("new", "--repo", "*/shop"), "a token can't be for '*/shop'"),
        (("new", "--repo", "a/b", "--can", "fly"), "fly is not one of read, push, adapt, admin"),
        (("new", "--repo", "a/b", "--expires", "3y"), "'3y' is no time after which a token expires"),
        (("rm", "0123456789"), "no token is called '0123456789'"),
    ],
)
def test_what_cannot_be_is_said(box: Sandbox, cogbuild: Door, arguments: tuple[str, ...], words: str) -> None:
    """A slip of the pen is named, and nothing is made."""
    said = cogbuild("tokens", *arguments)
    assert said.code == 2
    assert words in said.err
    assert cogbuild("tokens", "ls").out.startswith("no tokens")


def test_an_expired_token_says_so(box: Sandbox) -> None:
    """What has expired is told apart from what is unknown, to whoever holds its secret."""
    with box.project() as project:
        text, row = make_token(project, "ada/shop", ["read"], seconds=-1)
        with pytest.raises(AccessDenied, match=f"token {row.id} has expired"):
            authenticate(project, text)
        with pytest.raises(AccessDenied, match="this token is not known here"):
            authenticate(project, text[:-1] + ("A" if text[-1] != "A" else "B"))


@pytest.mark.parametrize(
    "damage",
    [
        "repos = '*'",
        "can = 'read,push,adapt,admin'",
        "expires = NULL",
        "expires = expires + 1",
        "id = '0123456789'",
    ],
)
def test_a_damaged_row_grants_nothing(box: Sandbox, damage: str) -> None:
    """What a token is for is in its digest, so that a flipped bit can't widen it."""
    with box.project() as project:
        text, row = make_token(project, "ada/shop", ["read"], seconds=60)
        project.database.write(lambda con: con.execute(f"UPDATE tokens SET {damage}"))
        with pytest.raises(AccessDenied, match="this token is not known here"):
            authenticate(project, text.replace(row.id, "0123456789") if damage.startswith("id") else text)


def test_a_rebuilt_database_keeps_its_tokens(box: Sandbox) -> None:
    """Else a server behind a proxy would stand open after a repair."""
    with box.project() as project:
        text, row = make_token(project, "ada/shop", ["read"], seconds=60)
        copy = project.data / "damaged"
        project.con.execute("VACUUM INTO ?", (str(copy),))
        project.database.write(lambda con: con.execute("DELETE FROM tokens"))
        project.database.write(lambda con: copied(copy, con))
        copy.unlink()
        assert authenticate(project, text).token == row.id
