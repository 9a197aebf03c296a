"""The network whose weights ``make.py`` draws and ``predict.py`` runs."""

from __future__ import annotations

import torch
from torch import nn

#: The longest text, in bytes.
LONGEST = 128


class Encoder(nn.Module):
    """Two attention layers over bytes: batch x length in, batch x 8 out. 0 is padding."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.bytes = nn.Embedding(256, width)
        self.positions = nn.Parameter(torch.randn(LONGEST, width) / 4)
        layer = nn.TransformerEncoderLayer(width, nhead=4, dim_feedforward=32, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
        self.vector = nn.Linear(width, 8)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        padding = ids == 0
        hidden = self.bytes(ids) + self.positions[: ids.shape[1]]
        hidden = self.layers(hidden, src_key_padding_mask=padding)
        weights = (~padding).to(hidden.dtype).unsqueeze(2)
        return self.vector((hidden * weights).sum(1) / weights.sum(1))
