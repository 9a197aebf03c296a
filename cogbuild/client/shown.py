"""What a person sees of a job: the run as if it were here, lines beside it, at the end the model and its artifacts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

from cogbuild.errors import printable
from cogbuild.report.plain import Plain
from cogbuild.report.watching import watcher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cogbuild.client.jobs import Heard
    from cogbuild.report.watching import Watcher

__all__ = ["Screen", "ending_error", "ending_lines", "model_lines", "run_json"]


class Screen:
    """A terminal or two streams. With *in_json* results are kept for the end, and only logs are shown."""

    def __init__(self, out: TextIO, log: TextIO, *, in_json: bool = False) -> None:
        self._log = log
        self.watch: Watcher = Plain(None, log) if in_json else watcher(out, log)

    def say(self, line: str) -> None:
        """Show a line above what is drawn."""
        from cogbuild.report.live import Live

        if not (isinstance(self.watch, Live) and self.watch.say(line)):
            self._log.write(line + "\n")
            self._log.flush()


def model_lines(model: dict[str, Any], repo: str) -> Iterator[str]:
    """Yield a model as its server describes it: its ID, then its artifacts."""
    yield printable(f"{model.get('id', '?')}  {repo}")
    for item in model.get("artifacts") or ():
        if isinstance(item, dict):
            yield printable(f"{item.get('target', '?')}: {item.get('uri', '?')}")


def ending_lines(end: dict[str, Any]) -> Iterator[str]:
    """Yield what a run says at its end."""
    # Where it did not come to a run's end, or could not say it, there are no totals.
    bare = end.get("state") in ("cancelled", "failed") and not end.get("error")
    for line in end.get("lines") or ([str(end["state"])] if bare else []):
        yield from (printable(part) for part in str(line).split("\n"))


def ending_error(heard: Heard, end: dict[str, Any]) -> str | None:
    """Return the error with which a job ended, None where there is none or it was shown before."""
    text = str(end.get("text") or "")
    if not end.get("error") or text in heard.said:
        return None
    return "\n".join(printable(line) for line in text.split("\n"))


def run_json(heard: Heard, end: dict[str, Any]) -> dict[str, Any]:
    """Return a run that was followed, and how it ended, as ``adapt --json`` has one that was here."""
    return {
        "results": heard.results,
        "summary": end.get("summary"),
        "problems": end.get("problems", []),
        "notes": end.get("notes", []),
        "error": end.get("error"),
        "exit_code": int(end.get("exit_code") or 0),
    }
