"""An error that another cogbuild told of: the same words, facts and exit code as there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cogbuild.errors import CogbuildError, printable

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Told", "told"]


class Told(CogbuildError):
    """What it says was put into words elsewhere; only what could act on a terminal is escaped here."""

    def __init__(self, error: Mapping[str, Any], text: str) -> None:
        facts = error.get("facts")
        super().__init__(**(facts if isinstance(facts, dict) else {}))
        self._error = dict(error)
        self._text = text

    @property
    def title(self) -> str:
        """The headline, as it was told."""
        return printable(str(self._error.get("headline", "")))

    @property
    def advice(self) -> str:
        """The hint, as it was told."""
        return printable(str(self._error.get("hint") or ""))

    def __str__(self) -> str:
        return (
            "\n".join(printable(line) for line in self._text.split("\n")) if self._text else super().__str__()
        )

    def to_json(self) -> dict[str, object]:
        """Return the error as it was told."""
        return self._error


class ToldFailure(Told):
    exit_code = 1


class ToldTrouble(Told):
    exit_code = 3


_BY_CODE = {1: ToldFailure, 3: ToldTrouble}


def told(error: Mapping[str, Any], text: str = "") -> Told:
    """Return an error from its JSON and, where it was sent along, its whole *text*."""
    code = error.get("exit_code")
    return _BY_CODE.get(code if isinstance(code, int) else 2, Told)(error, text)
