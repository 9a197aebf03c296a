"""Everything cogbuild refuses: facts, wording, exit code.

An error is *headline · facts · hint*. A class fixes the wording and the exit code; an instance holds facts, by name,
so that tests and ``--json`` reach them without parsing text. One module per subject keeps the wording together:

    CogbuildError
    ├── declarations   cog.yaml, cog-adapter.yaml, cog-adapters.yaml, settings, environments (exit 2)
    ├── models         adding, naming and reading models, zip files (exit 2)
    ├── adapters       what an adapter did wrong while it ran (exit 1)
    └── state          database, cache, objects, artifact store, locks (exit 3)
"""

from __future__ import annotations

from typing import ClassVar

__all__ = ["CogbuildError", "is_text", "printable", "span"]


def printable(text: str | bytes) -> str:
    """Return *text* safe to show on a terminal: control characters and undecodable bytes are escaped."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def is_text(text: str) -> bool:
    """Whether *text* can be written as UTF-8 and handed to a process: no half characters, no NUL."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8, as surrogateescape keeps it
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")


def span(seconds: float) -> str:
    """Return a time for people: ``0.8 s``, ``4.2 s``, ``3 min 5 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min" + (f" {rest} s" if rest else "")
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h" + (f" {minutes} min" if minutes else "")


class CogbuildError(Exception):
    """A situation cogbuild refuses.

    ``headline`` and ``hint`` are format strings over the facts; facts that the headline names are not repeated as
    rows, and facts that are ``None`` are not shown. A fact's row label is its name with underscores as spaces.
    """

    exit_code: ClassVar[int] = 2
    headline: ClassVar[str] = ""
    hint: ClassVar[str] = ""
    #: Facts that stand in the hint and are no rows.
    in_hint: ClassVar[tuple[str, ...]] = ()
    #: Nothing else can go on; otherwise the trouble is one pair's or one model's.
    fatal: ClassVar[bool] = False

    def __init__(self, **facts: object) -> None:
        super().__init__()
        self.facts = facts

    def _shown(self) -> dict[str, str]:
        return {name: _text(value) for name, value in self.facts.items() if value is not None}

    def _inline(self) -> dict[str, str]:
        """Return the facts for the middle of a line."""
        return {name: value.replace("\n", "\\n") for name, value in self._shown().items()}

    @property
    def title(self) -> str:
        """The headline with its facts filled in."""
        return self.headline.format_map(_Facts(self._inline()))

    @property
    def advice(self) -> str:
        """The hint with its facts filled in, empty where there is nothing to do."""
        return self.hint.format_map(_Facts(self._inline()))

    def rows(self) -> list[tuple[str, str]]:
        """Return the facts to show as (label, value), in the order given."""
        return [
            (name.replace("_", " "), value)
            for name, value in self._shown().items()
            if "{" + name + "}" not in self.headline and name not in self.in_hint
        ]

    def __str__(self) -> str:
        rows = self.rows()
        width = max((len(label) for label, _ in rows), default=0)
        lines = [self.title]
        for label, value in rows:
            first, *more = value.split("\n")
            lines.append(f"  {label:<{width}}  {first}".rstrip())
            lines.extend(f"  {'':<{width}}  {line}".rstrip() for line in more)
        if self.advice:
            lines.append(f"hint: {self.advice}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, object]:
        """Return the error by name, for ``--json``."""
        return {
            "error": type(self).__name__,
            "exit_code": self.exit_code,
            "headline": self.title,
            "facts": self._shown(),
            "hint": self.advice or None,
        }


class _Facts(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return f"<{key}>"


def _text(value: object) -> str:
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(_text(item).replace("\n", "\\n") for item in value)
    if isinstance(value, bytes):
        return printable(value)
    if hasattr(value, "__fspath__"):  # a path has no lines, whatever its name
        return printable(str(value))
    return "\n".join(printable(line) for line in str(value).split("\n"))
