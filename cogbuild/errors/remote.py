"""Errors of object stores that artifacts are kept in (exit 1): one pair's trouble, and tried again by the next run."""

from __future__ import annotations

from cogbuild.errors import CogbuildError

__all__ = [
    "ArtifactNotInStore",
    "StoreAway",
    "StoreBucketMissing",
    "StoreDenied",
    "StoreError",
    "StoreNameUnusable",
    "UploadDamaged",
]


class StoreError(CogbuildError):
    """An object store that does not take or give what it was asked for."""

    exit_code = 1


class StoreAway(StoreError):
    headline = "the artifact store {store} can't be used now"
    hint = "run it again when it can: what it has already is not sent again"


class StoreBucketMissing(StoreError):
    headline = "the artifact store {store} is not there"
    hint = "make it, or correct artifact_store: in the settings"


class StoreDenied(StoreError):
    headline = "the artifact store {store} does not let this user in"
    hint = "give cogbuild credentials in its environment, e.g. AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


class StoreNameUnusable(StoreError):
    headline = "the artifact store {store} can't have a file of this name"
    hint = "give the file another name"


class ArtifactNotInStore(StoreError):
    headline = "{uri} is not in the artifact store as it was put there"
    hint = "run it again: it is made anew first"


class UploadDamaged(StoreError):
    headline = "what the artifact store {store} has of {name} is not what was sent"
    hint = "run it again"
