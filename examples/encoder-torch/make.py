"""Draw the encoder's weights from a seed and write ``weights.pt``."""

from __future__ import annotations

from pathlib import Path

import torch
from network import Encoder

if __name__ == "__main__":
    torch.manual_seed(0)
    torch.save(Encoder().state_dict(), Path(__file__).with_name("weights.pt"))
