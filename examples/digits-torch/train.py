"""Train the network on scikit-learn's digits and write ``weights.pt``; needs ``pip install scikit-learn`` too."""

from __future__ import annotations

from pathlib import Path

import torch
from network import DigitNet
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def train() -> tuple[DigitNet, float]:
    """Return the fitted network and which part of the unseen images it gets right."""
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(mode=True)
    torch.set_num_threads(1)
    parts = train_test_split(*load_digits(return_X_y=True), random_state=0)
    seen, unseen = (torch.tensor(part, dtype=torch.float32).reshape(-1, 1, 8, 8) for part in parts[:2])
    answers, wanted = (torch.tensor(part) for part in parts[2:])
    network = DigitNet()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.003)
    for _ in range(20):
        for batch in torch.randperm(len(seen)).split(64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(seen[batch]), answers[batch]).backward()
            optimizer.step()
    with torch.no_grad():
        right = network(unseen).argmax(dim=1) == wanted
    return network, float(right.float().mean())


if __name__ == "__main__":
    network, accuracy = train()
    torch.save(network.state_dict(), Path(__file__).with_name("weights.pt"))
    print(f"{accuracy:.2%} of the unseen images are read right")
