"""What an architecture costs: its parameters and its arithmetic per image."""

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from hpo.models.registry import build


@dataclass(frozen=True, slots=True)
class Profile:
    """`forward_flops` is for one 28x28 image in eval mode. A training step costs about three times that."""

    name: str
    parameters: int
    forward_flops: int


def profile(name: str, classes: int = 62, in_channels: int = 1) -> Profile:
    """Count without computing: the network is built and run on the meta device.

    Counts as torch's FlopCounterMode does: convolutions and matrix products only, and two FLOPs for each
    multiply-add. Raises ModelError as `build` does.
    """
    with torch.device("meta"):
        network = build(name, classes, in_channels).eval()
        image = torch.empty(1, in_channels, 28, 28)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Profile(name, parameters, counter.get_total_flops())
