"""Templates to answers: what is hostile is escaped and shown, and a browser is told to trust nothing else."""

from __future__ import annotations

import contextlib
import hmac
import json
import re
import secrets
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse

from cogbuild.digest import hexdigest
from cogbuild.errors import printable
from cogbuild.errors.access import FormExpired
from cogbuild.report.words import short

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["HEADERS", "STATIC", "checked_form", "csrf_of", "render", "static_digest"]

_HERE = Path(__file__).parent
#: What pages bring along, and as what.
STATIC = {"style.css": "text/css", "live.js": "text/javascript", "icon.svg": "image/svg+xml"}

#: Nothing is run, loaded, framed or sent but by and to this server.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}

_HARMLESS = re.compile(r"([\n\t]+)")
_ESCAPE = re.compile(r"(\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\U[0-9a-f]{8}|\\[rnt])")
#: Of this process: a form that an older one has made is made again.
_KEY = secrets.token_bytes(32)


def _shown(value: object) -> Markup:
    """Return text with its control characters shown, and marked where there are some."""
    text = value if isinstance(value, str) else str(value)
    return _marked(text, _HARMLESS)


def _shown_log(text: str) -> Markup:
    """Return a log that is escaped already, with what was escaped marked."""
    return Markup("").join(
        Markup('<span class="ctl">{}</span>').format(part) if number % 2 else escape(part)
        for number, part in enumerate(_ESCAPE.split(text))
    )


def _marked(text: str, harmless: re.Pattern[str]) -> Markup:
    parts = []
    for number, part in enumerate(harmless.split(text)):
        if number % 2 or part.isprintable():
            parts.append(escape(part))
            continue
        for char in re.split(r"(.)", part, flags=re.DOTALL):
            safe = printable(char)
            parts.append(escape(safe) if safe == char else Markup('<span class="ctl">{}</span>').format(safe))
    return Markup("").join(parts)


def _value(value: str | None) -> Markup:
    """Return one side of a manifest row: a text without its quotes, digests cut."""
    if value is None:
        return Markup('<span class="muted">absent</span>')
    if value[:1] == '"':
        with contextlib.suppress(ValueError):
            value = str(json.loads(value))
    return _shown(short(value))


def _slug(state: str) -> str:
    return re.sub(r"[^a-z]+", "-", str(state))


@cache
def static_digest(name: str) -> str:
    """Return what a static file's address ends with: another content has another address."""
    return hexdigest((_HERE / "static" / name).read_bytes())[:12]


@cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "shown": _shown,
        "shown_log": _shown_log,
        "shown_text": lambda text: printable(str(text)),
        "value": _value,
        "slug": _slug,
    }
    made.globals["static"] = lambda name: f"/static/{name}?v={static_digest(name)}"
    return made


def render(
    request: Request, template: str, *, status: int = 200, here: str = "", **values: Any
) -> HTMLResponse:
    """Return a page."""
    grant = getattr(request.state, "grant", None)
    text = (
        _environment().get_template(template).render(grant=grant, here=here, csrf=csrf_of(request), **values)
    )
    return HTMLResponse(text.encode("utf-8", "replace"), status, headers=HEADERS)


# -- forms ------------------------------------------------------------------------------------------------------------


def csrf_of(request: Request) -> str:
    """Return what a form of ours sends along, and no page of another site can know."""
    grant = getattr(request.state, "grant", None)
    return hmac.new(_KEY, (grant.token if grant is not None else "").encode(), "sha256").hexdigest()


async def checked_form(request: Request) -> dict[str, str]:
    """Return the fields of a form that one of our own pages has sent. Raises ``FormExpired``."""
    async with request.form(max_files=0, max_fields=20) as form:
        fields = {name: value for name, value in form.items() if isinstance(value, str)}
    if not hmac.compare_digest(fields.get("csrf", "").encode("utf-8", "replace"), csrf_of(request).encode()):
        raise FormExpired
    return fields
