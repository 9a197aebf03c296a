"""The law of keys: they are equal exactly where everything that counts is."""

from __future__ import annotations

from characters import CHARACTERS
from hypothesis import given
from hypothesis import strategies as st

from cogbuild.fingerprint.manifest import PARTS, Manifest, manifest, part_rows, rows_part

What = tuple[dict[str, str | None], dict[str, str]]

# Few different texts, so that equal ones meet; some of them look like the encoding of others.
TEXTS = st.one_of(
    st.sampled_from(["", "a", "b", "a\0v", "a\nb", "\udcff", "p" * 40]),
    st.text(CHARACTERS, max_size=3),
)
LABELS = TEXTS.filter(lambda text: "\0" not in text)
DIGESTS = st.sampled_from(["00" * 32, "ff" * 32, "0a" * 32])
WHAT_COUNTS = st.tuples(
    st.dictionaries(st.sampled_from(PARTS), st.none() | DIGESTS), st.dictionaries(LABELS, TEXTS, max_size=3)
)
ROWS = st.lists(st.tuples(LABELS, TEXTS), max_size=4)


@given(WHAT_COUNTS, WHAT_COUNTS)
def test_keys_are_equal_where_manifests_are(one: What, other: What) -> None:
    """What counts differs if and only if the key does; and a manifest that was kept is the one that was hashed."""
    first, second = manifest(*one), manifest(*other)
    assert (first.key == second.key) == (first.rows == second.rows) == (_plain(one) == _plain(other))
    assert Manifest.decode(first.encode()) == first


def _plain(what: What) -> What:
    parts, needs = what
    return {label: digest for label, digest in parts.items() if digest is not None}, needs


@given(ROWS, ROWS)
def test_parts_are_equal_where_their_rows_are(
    one: list[tuple[str, str]], other: list[tuple[str, str]]
) -> None:
    """No two lists of rows share an encoding, whatever is in them."""
    first, second = rows_part(one), rows_part(other)
    assert (first.digest == second.digest) == (one == other)
    assert part_rows(first.kind, first.blob) == one
