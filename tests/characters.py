"""Characters for Hypothesis that need none of its tables, which take two seconds to make in a fresh checkout."""

from __future__ import annotations

from hypothesis import strategies as st

__all__ = ["CHARACTERS"]

#: Every character that UTF-8 can hold; those of ASCII come most often.
CHARACTERS = st.one_of(
    st.integers(0, 0x7F).map(chr), st.integers(0x80, 0xD7FF).map(chr), st.integers(0xE000, 0x10FFFF).map(chr)
)
