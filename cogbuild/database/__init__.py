"""The Cog database: repos, models, settings, outcomes, attempts, manifests, locks. The truth.

``connection`` opens it and groups commits; ``models`` and ``pairs`` are functions over an open connection, so that one
transaction can hold several of them. SQLite, WAL, ``synchronous=FULL``; one connection a thread, opened lazily.
"""

from __future__ import annotations

from cogbuild.database.connection import Database

__all__ = ["Database"]
