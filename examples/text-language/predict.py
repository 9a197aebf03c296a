"""Guess the language of a text from its three-letter groups (naive Bayes), without any package."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

from cog import BaseModel, BasePredictor, Input
from trigrams import trigrams


class Output(BaseModel):
    language: str
    confidence: float


class Predictor(BasePredictor):
    def setup(self) -> None:
        """Load the counts of each language."""
        profiles = json.loads(Path(__file__).with_name("profiles.json").read_text(encoding="utf-8"))
        known = len({group for counts in profiles.values() for group in counts})
        self.profiles = {
            language: (counts, sum(counts.values()) + known) for language, counts in profiles.items()
        }

    def predict(
        self,
        text: str = Input(description="A sentence or more", min_length=1),
        among: str = Input(
            description="Languages to choose from, separated by commas", default="de,en,es,fr,it,nl"
        ),
    ) -> Output:
        """Say which language the text is written in."""
        groups = Counter(trigrams(text))
        scores = {language: self._score(language, groups) for language in among.replace(" ", "").split(",")}
        best = max(scores, key=lambda language: (scores[language], language))
        total = sum(math.exp(score - scores[best]) for score in scores.values())
        return Output(language=best, confidence=round(1 / total, 2))

    def _score(self, language: str, groups: Counter[str]) -> float:
        if language not in self.profiles:
            raise ValueError(f"no language is called {language!r}; known are {', '.join(self.profiles)}")
        counts, total = self.profiles[language]
        return sum(times * math.log((counts.get(group, 0) + 1) / total) for group, times in groups.items())
