"""How a text falls into groups of three letters; training and prediction must agree on it."""

from __future__ import annotations


def trigrams(text: str) -> list[str]:
    """Return the three-letter groups of each word, its borders included: ``of`` gives `` of`` and ``of ``."""
    letters = "".join(char if char.isalpha() else " " for char in text.lower())
    padded = [f" {word} " for word in letters.split()]
    return [word[at : at + 3] for word in padded for at in range(len(word) - 2)]
