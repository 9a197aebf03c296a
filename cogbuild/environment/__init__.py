"""A declared Python environment, resolved, locked, realised once.

``find_python`` → ``make_request`` → ``resolve`` (once per request; the caller keeps the lock) → ``realise`` (once per
lock and machine) → ``activate``. All of it is done by the ``uv`` that lies beside cogbuild.
"""

from __future__ import annotations

from cogbuild.environment.locks import Lock, Request, make_request, resolve
from cogbuild.environment.python import Python, find_python, look_again, platform_name
from cogbuild.environment.realised import (
    Environment,
    activate,
    list_environments,
    realise,
    remove,
    sweep,
)

__all__ = [
    "Environment",
    "Lock",
    "Python",
    "Request",
    "activate",
    "find_python",
    "list_environments",
    "look_again",
    "make_request",
    "platform_name",
    "realise",
    "remove",
    "resolve",
    "sweep",
]
