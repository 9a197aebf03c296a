"""Turn a text into a vector, with a transformer encoder."""

from __future__ import annotations

from pathlib import Path

import torch
from cog import BasePredictor, Input
from network import LONGEST, Encoder


class Predictor(BasePredictor):
    def setup(self) -> None:
        """Load the weights."""
        weights = torch.load(Path(__file__).with_name("weights.pt"), weights_only=True)
        self.encoder = Encoder()
        self.encoder.load_state_dict(weights)
        self.encoder.eval()

    def predict(self, text: str = Input(description="Up to 128 bytes of text", min_length=1)) -> list[float]:
        """Return the text's vector."""
        ids = torch.tensor([list(text.encode())])
        if ids.shape[1] > LONGEST:
            raise ValueError(f"the text has {ids.shape[1]} bytes, more than {LONGEST}")
        with torch.inference_mode():
            return [round(value, 2) for value in self.encoder(ids)[0].tolist()]
