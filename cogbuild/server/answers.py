"""Errors as answers: what is refused has one shape and a status that says whose turn it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from cogbuild.errors import CogbuildError
from cogbuild.errors.adapters import UnknownAdapter
from cogbuild.errors.bugs import Bug
from cogbuild.errors.commands import NoAttempt, NoSuchPair
from cogbuild.errors.models import UnknownModel, UnknownRepo

if TYPE_CHECKING:
    from starlette.responses import Response

__all__ = ["answer", "error_json", "status_of"]

_UNKNOWN = (UnknownModel, UnknownRepo, UnknownAdapter, NoSuchPair, NoAttempt)
#: By exit code: an adapter failed, a declaration or the request is wrong, the store can't be used.
_STATUS = {1: 422, 2: 422, 3: 503}


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
    return JSONResponse(error_json(error), status_of(error))
