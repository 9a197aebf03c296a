"""Answers over the wire: JSON, or the text that a command would print; places in long lists; whose repos are meant."""

from __future__ import annotations

import json
import re
import struct
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

from fastapi import Depends, Header, Query, Request
from starlette.responses import JSONResponse, StreamingResponse

from cogbuild.database.browsing import Place, Repos
from cogbuild.errors import printable
from cogbuild.errors.server import PlaceUnknown
from cogbuild.report.tables import Page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.responses import Response

    from cogbuild.asked import Answer

__all__ = [
    "EXIT_CODE",
    "LIVE",
    "STDERR",
    "About",
    "After",
    "Json",
    "Limit",
    "Shown",
    "place_of",
    "place_text",
    "reply",
    "scope_of",
]

#: What the command prints on stderr, percent-encoded; and its exit code, where it is not 0.
STDERR, EXIT_CODE = "Cogbuild-Stderr", "Cogbuild-Exit-Code"
#: Of an answer that goes on: no proxy keeps it, or holds back what has come.
LIVE = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
#: Lines that are sent together.
_TOGETHER = 200
_NO_TEXT = re.compile("[\ud800-\udfff]")
_PLACE = re.compile(r"([0-9a-f]{16})-([0-9]{1,18})")


def _shown(
    accept: Annotated[str, Header(include_in_schema=False)] = "",
    columns: Annotated[
        int | None, Query(ge=1, le=10_000, description="Of text: how wide; default: as long as lines are.")
    ] = None,
    lines: Annotated[
        int | None, Query(ge=1, le=10_000, description="Of text: how high the terminal is.")
    ] = None,
    *,
    colour: Annotated[bool, Query(description="Of text: with colours for a terminal.")] = False,
) -> Page | None:
    """Return the page of text that is asked for; None: JSON."""
    kinds = [item.partition(";")[0].strip().lower() for item in accept.split(",")]
    text = "text/plain" in kinds and "application/json" not in kinds
    return Page(columns, lines, colour) if text else None


#: Annotates a parameter: the page of text that is asked for, or None for JSON.
Shown = Annotated[Page | None, Depends(_shown)]


def scope_of(request: Request) -> str:
    """Return the repos that the request may read, ``user/name``, ``user/*`` or ``*``."""
    scope: str = request.state.grant.repos
    return scope


def _about(
    request: Request,
    repo: Annotated[list[str], Query(description="Only in this repo; may be given more than once.")] = [],  # noqa: B006
) -> Repos:
    return Repos(tuple(repo), scope_of(request))


#: Annotates a parameter: the repos that are meant, as far as the request may read.
About = Annotated[Repos, Depends(_about)]


def _after(
    after: Annotated[
        str | None, Query(description="Where the page before ended, from its `Link` header.")
    ] = None,
) -> Place | None:
    """Return the place that *after* names. Raises ``PlaceUnknown``."""
    return None if after is None else place_of(after)


#: Annotates a parameter: the place in a list from which on it is meant.
After = Annotated[Place | None, Depends(_after)]
Limit = Annotated[int, Query(ge=1, le=10_000, description="So many models at most.")]


def place_of(text: str) -> Place:
    """Return the place that an address names. Raises ``PlaceUnknown``."""
    found = _PLACE.fullmatch(text)
    if found is None:
        raise PlaceUnknown(after=text)
    return Place(struct.unpack(">d", bytes.fromhex(found[1]))[0], int(found[2]))


def place_text(place: Place) -> str:
    """Return a place as addresses name it."""
    return f"{struct.pack('>d', place.added).hex()}-{place.eid}"


class Json(JSONResponse):
    """JSON in which names that are no UTF-8, which no JSON can hold, are written as they are shown everywhere."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return _NO_TEXT.sub(lambda found: json.dumps(printable(found[0]))[1:-1], text).encode()


def reply(
    request: Request,
    answer: Answer,
    on: Page | None,
    *,
    stderr: str = "",
    code: int = 0,
) -> Response:
    """Return an answer as JSON, or as text on the page *on*; with more to come, a ``Link`` header says where."""
    headers = {}
    if answer.after is not None:
        url = request.url.include_query_params(after=place_text(answer.after))
        headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
    if stderr:
        headers[STDERR] = quote(stderr)
    if on is None:
        return Json(answer.json(), headers=headers)
    if code:
        headers[EXIT_CODE] = str(code)
    return StreamingResponse(_pieces(answer, on), media_type="text/plain; charset=utf-8", headers=headers)


def _pieces(answer: Answer, on: Page) -> Iterator[bytes]:
    held: list[str] = []
    for line in answer.lines(on):
        held.append(line + "\n")
        if len(held) >= _TOGETHER:
            yield "".join(held).encode("utf-8", "replace")
            held.clear()
    yield "".join(held).encode("utf-8", "replace")


def text_too(form: Any, what: str) -> dict[int | str, dict[str, Any]]:
    """Return the description of an answer that is JSON of a *form*, or text."""
    return {
        200: {
            "model": form,
            "description": what,
            "content": {
                "text/plain": {
                    "schema": {"type": "string"},
                    "example": "what the command prints",
                }
            },
        }
    }
