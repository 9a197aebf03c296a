"""Letting go of outcomes, collecting what nothing needs, and asking whether what was made still exists.

``cleaning`` drops one outcome, ``roots`` and ``collecting`` are ``gc``, ``made`` lists what adapters made, ``lost`` asks
whether it is still there, ``fetching`` copies it out, ``records`` looks into the cache.
"""

from __future__ import annotations

from cogbuild.housekeeping.cleaning import clean

__all__ = ["clean"]
