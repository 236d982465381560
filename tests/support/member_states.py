"""Member states of a small made-up network, and comparisons to the bit."""

import math

import torch
from torch import Tensor

from hpo.training.member import MemberState, Progress
from hpo.training.weights import Weights

SIZE = 11
"""The number of parameters."""

ODD = torch.tensor([math.inf, -math.inf, math.nan, -0.0, 1e-45, 3e38])


def weights(seed: int = 0, size: int = SIZE, buffers: int = 5) -> Weights:
    generator = torch.Generator().manual_seed(seed)
    parameters = torch.randn(1, size, generator=generator)
    parameters[0, : len(ODD)] = ODD
    mean = torch.randn(1, buffers, generator=generator)
    return Weights(parameters, {"norm.mean": mean, "norm.seen": torch.tensor([7])})


def member_state(
    progress: Progress | None = None, best: bool = True, optimizer: bool = True, average: bool = False
) -> MemberState:
    tensors = {"mean": torch.randn(1, SIZE), "power": torch.rand(1, 1, dtype=torch.float64)}
    return MemberState(
        progress or Progress(epochs=3),
        weights(),
        weights(1) if best else None,
        tensors if optimizer else None,
        weights(3) if average else None,
    )


def same(first: Tensor, second: Tensor) -> bool:
    """Whether type and bits are equal; NaN equals NaN."""
    return first.dtype == second.dtype and first.numpy().tobytes() == second.numpy().tobytes()


def assert_same_weights(first: Weights | None, second: Weights | None) -> None:
    assert (first is None) == (second is None)
    if first is not None and second is not None:
        assert same(first.parameters, second.parameters)
        assert [*first.buffers] == [*second.buffers]
        assert all(same(first.buffers[name], second.buffers[name]) for name in first.buffers)
