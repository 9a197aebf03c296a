"""What docs/reliability.md calls proved is proved by tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

TOP = Path(__file__).parents[2]
PAGE = (TOP / "docs" / "reliability.md").read_text()


def test_every_named_test_is_there() -> None:
    """Each ``path::name`` of the page is a test function in that file."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 30
    missing = [f"{path}::{name}" for path, name in named if name not in functions(TOP / path)]
    assert missing == []


def test_every_promise_names_its_test() -> None:
    """Each row of a table of promises ends with the tests that prove it."""
    tables = re.findall(r"\| promise \|.*?\n\|[-|]+\n((?:\|.*\n)+)", PAGE)
    rows = [row for table in tables for row in table.splitlines()]
    assert len(rows) > 20
    assert [row for row in rows if not re.search(r"`tests/[^`]+::\w+` \|$", row)] == []


def functions(path: Path) -> set[str]:
    """Return the functions that a file defines."""
    return set(re.findall(r"^ *def (\w+)\(", path.read_text(), re.MULTILINE)) if path.is_file() else set()
