"""Errors of talking to a server: naming it, reaching it, being let in (exit 2), and losing it (exit 3)."""

from __future__ import annotations

from cogbuild.errors import CogbuildError

__all__ = [
    "AnswerNotUnderstood",
    "AuthoritiesUnreadable",
    "ConnectionBroke",
    "ConnectionLost",
    "NameNotSent",
    "NoServer",
    "NotACogServer",
    "NotOverTheWire",
    "OldServerChooses",
    "ServerAway",
    "ServerElsewhere",
    "ServerFailed",
    "ServerTooNew",
    "ServerUnproven",
    "ServerUrlBad",
    "ServerUrlSecret",
    "TokenRefused",
    "TokenUnusable",
    "TokenWanted",
]


class NoServer(CogbuildError):
    headline = "no server was named"
    hint = "say --server URL, or set COGBUILD_SERVER"


class ServerUrlBad(CogbuildError):
    headline = "{server} is not the address of a server: {reason}"
    hint = "write it like http://127.0.0.1:8080 or https://cog.example/build"


class ServerUrlSecret(CogbuildError):
    headline = "the address {server} has a name or password in it"
    hint = "leave it out: a token is given in COGBUILD_TOKEN"


class TokenUnusable(CogbuildError):
    headline = "the token can't be sent: {reason}"
    hint = "set COGBUILD_TOKEN to the token as `cogbuild tokens new` printed it"


class TokenWanted(CogbuildError):
    headline = "{server} wants a token"
    hint = "ask whoever runs it for one, and set COGBUILD_TOKEN"


class TokenRefused(CogbuildError):
    headline = "{server} does not know this token"
    hint = "it may have expired or been withdrawn: ask whoever runs the server for another"


class NotACogServer(CogbuildError):
    headline = "{server} is not a Cog server"
    hint = "check the address, its port and its path"


class ServerTooNew(CogbuildError):
    headline = "the server {server} speaks version {api} of the interface, this cogbuild {known}"
    hint = "upgrade cogbuild here or there"


class ServerFailed(CogbuildError):
    exit_code = 1
    headline = "{server} could not build the model"


class ServerElsewhere(CogbuildError):
    headline = "{server} sends us on to {to}"
    hint = "name that address yourself, if you trust it: a token is sent nowhere else"


class NotOverTheWire(CogbuildError):
    headline = "{option} can't be used with --server: {reason}"


class OldServerChooses(CogbuildError):
    headline = "{server} is a Cog server of 2021, which can't be told {option}"
    hint = "leave it out: what it builds is decided where it was started"


class NameNotSent(CogbuildError):
    headline = "{file} has a name that is not UTF-8, which a Cog server of 2021 can't take"
    hint = "rename the file"


class ServerAway(CogbuildError):
    exit_code = 3
    headline = "the server {server} can't be reached"
    hint = "look whether it runs and whether the address is right"


class AuthoritiesUnreadable(CogbuildError):
    headline = "the certificate authorities in {path} can't be read"
    hint = "SSL_CERT_FILE names a file of certificates as PEM; without it the usual ones are used"


class ServerUnproven(CogbuildError):
    exit_code = 3
    headline = "{server} can't prove who it is"
    hint = "for a certificate authority of your own, set SSL_CERT_FILE to its file"


class ConnectionBroke(CogbuildError):
    exit_code = 3
    headline = "the connection to {server} broke before it had answered to the end"
    hint = "run the command again; it begins anew, since this can't be taken up where it was"


class ConnectionLost(CogbuildError):
    exit_code = 3
    headline = "the connection to {server} broke and did not come back in {waited}"

    @property
    def advice(self) -> str:
        """How to go on: a job that has begun goes on by itself."""
        follow = self._inline().get("goes_on")
        return (
            f"the work goes on there: follow it with `{follow}`"
            if follow
            else ("run the command again: files that have arrived are not sent again")
        )

    in_hint = ("goes_on",)


class AnswerNotUnderstood(CogbuildError):
    exit_code = 3
    headline = "{server} answered with what this cogbuild can't read"
