"""The description of the API, with what FastAPI can't know: how a request says who asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from cogbuild.server.access import COOKIE

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Described"]

_SCHEMES = {
    "token": {"type": "http", "scheme": "bearer", "description": "A token of `cogbuild tokens new`."},
    "password": {
        "type": "http",
        "scheme": "basic",
        "description": "The token as the password, with any name.",
    },
    "cookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": "The token as pages keep it.",
    },
}


class Described(FastAPI):
    """An application whose description says how tokens are sent, and which operations are *open* to anybody."""

    def __init__(self, *, open_paths: Sequence[str], **more: Any) -> None:
        super().__init__(**more)
        self._open_paths = open_paths

    def openapi(self) -> dict[str, Any]:
        """Return the description."""
        form = super().openapi()
        form["components"]["securitySchemes"] = _SCHEMES
        # The last is none at all: as long as there is no token, none is asked for.
        form["security"] = [*({name: []} for name in _SCHEMES), {}]
        for path in self._open_paths:
            for operation in form["paths"].get(path, {}).values():
                operation["security"] = []
        return form
