"""What commands show, asked of a server: the text that they would print there, or the same facts as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from cogbuild.client.http import Broke, Pauses, described
from cogbuild.errors import printable
from cogbuild.errors.client import AnswerNotUnderstood

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import IO

    from httpx import Response

    from cogbuild.client.http import Server
    from cogbuild.report.tables import Page

__all__ = ["Question", "Said", "bytes_of", "data", "given", "path_of", "safe", "text"]

#: What a command there prints on stderr, percent-encoded.
STDERR = "cogbuild-stderr"
#: The exit code of a command there, where it is not 0.
EXIT_CODE = "cogbuild-exit-code"


class Said(NamedTuple):
    """What a command there printed, and how it ended."""

    out: str
    err: str
    code: int


@dataclass(frozen=True)
class Question:
    """What a command wants to know of a server, or to change there."""

    parts: Sequence[str]  # of the path below /v2, as people named them
    params: Mapping[str, Any]
    method: str = "GET"
    body: Any = None


def text(server: Server, question: Question, on: Page) -> Said:
    """Return what a command there prints for a reader like ours."""
    shown = {"columns": on.width, "lines": on.height, "colour": int(on.colour)}
    first, *more = _pages(server, question, shown, "text/plain")
    # A list that comes in pages has its head once.
    out = first.text + "".join(page.text.partition("\n")[2] for page in more)
    code = first.headers.get(EXIT_CODE, "0")
    return Said(
        safe(server.at.masked(out), colour=on.colour),
        safe(server.at.masked(unquote(first.headers.get(STDERR, "")))),
        int(code) if code.isascii() and code.isdigit() else 0,
    )


def bytes_of(server: Server, question: Question, out: IO[bytes]) -> str:
    """Write the bytes that a command there prints on stdout; return the text that it prints on stderr.

    *out* is a file: what came of an answer that broke off is taken back.
    """
    at = f"{path_of(question.parts)}?{urlencode(given(question.params), doseq=True)}"
    pauses = Pauses(server.patience)
    while True:
        try:
            with server.stream(at, {"accept": "text/plain"}) as answer:
                _check_kind(server, answer, "text/plain")
                # Not by `writelines`: a spooled file looks at its size only after that.
                for piece in answer.iter_bytes():
                    out.write(piece)
                return safe(server.at.masked(unquote(answer.headers.get(STDERR, ""))))
        except Broke as broken:
            server.broke(pauses, broken)
            out.seek(0)
            out.truncate()


def data(server: Server, question: Question) -> tuple[dict[str, Any], str]:
    """Return (the same as JSON, the text that the command there prints on stderr)."""
    first, *more = _pages(server, question, {}, "application/json")
    whole = server.object_of(first)
    for page in map(server.object_of, more):
        for name, rows in page.items():
            if isinstance(rows, list):
                whole[name] += rows
    return whole, safe(server.at.masked(unquote(first.headers.get(STDERR, ""))))


def _pages(server: Server, question: Question, shown: Mapping[str, Any], kind: str) -> Iterator[Response]:
    """Yield the answer, and those that it leads to where it is the first page of a list."""
    answer = _asked(server, question, shown, kind)
    yield answer
    while after := parse_qs(urlsplit(answer.links.get("next", {}).get("url", "")).query).get("after"):
        answer = _asked(server, question, {**shown, "after": after[0]}, kind)
        yield answer


def _asked(server: Server, question: Question, shown: Mapping[str, Any], kind: str) -> Response:
    at = path_of(question.parts)
    params = given({**question.params, **shown})
    # Asked twice where the connection breaks, a change is the same change.
    options = {} if question.body is None else {"json": question.body}
    answer = server.ask(question.method, at, params=params, headers={"accept": kind}, **options)
    _check_kind(server, answer, kind)
    return answer


def _check_kind(server: Server, answer: Response, kind: str) -> None:
    if answer.headers.get("content-type", "").partition(";")[0] != kind:
        raise AnswerNotUnderstood(server=server.at.url, it_answered=described(answer))


def path_of(parts: Sequence[str]) -> str:
    """Return the path below ``/v2`` of what people named."""
    return "/v2/" + "/".join(quote(part, safe="") for part in parts)


def given(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that were given."""
    return {name: value for name, value in params.items() if value is not None and value not in ((), [])}


def safe(said: str, *, colour: bool = False) -> str:
    """Return text in which only colours may act on a terminal, and these only where they were asked for."""
    import re

    pattern = r"(\n|\t|\x1b\[[0-9;]*m)" if colour else r"(\n|\t)"
    parts = re.split(pattern, said)
    return "".join(part if number % 2 else printable(part) for number, part in enumerate(parts))
