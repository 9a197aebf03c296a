"""Artifacts in object stores (S3, Google Cloud Storage, Azure): sent once, found by digest, looked for, fetched.

A file lies at ``ab/cdef…/<name>`` below the store's prefix, as in a directory of artifacts. A directory's files lie below
such a name, and ``<name>.files.json`` beside it, written last, lists them all: without it the directory is not whole.
obstore is imported when such a store is used and not before. It takes credentials from the environment.
"""

from cogbuild.remote.fetching import fetch
from cogbuild.remote.sending import Uploaded, upload
from cogbuild.remote.store import STORES, Remote, forget_stores, located

__all__ = ["STORES", "Remote", "Uploaded", "fetch", "forget_stores", "located", "upload"]
