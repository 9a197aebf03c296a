"""Errors of who may do what on a server, and of tokens."""

from __future__ import annotations

from typing import ClassVar

from cogbuild.errors import CogbuildError

__all__ = [
    "AccessDenied",
    "BadScope",
    "BadSpan",
    "BodyTooLarge",
    "ClientTooSlow",
    "CrossSite",
    "FetchNotAllowed",
    "FormExpired",
    "HostNotOurs",
    "NoTokens",
    "NotAllowed",
    "NotHere",
    "TokenUnknown",
    "TooManyUploads",
]


class AccessDenied(CogbuildError):
    headline = "{problem}"
    hint = "send it as `Authorization: Bearer TOKEN`; `cogbuild tokens new` on the server's machine makes one"
    status: ClassVar[int] = 401


class NotAllowed(CogbuildError):
    headline = "this token may not {action} in {repo}"
    status: ClassVar[int] = 403


class NotHere(CogbuildError):
    """Also what a token hears of what it may not read: the same words as for what does not exist."""

    headline = "there is no {what}"
    status: ClassVar[int] = 404


class CrossSite(CogbuildError):
    headline = "a page of another site sent this request, so it was not carried out"
    status: ClassVar[int] = 403


class HostNotOurs(CogbuildError):
    headline = "without tokens this server answers on its own machine's names only"
    hint = "open it as http://127.0.0.1 or http://localhost, or make tokens with `cogbuild tokens new`"
    status: ClassVar[int] = 403


class NoTokens(CogbuildError):
    headline = "{host} can be reached from other machines, and there is no token yet"
    hint = (
        "make one with `cogbuild tokens new --repo USER/NAME --can push,adapt,read`, or listen on 127.0.0.1"
    )


class TokenUnknown(CogbuildError):
    headline = "no token is called {token}"
    hint = "list them with `cogbuild tokens ls`"


class BadScope(CogbuildError):
    headline = "a token can't be for {repo}"
    hint = "say --repo USER/NAME, --repo 'USER/*', or --repo '*' for every repo"


class BadSpan(CogbuildError):
    headline = "{given} is no time after which a token expires"
    hint = "say e.g. 12h, 90d, or never"


class BodyTooLarge(CogbuildError):
    headline = "the request is larger than this server takes"
    hint = "the server's settings have the limit: server: {{{setting}: …}}"
    status: ClassVar[int] = 413


class ClientTooSlow(CogbuildError):
    headline = "the request's body did not come in time"
    status: ClassVar[int] = 408


class TooManyUploads(CogbuildError):
    headline = "this server receives {uploads} uploads and has no place for another"
    hint = "try again later"
    status: ClassVar[int] = 429


class FetchNotAllowed(CogbuildError):
    headline = "this server does not fetch {uri}"
    hint = "its settings say what it may: server: {{fetch: [{origin}]}}; or fetch it yourself"
    status: ClassVar[int] = 403


class FormExpired(CogbuildError):
    headline = "this form is not one that the server has made since it began"
    hint = "go back, load the page again, and send it once more"
    status: ClassVar[int] = 403
