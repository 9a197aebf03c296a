"""What an artifact has to reproduce: what the examples put into a network, and shapes that no example has.

Each case is plain arrays by position, so that any runtime can be fed with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np

    from cogbuild_adapter.networks import Network


@dataclass(frozen=True)
class Case:
    """Inputs of a network, in the order in which it takes them, and its own outputs by position."""

    label: str  # "call 2, predict_proba", "three batches in one"
    inputs: tuple[np.ndarray[Any, Any], ...]
    outputs: Mapping[int, np.ndarray[Any, Any]]
    method: str = "forward"  # what was called; of an estimator it chooses the output


def cases(network: Network, free: Sequence[Mapping[int, int]]) -> Iterator[Case]:
    """Yield the cases of *network*: each recorded call, and shapes that were not used where the artifact takes them.

    *free* has for each input of the artifact the dimensions that its caller chooses, with the largest size allowed.
    """
    if network.kind == "torch":
        from cogbuild_adapter.torch_calls import torch_cases

        yield from torch_cases(network.value, network.calls, free)
    else:
        from cogbuild_adapter.array_calls import array_cases

        yield from array_cases(network, free)
