"""Errors of reading a model from a zip (exit 2). Whatever is refused, nothing of it is left on the disk.

ZipRefused
├── the file     NotAZip, ZipEmpty, ZipTruncated, ZipBroken, ZipInParts, ZipHiddenBytes, ZipTooManyEntries,
│                ZipTooLarge
├── names        ZipNameLeaves, ZipNameUnusable, ZipNameTwice, ZipNamesClash, ZipLinkLeaves
└── entries      ZipEncrypted, ZipMethodUnknown, ZipSpecialFile, ZipHeadersDisagree, ZipEntriesOverlap,
                 ZipEntryLonger, ZipEntryDamaged
"""

from __future__ import annotations

from cogbuild.errors import CogbuildError

__all__ = [
    "NotAZip",
    "ZipBroken",
    "ZipEmpty",
    "ZipEncrypted",
    "ZipEntriesOverlap",
    "ZipEntryDamaged",
    "ZipEntryLonger",
    "ZipHeadersDisagree",
    "ZipHiddenBytes",
    "ZipInParts",
    "ZipLinkLeaves",
    "ZipMethodUnknown",
    "ZipNameLeaves",
    "ZipNameTwice",
    "ZipNameUnusable",
    "ZipNamesClash",
    "ZipRefused",
    "ZipSpecialFile",
    "ZipTooLarge",
    "ZipTooManyEntries",
    "ZipTruncated",
]


class ZipRefused(CogbuildError):
    """A zip that cogbuild does not unpack."""


class NotAZip(ZipRefused):
    headline = "{zip} is not a zip"


class ZipEmpty(ZipRefused):
    headline = "{zip} holds nothing"


class ZipTruncated(ZipRefused):
    headline = "{zip} ends too early"
    hint = "copy or upload it again"


class ZipBroken(ZipRefused):
    headline = "{zip} is not built as a zip should be: {problem}"


class ZipInParts(ZipRefused):
    headline = "{zip} is one part of a zip that was split"
    hint = "join the parts first"


class ZipHiddenBytes(ZipRefused):
    headline = "{zip} holds {bytes} bytes that belong to none of its files"
    hint = "zip the directory again"


class ZipTooManyEntries(ZipRefused):
    headline = "{zip} has more than {limit} files and directories"


class ZipTooLarge(ZipRefused):
    headline = "{zip} unpacks to {size} bytes, more than the limit of {limit}"
    hint = "if that is meant, give --zip-limit SIZE, or raise zip_limit in the settings"


class ZipNameLeaves(ZipRefused):
    headline = "{zip} names a file outside of it: {entry}"


class ZipNameUnusable(ZipRefused):
    headline = "{zip} has a name that can't be used: {entry}"


class ZipNameTwice(ZipRefused):
    headline = "{zip} has {entry} twice"


class ZipNamesClash(ZipRefused):
    headline = "{zip} has {entry} as a file and as a directory"


class ZipLinkLeaves(ZipRefused):
    headline = "{zip} has a symlink that {problem}: {entry}"
    hint = "put the file itself into the zip"


class ZipEncrypted(ZipRefused):
    headline = "{entry} in {zip} is encrypted"
    hint = "zip it without a password"


class ZipMethodUnknown(ZipRefused):
    headline = "{entry} in {zip} is compressed in a way that cogbuild doesn't read"
    hint = "zip it with deflate, as `zip -r` does"


class ZipSpecialFile(ZipRefused):
    headline = "{entry} in {zip} is {kind}; a model holds files, directories and symlinks only"


class ZipHeadersDisagree(ZipRefused):
    headline = "{zip} says two things about {entry}"


class ZipEntriesOverlap(ZipRefused):
    headline = "{entry} and {other} in {zip} share bytes"


class ZipEntryLonger(ZipRefused):
    headline = "{entry} in {zip} unpacks to more than the {declared} bytes that it declares"


class ZipEntryDamaged(ZipRefused):
    headline = "{entry} in {zip} is damaged: {problem}"
    hint = "copy or upload it again"
