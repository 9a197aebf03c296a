"""Who may do what: tokens, and what they grant.

A token is ``cogb_<id>_<secret>``. Only the digest of the secret is kept; the secret is 32 random bytes, so a plain digest is
as good as a slow one. On the machine's own addresses, and as long as there is no token at all, everything is granted.
"""

from __future__ import annotations

import contextlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cogbuild.database import tokens
from cogbuild.database.tokens import TokenRow
from cogbuild.digest import tagged
from cogbuild.errors.access import AccessDenied, BadScope, NotAllowed, NotHere
from cogbuild.errors.declarations import BadRepo
from cogbuild.errors.state import DiskTrouble, ReadOnlyData
from cogbuild.spec.names import valid_repo

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cogbuild.project import Project

__all__ = ["ACTIONS", "LOCAL", "Grant", "authenticate", "make_token", "token_name"]

#: What a token may be good for: to see · to upload · to start and stop adapters · to delete, and to see the whole site.
ACTIONS = ("read", "push", "adapt", "admin")

_TOKEN = re.compile(r"cogb_([0-9a-f]{10})_([A-Za-z0-9_-]{43})")
_NOBODY = TokenRow("", bytes(32), "", (), "", 0.0, None, None)
_USED_EVERY = 60.0  # seconds between two notes that a token was used


@dataclass(frozen=True)
class Grant:
    """What one request may do."""

    token: str  # its name; "local" where no token is asked for
    repos: str  # "user/name", "user/*" or "*"
    can: frozenset[str]

    def may(self, action: str, repo: str) -> bool:
        """Whether *action* is granted in *repo*."""
        return action in self.can and self.covers(repo)

    def covers(self, repo: str) -> bool:
        """Whether the grant is about *repo*."""
        if self.repos.endswith("/*"):
            return repo.partition("/")[0] == self.repos[:-2]
        return self.repos in ("*", repo)

    @property
    def everywhere(self) -> bool:
        """Whether it reads every repo, so that totals of the whole site tell it nothing new."""
        return self.repos == "*" and "read" in self.can

    def require(self, action: str, repo: str, *, what: str | None = None) -> None:
        """Raise ``NotAllowed``, or ``NotHere`` where the grant may not even read: that it exists is not told then.

        A push makes a repo, so that there is none is no reason against it: there is none for this token.
        """
        if self.may(action, repo):
            return
        if not self.may("read", repo):
            pushed = " that this token may push to" if action == "push" else ""
            raise NotHere(what=what or f"repo {repo}{pushed}")
        raise NotAllowed(action=action, repo=repo)

    def require_everywhere(self, action: str) -> None:
        """Raise ``NotAllowed`` unless *action* is granted in every repo."""
        if not (self.repos == "*" and action in self.can):
            raise NotAllowed(action=action, repo="every repo")


#: On the machine's own addresses, while there is no token.
LOCAL = Grant("local", "*", frozenset(ACTIONS))


def valid_scope(repos: str) -> str:
    """Return *repos* where a token can be for them; raise ``BadScope``."""
    if repos == "*":
        return repos
    user, _, name = repos.partition("/")
    try:
        valid_repo(f"{user}/{'any' if name == '*' else name}")
    except BadRepo:
        raise BadScope(repo=repr(repos)) from None
    return repos


def make_token(
    project: Project, repos: str, can: Iterable[str], *, seconds: float | None, note: str = ""
) -> tuple[str, TokenRow]:
    """Make a token, good for so many *seconds* (None: for ever); return it, which nobody can again, and what is kept."""
    name, secret = secrets.token_hex(5), secrets.token_urlsafe(32)
    granted = set(can)
    now = time.time()
    blank = TokenRow(
        name,
        b"",
        valid_scope(repos),
        tuple(action for action in ACTIONS if action in granted or "admin" in granted),
        note,
        now,
        None if seconds is None else now + seconds,
        None,
    )
    row = replace(blank, digest=_digest(secret, blank))
    project.make()
    project.database.write(lambda con: tokens.add(con, row))
    return f"cogb_{name}_{secret}", row


def _digest(secret: str, row: TokenRow) -> bytes:
    """Return what is kept of a secret; what it grants is in it, so that a damaged row grants nothing."""
    granted = (row.id, secret, row.repos, ",".join(row.can), repr(row.expires))
    return bytes.fromhex(tagged("token/1", granted))


def token_name(text: str) -> str:
    """Return the name of the token *text*, which may be a name already."""
    found = _TOKEN.fullmatch(text)
    return found[1] if found else text


def authenticate(project: Project, text: str | None) -> Grant:
    """Return what the token *text* grants. Raises ``AccessDenied``; an unknown one takes as long as a wrong one."""
    if text is None:
        raise AccessDenied(problem="this server asks for a token")
    found = _TOKEN.fullmatch(text)
    name, secret = found.groups() if found else ("", "")
    row = tokens.find(project.con, name) or _NOBODY
    same = hmac.compare_digest(row.digest, _digest(secret, row))
    if not same or row is _NOBODY:
        raise AccessDenied(problem="this token is not known here")
    now = time.time()
    if row.expires is not None and row.expires <= now:
        raise AccessDenied(problem=f"token {row.id} has expired")
    if row.used is None or row.used + _USED_EVERY < now:
        with contextlib.suppress(ReadOnlyData, DiskTrouble):  # only a note
            project.database.write(lambda con: tokens.used(con, row.id, now))
    return Grant(row.id, row.repos, frozenset(row.can))
