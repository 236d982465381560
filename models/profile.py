"""The cost of an architecture: parameters, and operations per image."""

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from hpo.models.registry import build


@dataclass(frozen=True, slots=True)
class Profile:
    """The cost of a network. `forward_flops` are those of one 28x28 image in eval mode.

    A training step has about three times as many.
    """

    name: str
    parameters: int
    forward_flops: int


def profile(name: str, classes: int = 62, in_channels: int = 1) -> Profile:
    """Build and run a network on torch's meta device, and count parameters and operations.

    Like torch's FlopCounterMode, this counts convolutions and matrix products only, with two FLOPs for each
    multiply-add. Raises ModelError as `build` does.
    """
    with torch.device("meta"):
        network = build(name, classes, in_channels).eval()
        image = torch.empty(1, in_channels, 28, 28)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Profile(name, parameters, counter.get_total_flops())
