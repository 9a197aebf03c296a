"""Tell the grower of a wine from 13 measurements, with XGBoost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from cog import BaseModel, BasePredictor, Input
from xgboost import XGBClassifier


class Output(BaseModel):
    grower: int
    confidence: float


class Predictor(BasePredictor):
    def setup(self) -> None:
        """Load the trees."""
        self.trees = XGBClassifier()
        self.trees.load_model(Path(__file__).with_name("trees.json"))

    def predict(
        self,
        measured: list[float] = Input(description="13 measurements, in the order of the data set"),  # noqa: B008
    ) -> Output:
        """Say which of the three growers made the wine."""
        if len(measured) != 13:
            raise ValueError(f"a wine has 13 measurements, not {len(measured)}")
        probabilities = self.trees.predict_proba(np.array([measured], dtype=np.float32))[0]
        best = int(probabilities.argmax())
        return Output(grower=best, confidence=round(float(probabilities[best]), 2))
