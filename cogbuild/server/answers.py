"""Errors as answers: what is refused has one shape and a status that says whose turn it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from starlette.responses import JSONResponse

from cogbuild.errors import CogbuildError
from cogbuild.errors.adapters import UnknownAdapter
from cogbuild.errors.bugs import Bug
from cogbuild.errors.commands import NoAttempt, NoSuchPair
from cogbuild.errors.models import UnknownModel, UnknownRepo
from cogbuild.errors.server import ServerStopping

if TYPE_CHECKING:
    from starlette.responses import Response

__all__ = ["REFUSALS", "Refused", "answer", "error_json", "refusal", "status_of"]

_UNKNOWN = (UnknownModel, UnknownRepo, UnknownAdapter, NoSuchPair, NoAttempt)
#: By exit code: an adapter failed, a declaration or the request is wrong, the store can't be used.
_STATUS = {1: 422, 2: 422, 3: 503}


class Refusal(BaseModel):
    """An error by name."""

    error: str
    exit_code: int
    headline: str
    facts: dict[str, str]
    hint: str | None


class Refused(BaseModel):
    """What a request hears that was refused: the error, its text as the command line shows it, and its exit code."""

    error: Refusal
    text: str
    exit_code: int


def refusal(**more: dict[str, Any]) -> dict[str, Any]:
    """Return the form of ``Refused``, with properties *more*, in one piece: a route that answers with text would describe
    a model as text too.
    """
    form = Refused.model_json_schema()
    form["properties"]["error"] = form.pop("$defs")["Refusal"]
    form["properties"] |= more
    form["required"] += more
    return {"application/json": {"schema": form}}


#: For the description of every endpoint.
REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {
        "description": "What was asked for is not there, not allowed, or not as it should be.",
        "content": refusal(),
    },
    "5XX": {
        "description": "The store can't be used, the server stops, or it has a bug.",
        "content": refusal(),
    },
}


def status_of(error: CogbuildError) -> int:
    """Return the HTTP status of an error."""
    own: int | None = getattr(error, "status", None)
    if own is not None:
        return own
    if isinstance(error, _UNKNOWN):
        return 404
    return 500 if isinstance(error, Bug) else _STATUS[error.exit_code]


def error_json(error: CogbuildError) -> dict[str, Any]:
    """Return an error as the body of an answer."""
    return {"error": error.to_json(), "text": str(error), "exit_code": error.exit_code}


def answer(error: CogbuildError) -> Response:
    """Return the answer to a request that is refused."""
    status = status_of(error)
    # Whoever hears this sends it again by itself: only where that helps.
    later = {"Retry-After": "1"} if status == 429 or isinstance(error, ServerStopping) else None
    return JSONResponse(error_json(error), status, later)
