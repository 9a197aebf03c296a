"""Values that must not be seen, taken out of what a process says: as they are, and as base64 and others spell them.

All spellings are made beforehand and looked for as plain bytes. So what is found is sure, and what can't be found is
known: a value that was cut into pieces, reversed or encrypted before it was printed.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SHORTEST", "Mask", "Masked"]

#: A shorter value is in too many words to be taken out of them.
SHORTEST = 4
# Lines of a value that has several (a key in PEM, a file in JSON) are looked for one by one from this length on.
_SHORTEST_LINE = 8
# Where base64 and openssl begin a new line.
_WRAPPED_AT = (76, 64)


class Mask:
    """What takes the values of variables out of bytes and text; made once, used by any number of threads."""

    def __init__(self, values: Mapping[str, str]) -> None:
        #: The variables whose values are too short.
        self.too_short = sorted(name for name, value in values.items() if 0 < len(value.strip()) < SHORTEST)
        self._marks: dict[bytes, bytes] = {}
        for name, value in sorted(values.items()):
            for spelling in _spellings(os.fsencode(value.strip())):
                self._marks.setdefault(spelling, f"[secret {name}]".encode())
        # The first alternative that fits is taken, so the longest come first.
        known = sorted(self._marks, key=len, reverse=True)
        self._longest = len(known[0]) if known else 0
        self._by_first: dict[int, list[bytes]] = {}
        for spelling in known:
            self._by_first.setdefault(spelling[0], []).append(spelling)
        self._any = re.compile(b"|".join(map(re.escape, known)) if known else b"(?!)")

    def __bool__(self) -> bool:
        """Whether there is anything to take out."""
        return bool(self._marks)

    def data(self, data: bytes) -> bytes:
        """Return *data* without the values."""
        return self._any.sub(lambda found: self._marks[found[0]], data)

    def value(self, value: Any) -> Any:
        """Return text, bytes, a path, or a list or mapping of such, without the values; all else as it is."""
        if isinstance(value, bytes):
            return self.data(value)
        if isinstance(value, (str, os.PathLike)):
            text = _bytes(str(value))
            masked = self.data(text)
            return value if masked == text else masked.decode("utf-8", "replace")
        if isinstance(value, Mapping):
            return {self.value(key): self.value(item) for key, item in value.items()}
        if isinstance(value, Sequence):
            return [self.value(item) for item in value]
        return value

    def facts(self, facts: Mapping[str, object], *, apart: Mapping[str, object]) -> dict[str, object]:
        """Return an error's facts without the values; those in *apart* are no words of the process."""
        return {name: item if apart.get(name) == item else self.value(item) for name, item in facts.items()}

    def holds(self, text: str) -> bool:
        """Whether there is something to take out of *text*, or was."""
        data = _bytes(text)
        return self._any.search(data) is not None or any(mark in data for mark in set(self._marks.values()))

    def beginning(self, data: bytes, start: int) -> int:
        """Return where behind *start* the rest of *data* may be the beginning of a spelling; its end where nowhere."""
        for at in range(max(start, len(data) - self._longest + 1), len(data)):
            for known in self._by_first.get(data[at], ()):
                if len(known) > len(data) - at and known.startswith(data[at:]):
                    return at
        return len(data)

    def split(self, data: bytes) -> tuple[bytes, bytes]:
        """Return (*data* without the values, the end that has to be seen again with what follows)."""
        out, done, kept = [], 0, self.beginning(data, 0)
        for found in self._any.finditer(data):
            if found.start() >= kept:
                break
            out += [data[done : found.start()], self._marks[found[0]]]
            done = found.end()
            if done > kept:  # what seemed a beginning was the end of this one
                kept = self.beginning(data, done)
        out.append(data[done:kept])
        return b"".join(out), data[kept:]


class Masked:
    """A stream without the values, however it is cut; holds back less than the longest spelling."""

    def __init__(self, mask: Mask) -> None:
        self._mask = mask
        self._kept = b""

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return what can be told by now."""
        out, self._kept = self._mask.split(self._kept + data)
        return out

    def close(self) -> bytes:
        """Return what was held back: nothing follows."""
        kept, self._kept = self._kept, b""
        return self._mask.data(kept)


def _bytes(text: str) -> bytes:
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:  # half a character, which JSON can say
        return text.encode("utf-8", "surrogatepass")


def _spellings(value: bytes) -> Iterator[bytes]:
    """Yield *value* as it may be seen: itself, its lines, base64, and what shells, JSON and URLs make of it."""
    if len(value) < SHORTEST:
        return
    yield value
    yield from _lines(value)
    yield from _base64(value)
    text = os.fsdecode(value)
    for quoted in (
        text.replace("'", "'\\''"),
        text.replace("'", "'\"'\"'"),
        json.dumps(text)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
        repr(text)[1:-1],
        repr(value)[2:-1],
    ):
        yield os.fsencode(quoted)
    yield quote(value, safe="").encode()
    yield quote_plus(value).encode()


def _lines(text: bytes) -> Iterator[bytes]:
    for line in text.splitlines():
        if len(line.strip()) >= _SHORTEST_LINE:
            yield line.strip()


def _base64(value: bytes) -> Iterator[bytes]:
    """Yield what base64 makes of *value* wherever in other bytes it stands, and its lines where it stands alone."""
    for altchars in (b"+/", b"-_"):
        for before in range(3):
            encoded = base64.b64encode(bytes(before) + value, altchars).rstrip(b"=")
            # The first and last character may hold bits of what stands before and behind.
            first = (0, 2, 3)[before]
            last = len(encoded) - ((before + len(value)) % 3 > 0)
            yield encoded[first:last]
        alone = base64.b64encode(value, altchars)
        for width in _WRAPPED_AT:
            if len(alone) > width:
                yield from _lines(b"\n".join(alone[at : at + width] for at in range(0, len(alone), width)))
