"""Read a handwritten digit from its 64 pixels, with scikit-learn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from cog import BaseModel, BasePredictor, Input
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler


class Output(BaseModel):
    digit: int
    confidence: float


def restored(weights: dict) -> Pipeline:
    """Return the fitted pipeline from plain numbers: a pickle would bind them to one scikit-learn release."""
    scaler = StandardScaler()
    scaler.mean_ = np.array(weights["mean"])
    scaler.scale_ = np.array(weights["scale"])
    scaler.n_features_in_ = len(scaler.mean_)
    classifier = LogisticRegression()
    classifier.classes_ = np.array(weights["classes"])
    classifier.coef_ = np.array(weights["coef"])
    classifier.intercept_ = np.array(weights["intercept"])
    classifier.n_features_in_ = classifier.coef_.shape[1]
    return make_pipeline(scaler, classifier)


class Predictor(BasePredictor):
    def setup(self) -> None:
        """Put the classifier together from its numbers."""
        weights = json.loads(Path(__file__).with_name("weights.json").read_text())
        self.classifier = restored(weights)

    def predict(
        self,
        pixels: list[float] = Input(description="64 pixels of an 8 x 8 image, by row", ge=0, le=16),  # noqa: B008
        invert: bool = Input(description="Whether the ink is 0 and the paper 16", default=False),
    ) -> Output:
        """Say which digit the image shows."""
        if len(pixels) != 64:
            raise ValueError(f"an image has 64 pixels, not {len(pixels)}")
        image = np.array([pixels])
        probabilities = self.classifier.predict_proba(16 - image if invert else image)[0]
        best = int(probabilities.argmax())
        return Output(
            digit=int(self.classifier.classes_[best]),
            confidence=round(float(probabilities[best]), 2),
        )
