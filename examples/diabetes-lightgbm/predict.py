"""Foresee the progress of diabetes from ten measurements, with LightGBM."""

from __future__ import annotations

from pathlib import Path

import lightgbm
import numpy as np
from cog import BasePredictor, Input


class Predictor(BasePredictor):
    def setup(self) -> None:
        """Load the trees."""
        self.trees = lightgbm.Booster(model_file=Path(__file__).with_name("trees.txt"))

    def predict(
        self,
        age: float = Input(description="Years"),
        bmi: float = Input(description="Body mass index"),
        pressure: float = Input(description="Average blood pressure"),
        serum: list[float] = Input(description="Six blood serum measurements, in the order of the data set"),  # noqa: B008
        sex: int | None = Input(
            description="1 or 2 as in the data set; may be left out", default=None, ge=1, le=2
        ),
    ) -> float:
        """Return the progress of the disease one year later, 25 to 346."""
        if len(serum) != 6:
            raise ValueError(f"six measurements of blood serum are needed, not {len(serum)}")
        patient = [age, np.nan if sex is None else sex, bmi, pressure, *serum]
        return round(float(self.trees.predict(np.array([patient], dtype=np.float32))[0]), 1)
