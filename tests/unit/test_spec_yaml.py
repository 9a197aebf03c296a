"""What counts as a YAML file for cogbuild, whoever wrote it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cogbuild.errors.declarations import DeclarationError
from cogbuild.spec._yaml import MAX_BYTES, read_yaml

FILE = Path("cog.yaml")


def refusal(data: bytes) -> str:
    with pytest.raises(DeclarationError) as caught:
        read_yaml(data, FILE)
    return str(caught.value)


def test_values_keep_the_lines_of_their_keys() -> None:
    """Every key and item knows its line, also inside flow collections."""
    document = read_yaml(b"a: 1\nb:\n  c: [x,\n   y]\n", FILE)
    assert document.value == {"a": 1, "b": {"c": ["x", "y"]}}
    assert [document.line(place) for place in (("a",), ("b",), ("b", "c"), ("b", "c", 1))] == [1, 2, 3, 4]


def test_line_of_a_missing_key_is_the_line_around_it() -> None:
    """What is not in the file is reported at the key that should hold it."""
    document = read_yaml(b"a: 1\nb: {}\n", FILE)
    assert document.line(("b", "c")) == 2
    assert document.line(("x",)) is None


@pytest.mark.parametrize("data", [b"", b"# nothing\n", b"---\n", b"~", b"\xef\xbb\xbf"])
def test_empty_file_is_an_empty_mapping(data: bytes) -> None:
    """A file with comments only declares nothing; what is missing is said by name later."""
    assert read_yaml(data, FILE).value == {}


def test_keys_are_taken_as_written() -> None:
    """`on:` and `3.10:` are the words on the page, not what YAML 1.1 makes of them."""
    assert read_yaml(b"on: 1\n3.10: 2\n", FILE).value == {"on": 1, "3.10": 2}


def test_merge_keys_work() -> None:
    """`<<` takes over what is not given; the first source wins."""
    text = b"a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc: {<<: [*a, *b], x: 5}\n"
    assert read_yaml(text, FILE).value["c"] == {"x": 5, "y": 2, "z": 4}


REFUSALS = {
    "broken": (
        b"a: [1\nb: 2\n",
        "cog.yaml is not YAML that can be read\n  line     2\n  problem  did not find expected ',' or ']'",
    ),
    "tab": (
        b"a:\n\tb: 1",
        (
            "cog.yaml is not YAML that can be read\n  line     2\n"
            "  problem  found character that cannot start any token"
        ),
    ),
    "two documents": (
        b"a: 1\n---\nb: 2",
        "cog.yaml is not YAML that can be read\n  line     2\n  problem  but found another document",
    ),
    "unknown alias": (
        b"a: *x",
        "cog.yaml is not YAML that can be read\n  line     1\n  problem  found undefined alias",
    ),
    "list": (b"- a", "cog.yaml holds a list where keys with values were expected"),
    "text": (b"hello", "cog.yaml holds 'hello' where keys with values were expected"),
    "key twice": (
        b"a: 1\nb: 2\na: 3",
        "a is given twice\n  file        cog.yaml\n  line        3\n  first line  1",
    ),
    "object": (
        b"a: !!python/object/apply:os.system [x]",
        (
            "cog.yaml is not YAML that can be read\n  line     1\n"
            "  problem  the tag python/object/apply:os.system is not known here"
        ),
    ),
    "wrong tag": (
        b"a: !!int x",
        "cog.yaml is not YAML that can be read\n  line     1\n  problem  'x' is not a number",
    ),
    "key of parts": (
        b"{a: 1}: 2",
        "cog.yaml is not YAML that can be read\n  line     1\n  problem  a key has to be a plain text",
    ),
    "merge of text": (
        b"<<: x",
        "cog.yaml is not YAML that can be read\n  line     1\n  problem  << takes mappings only",
    ),
    "control character": (
        b"a: 1\nb: \x1b",
        "cog.yaml is not YAML that can be read\n  line     2\n  problem  it holds the character U+001B",
    ),
    "NUL": (
        b'a: 1\nb: "\\0"',
        "cog.yaml is not YAML that can be read\n  line     2\n  problem  a text holds a NUL character",
    ),
    "not text": (b"a: 1\nb: \xff", "cog.yaml is not UTF-8 text\n  line  2\nhint: save it as UTF-8"),
    "too deep": (
        b"a: " + b"[" * 100_000,
        "cog.yaml is larger than it looks: it nests more than 64 levels deep\n  line  1",
    ),
    "circle": (
        b"a: &a [*a]",
        "cog.yaml is larger than it looks: it nests more than 64 levels deep\n  line  1",
    ),
    "circle by merging": (
        b"a: &a {<<: *a}",
        "cog.yaml is larger than it looks: it nests more than 64 levels deep\n  line  1",
    ),
    "too large": (
        b" " * (MAX_BYTES + 1),
        "cog.yaml has 4194305 bytes, more than the 4194304 that a declaration may have",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_file_that_is_no_declaration_is_refused(case: str) -> None:
    """Each way to be unreadable has its own whole message."""
    data, message = REFUSALS[case]
    assert refusal(data) == message


@pytest.mark.parametrize(
    "form", ["[{0},{0},{0},{0},{0},{0},{0},{0},{0}]", "{{<<: [{0},{0},{0},{0},{0},{0},{0},{0},{0}]}}"]
)
def test_aliases_cannot_blow_up(form: str) -> None:
    """A few hundred bytes that stand for a billion values are refused at a bound, quickly."""
    lines = ["a0: &a0 " + ("{x: 1}" if "<<" in form else "[1]")]
    lines += [f"a{i}: &a{i} " + form.format(f"*a{i - 1}") for i in range(1, 12)]
    assert refusal("\n".join(lines).encode()).startswith(
        "cog.yaml is larger than it looks: with its aliases written out it has more than 200000 values"
    )


@given(st.binary(max_size=200) | st.text("ab:-[]{}&*!<>|\"'\n \\0#?,%", max_size=80).map(str.encode))
@example(b"%YAML 9.9\n---\na: 1")
@example(b"a: !!binary x")
@example(b"? ? a")
def test_any_bytes_are_a_mapping_or_a_refusal(data: bytes) -> None:
    """Whatever the file holds, the outcome is values or one of our errors."""
    try:
        document = read_yaml(data, FILE)
    except DeclarationError:
        return
    assert isinstance(document.value, dict)
