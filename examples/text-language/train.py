"""Count the three-letter groups of each language in ``corpus/`` and write ``profiles.json``."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from trigrams import trigrams

HERE = Path(__file__).parent


def train() -> dict[str, dict[str, int]]:
    """Return how often each group of three letters occurs, by language."""
    return {
        file.stem: dict(sorted(Counter(trigrams(file.read_text(encoding="utf-8"))).items()))
        for file in sorted((HERE / "corpus").glob("*.txt"))
    }


if __name__ == "__main__":
    lines = ",\n".join(
        f"{json.dumps(language)}: {json.dumps(counts, ensure_ascii=False)}"
        for language, counts in train().items()
    )
    (HERE / "profiles.json").write_text("{\n" + lines + "\n}\n", encoding="utf-8")
