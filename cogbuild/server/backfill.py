"""New and changed adapters over the models that are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cogbuild.server.jobs import Active, Ending

if TYPE_CHECKING:
    from cogbuild.server.service import Service

__all__ = ["Backfill"]


class Backfill:
    """Looks after what past models lack."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def work(self, _active: Active) -> Ending:
        """Do the job."""
        return Ending(0)
