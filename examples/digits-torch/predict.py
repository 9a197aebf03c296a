"""Read a handwritten digit from its 64 pixels, with a small PyTorch network."""

from __future__ import annotations

from pathlib import Path

import torch
from cog import BaseModel, BasePredictor, Input
from network import DigitNet


class Output(BaseModel):
    digit: int
    confidence: float


class Predictor(BasePredictor):
    def setup(self) -> None:
        """Load the weights."""
        weights = torch.load(Path(__file__).with_name("weights.pt"), weights_only=True)
        self.network = DigitNet()
        self.network.load_state_dict(weights)
        self.network.eval()

    def predict(
        self,
        pixels: list[float] = Input(description="64 pixels of an 8 x 8 image, by row", ge=0, le=16),  # noqa: B008
        temperature: float = Input(description="Above 1: less sure of itself", default=1.0, ge=0.1, le=10),
    ) -> Output:
        """Say which digit the image shows."""
        if len(pixels) != 64:
            raise ValueError(f"an image has 64 pixels, not {len(pixels)}")
        image = torch.tensor(pixels, dtype=torch.float32).reshape(1, 1, 8, 8)
        with torch.inference_mode():
            probabilities = torch.softmax(self.network(image)[0] / temperature, dim=0)
        confidence, digit = probabilities.max(dim=0)
        return Output(digit=int(digit), confidence=round(float(confidence), 2))
