"""A run on a terminal: a line per running pair with its last log line and time, and a total.

The display goes when the run ends; how each pair ended scrolls by above it and stays.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from cogbuild.engine import Line, Note, Result, Started, Status
from cogbuild.errors import printable
from cogbuild.report.plain import Plain, result_lines
from cogbuild.report.words import clock

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.live import Live as RichLive

    from cogbuild.engine import Event

__all__ = ["Live", "shortened"]

_STYLES = {
    Status.BUILT: "green",
    Status.RESTORED: "cyan",
    Status.TESTED: "green",
    Status.NOT_APPLICABLE: "dim",
    Status.FAILED: "bold red",
    Status.BLOCKED: "yellow",
    Status.CANCELLED: "yellow",
}
_SETTLED = (Status.BUILT, Status.RESTORED, Status.TESTED, Status.FRESH, Status.NOT_APPLICABLE)
# A log line is cut before its control characters are looked for: a line may be long, and comes often.
_LONGEST = 500
# Columns for what a pair says; where there are fewer, its name is shortened first.
_LEAST_SAID = 14


@dataclass
class _Running:
    said: str
    since: float = field(default_factory=time.monotonic)


class Live:
    """Draws with rich, which is imported with the first event: a run with nothing to do draws nothing."""

    def __init__(self, out: TextIO, *, log: TextIO | None = None) -> None:
        self._out = out
        self._log = Plain(None, log) if log is not None else None
        self._console: Console | None = None
        self._live: RichLive | None = None
        self._guard = threading.Lock()
        self._running: dict[str, _Running] = {}
        self._expected = 0
        self._done = 0
        self._failed = 0
        self._started = time.monotonic()

    def expect(self, pairs: int) -> None:
        """Raise the total."""
        self._expected += pairs

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if self._log is not None:
            self._log(event)
        with self._guard:
            begun = event.pair in self._running
            self._hear(event)
        console = self._drawn()
        if isinstance(event, Result) and (lines := result_lines(event, begun=begun)):
            text = _text("\n".join(lines), _STYLES.get(event.status), len(str(event.status)))
            console.print(text, soft_wrap=True)

    def _hear(self, event: Event) -> None:
        if isinstance(event, Started):
            self._running[event.pair] = _Running("")
        elif isinstance(event, Line):
            self._running.setdefault(event.pair, _Running("")).said = printable(event.text[:_LONGEST])
        elif isinstance(event, Note):
            self._running.setdefault(event.pair, _Running("")).said = printable(event.text)
        else:
            self._running.pop(event.pair, None)
            self._done += 1
            self._failed += event.status not in _SETTLED

    def _drawn(self) -> Console:
        if self._live is None or self._console is None:
            from rich.console import Console
            from rich.live import Live as RichLive

            self._console = Console(file=self._out, highlight=False, markup=False, emoji=False)
            self._live = RichLive(
                self,
                console=self._console,
                transient=True,
                refresh_per_second=8,
                redirect_stdout=False,
                redirect_stderr=False,
                vertical_overflow="crop",
            )
            self._live.start()
        return self._console

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines as they are now."""
        room = max(1, options.size.height - 3)
        with self._guard:
            running = list(self._running.items())
            total = self._total(len(running))
        for pair, one in running[:room]:
            yield _row(options.max_width, pair, one)
        if len(running) > room:
            yield _text(f"  and {len(running) - room} more", "dim", None)
        yield _text(total[: options.max_width], "bold", None)

    def _total(self, running: int) -> str:
        parts = [f"{self._done} of {max(self._expected, self._done + running)} done"]
        parts += [f"{running} running"] if running else []
        parts += [f"{self._failed} failed"] if self._failed else []
        return ", ".join([*parts, clock(time.monotonic() - self._started)])

    def say(self, line: str) -> bool:
        """Show a line above what is drawn; False where nothing is drawn now."""
        if self._live is None or self._console is None:
            return False
        self._console.print(_text(line, None, None), soft_wrap=True)
        return True

    def close(self) -> None:
        """Take the display away."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def _text(line: str, style: str | None, length: int | None) -> Any:
    from rich.text import Text

    text = Text(line, no_wrap=True, overflow="ellipsis", end="\n")
    if style:
        text.stylize(style, 0, length)
    return text


def _row(width: int, pair: str, one: _Running) -> Any:
    from rich.text import Text

    spent = f"{clock(time.monotonic() - one.since):>6}  "
    name = shortened(pair, width - len(spent))
    if one.said and width - len(spent) - len(name) < _LEAST_SAID:
        brief = shortened(pair, width - len(spent) - _LEAST_SAID)
        name = brief if "@" in brief else name
    text = Text(spent + name, no_wrap=True, overflow="ellipsis")
    text.stylize("dim", 0, len(spent))
    if one.said and width - len(text) >= _LEAST_SAID:
        text.append("  " + one.said, style="dim")
    return text


def shortened(pair: str, width: int) -> str:
    """Return ``user/name@<id12>:<adapter>`` in *width* columns: the user goes first, then digits of the ID, then the rest."""
    if len(pair) <= width:
        return pair
    repo, _, rest = pair.rpartition("@")
    model, _, adapter = rest.partition(":")
    name = repo.rpartition("/")[2]
    for tried in (f"{name}@{model}:{adapter}", f"{name}@{model[:7]}:{adapter}", f"{model[:7]}:{adapter}"):
        if len(tried) <= width:
            return tried
    return tried[: max(1, width - 1)] + "…"
