"""The form that every error has: headline, facts, hint; the same facts as JSON; nothing unsafe on a terminal."""

from __future__ import annotations

import json
from typing import ClassVar

import pytest

from cogbuild.errors import CogbuildError, printable


class _PairLost(CogbuildError):
    exit_code = 3
    headline = "{pair} has lost its artifact"
    hint = "build it again with `cogbuild adapt --model {model}`"


class _Plain(CogbuildError):
    headline = "nothing is here"


def test_error_reads_as_headline_rows_and_hint() -> None:
    """Facts that the headline names are not repeated; the others are aligned rows in the order given."""
    error = _PairLost(pair="digits:onnx", model="2f61c0a", last_seen="Monday", at=["a", "b"])
    assert str(error) == (
        "digits:onnx has lost its artifact\n"
        "  model      2f61c0a\n"
        "  last seen  Monday\n"
        "  at         a, b\n"
        "hint: build it again with `cogbuild adapt --model 2f61c0a`"
    )


def test_error_without_facts_is_its_headline() -> None:
    """An error with nothing more to say has neither rows nor a hint."""
    assert str(_Plain()) == "nothing is here"
    assert _Plain().rows() == []
    assert _Plain().exit_code == 2


def test_fact_that_is_none_is_not_shown() -> None:
    """A fact that is not known is left out everywhere."""
    error = _Plain(line=None, file="cog.yaml")
    assert str(error) == "nothing is here\n  file  cog.yaml"
    assert error.to_json()["facts"] == {"file": "cog.yaml"}


def test_value_of_many_lines_stays_aligned() -> None:
    """The second line of a value begins below the first."""
    assert str(_Plain(it_said="one\ntwo")) == "nothing is here\n  it said  one\n           two"


def test_json_has_the_same_facts_by_name() -> None:
    """`--json` reaches class, code, sentence, facts and hint without reading text."""
    error = _PairLost(pair="digits:onnx", model="2f61c0a")
    assert json.loads(json.dumps(error.to_json())) == {
        "error": "_PairLost",
        "exit_code": 3,
        "headline": "digits:onnx has lost its artifact",
        "facts": {"pair": "digits:onnx", "model": "2f61c0a"},
        "hint": "build it again with `cogbuild adapt --model 2f61c0a`",
    }
    assert _Plain().to_json()["hint"] is None


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain ü text", "plain ü text"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("two\nlines", "two\\nlines"),
        (b"caf\xe9", "caf\\xe9"),
        ("caf\udce9", "caf\\xe9"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
    ],
)
def test_printable_escapes_what_could_act_on_a_terminal(raw: str | bytes, shown: str) -> None:
    """Control characters, direction marks and undecodable bytes are shown, never sent."""
    assert printable(raw) == shown


def test_facts_are_escaped_in_headline_and_rows() -> None:
    """A hostile name can't move the cursor, wherever it is shown."""

    class _Named(CogbuildError):
        headline: ClassVar[str] = "{name} is odd"

    assert str(_Named(name="a\x1b[2J", other="b\x07")) == "a\\x1b[2J is odd\n  other  b\\x07"


def test_braces_in_a_fact_are_left_alone() -> None:
    """A fact is never taken for a format string."""
    assert str(_PairLost(pair="{model}", model="{pair}")).startswith(
        "{model} has lost its artifact\n  model  {pair}"
    )
