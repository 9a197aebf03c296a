"""Errors of the server: what it can't start with, what a request lacks."""

from __future__ import annotations

from typing import ClassVar

from cogbuild.errors import CogbuildError

__all__ = [
    "AnotherServer",
    "BadUpload",
    "CantListen",
    "JobHasEnded",
    "ServerPartsMissing",
    "ServerStopping",
    "UnknownJob",
    "UploadCut",
    "UploadGone",
]


class ServerPartsMissing(CogbuildError):
    headline = "the server's packages are not installed: {missing}"
    hint = "install them with `pip install 'cogbuild[server]'`"


class AnotherServer(CogbuildError):
    exit_code = 3
    headline = "another server runs on {data}"
    hint = "end it first; `doit` and `cogbuild adapt` may run beside it"


class CantListen(CogbuildError):
    headline = "the server can't listen on {address}"
    hint = "choose another with --host and --port"


class BadUpload(CogbuildError):
    headline = "the upload can't be read: {problem}"
    hint = "send a zip as the multipart field `file`, e.g. curl -X PUT -F file=@model.zip"


class UploadCut(CogbuildError):
    headline = "the upload ended before its end"
    hint = "send it again"


class UploadGone(CogbuildError):
    headline = "what was uploaded for this job is not there any more"
    hint = "send it again"


class UnknownJob(CogbuildError):
    headline = "no job has the ID {job}"
    status: ClassVar[int] = 404


class JobHasEnded(CogbuildError):
    headline = "the job {job} has ended already: {state}"
    status: ClassVar[int] = 409


class ServerStopping(CogbuildError):
    exit_code = 3
    headline = "the server is about to stop"
    hint = "send this again in a moment"
