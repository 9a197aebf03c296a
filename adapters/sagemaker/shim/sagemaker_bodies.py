"""Requests and answers of ``/invocations``: JSON, or a file as it is.

Knows the model by its OpenAPI schema, and no server.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

_JSON = ("application/json", "application/jsonlines", "application/x-jsonlines")
#: What clients send who did not say what they send.
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
#: Fields of a request to Cog's server beside `input`; none of them is passed on.
_COGS_FIELDS = frozenset({"input", "id", "created_at", "context"})
_TEXT = "text/plain; charset=utf-8"


class Refused(Exception):
    """The request cannot be answered; carries the code to answer with."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def inputs_of(
    body: bytes, content_type: str | None, attributes: str | None, schema: dict[str, Any] | None
) -> dict[str, Any]:
    """Return the model's inputs that a request means.

    What is not JSON is one input: the model's first file, or of text its first string where it takes no file. *attributes*,
    a JSON object, gives its other inputs.
    """
    kind = _media_type(content_type or _JSON[0])
    if kind in _JSON or kind.endswith("+json"):
        return _of_json(body)
    if kind in _FORMS:
        raise Refused(
            415, f"{kind} is not taken: send application/json, or the bytes of a file with its type"
        )
    fields = _fields(schema)
    for name, field in fields:
        if field.get("format") == "uri":
            data = base64.b64encode(body).decode()
            return {**_others(attributes), name: f"data:{kind};base64,{data}"}
    for name, field in fields:
        if kind.startswith("text/") and field.get("type") == "string":
            return {**_others(attributes), name: _text(body)}
    raise Refused(415, f"the model takes no input that {kind} could be: send application/json")


def _of_json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError as error:
        raise Refused(400, f"the body is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise Refused(400, 'the body has to be an object: {"input": {…}}, or the inputs by name')
    if isinstance(found.get("input"), dict) and _COGS_FIELDS.issuperset(found):
        inner: dict[str, Any] = found["input"]
        return inner
    return found


def _fields(schema: dict[str, Any] | None) -> list[tuple[str, dict[str, Any]]]:
    """Return the inputs, in the order in which the model lists them."""
    fields = _schemas(schema).get("Input", {}).get("properties", {})
    return sorted(fields.items(), key=lambda item: item[1].get("x-order", 0))


def _schemas(schema: dict[str, Any] | None) -> dict[str, Any]:
    found: dict[str, Any] = (schema or {}).get("components", {}).get("schemas", {})
    return found


def _others(attributes: str | None) -> dict[str, Any]:
    """Return the inputs that custom attributes give; attributes that are no JSON object are somebody else's."""
    try:
        found = json.loads(attributes or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise Refused(400, f"the body is no text in UTF-8: {error}") from None


def written(output: Any, accept: str | None, schema: dict[str, Any] | None) -> tuple[bytes, str]:
    """Return bytes and media type of an answer, in the form that *accept* likes best."""
    wanted = _ranges(accept)
    raw = _raw(output, schema)
    for pattern in wanted:
        kind = next((kind for kind in _JSON if _fits(pattern, kind)), None)
        if kind:
            return json.dumps({"status": "succeeded", "output": output}).encode() + b"\n", kind
        if raw and (pattern == "application/octet-stream" or _fits(pattern, _media_type(raw[1]))):
            return raw
    has = f"JSON or {_media_type(raw[1])}" if raw else "JSON"
    raise Refused(406, f"the output can be sent as {has}, not as {', '.join(wanted)}")


def _raw(output: Any, schema: dict[str, Any] | None) -> tuple[bytes, str] | None:
    """Return an output that is one file, or text, as its bytes and their media type."""
    if isinstance(output, list) and all(isinstance(part, str) for part in output):
        if _schemas(schema).get("Output", {}).get("x-cog-array-display") == "concatenate":
            output = "".join(output)
        elif len(output) == 1:
            output = output[0]
    if not isinstance(output, str):
        return None
    head, comma, data = output.partition(",")
    if comma and head.startswith("data:") and head.endswith(";base64"):
        try:
            kind = head[len("data:") : -len(";base64")]
            return base64.b64decode(data, validate=True), kind or "application/octet-stream"
        except binascii.Error:
            pass
    return output.encode(), _TEXT


def _ranges(accept: str | None) -> list[str]:
    """Return the media ranges of *accept*, the best first; those with quality 0 are not wanted."""
    found = []
    for part in (accept or "*/*").split(","):
        pattern, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = next((piece[2:] for piece in parameters if piece.startswith("q=")), "1")
        try:
            found.append((float(quality), pattern or "*/*"))
        except ValueError:
            found.append((1.0, pattern))
    return [pattern for quality, pattern in sorted(found, key=lambda item: -item[0]) if quality > 0]


def _fits(pattern: str, kind: str) -> bool:
    return pattern in ("*/*", kind, f"{kind.partition('/')[0]}/*")


def _media_type(text: str) -> str:
    return text.partition(";")[0].strip().lower()
