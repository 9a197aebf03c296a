"""Errors of the server: what it can't start with, what a request lacks."""

from __future__ import annotations

from typing import ClassVar

from cogbuild.errors import CogbuildError

__all__ = [
    "AnotherServer",
    "BadTree",
    "BadUpload",
    "CantListen",
    "JobHasEnded",
    "ModelTestFailed",
    "ObjectsMissing",
    "OtherRequest",
    "PlaceUnknown",
    "ServerPartsMissing",
    "ServerStopping",
    "TooMuchAtOnce",
    "UnknownJob",
    "UploadCut",
    "UploadGone",
    "WrongDigest",
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


class BadTree(CogbuildError):
    headline = "the list of files can't be used: {problem}"


class BadBatch(CogbuildError):
    headline = "the contents can't be read: {problem}"
    hint = (
        "a line of JSON, [[digest, size], ...], and then the contents one after another: see docs/server.md"
    )


class WrongDigest(CogbuildError):
    headline = "the bytes that came are not those of {digest}"
    hint = "send them again"


class ModelLetGo(CogbuildError):
    headline = "{repo}@{model} was let go of meanwhile"
    hint = "upload it again if it is still wanted"


class ObjectsMissing(CogbuildError):
    headline = "{count} of the model's files are not here"
    hint = "ask POST /v2/objects/missing which, and send them first"
    status: ClassVar[int] = 409

    def __init__(self, missing: list[str]) -> None:
        super().__init__(count=len(missing))
        self.missing = missing


class UploadGone(CogbuildError):
    headline = "what was uploaded for this job is not there any more"
    hint = "send it again"


class ModelTestFailed(CogbuildError):
    exit_code = 1
    headline = "the model's {step} failed, so {model} was not let into {repo}"
    in_hint = ("adapter",)
    hint = (
        "`cogbuild logs {model} {adapter} --server URL` shows all that it said; to try it where the model is: "
        "`cogbuild models add DIR`, then `cogbuild adapters test builtin:{adapter} --model {model}`"
    )


class UnknownJob(CogbuildError):
    headline = "no job has the ID {job}"
    status: ClassVar[int] = 404


class OtherRequest(CogbuildError):
    headline = "the Idempotency-Key {key} is that of another request, which began the job {job}"
    hint = "send the same request again, or another key with it"


class JobHasEnded(CogbuildError):
    headline = "the job {job} has ended already: {state}"
    status: ClassVar[int] = 409


class ServerStopping(CogbuildError):
    exit_code = 3
    headline = "the server is about to stop"
    hint = "send this again in a moment"


class PlaceUnknown(CogbuildError):
    headline = "`after` names no place in a list: {after}"
    hint = "take it from the `Link` header of the page before"


class TooMuchAtOnce(CogbuildError):
    headline = "{models} models are too many for one answer"
    hint = "ask for pages, e.g. ?page=1, or narrow it down with ?repo=USER/NAME"
