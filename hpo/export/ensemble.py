"""Networks that average: over the members of an ensemble, and over small shifts of an image."""

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from hpo.export.metrics import Normalization


def average(outputs: Sequence[Tensor], *, of_classes: bool) -> Tensor:
    """Return the average of several outputs for the same B inputs.

    Of classes: the logarithm `(B, classes)` of the mean probabilities, from logits or log probabilities. Of
    numbers: the mean `(B, ...)`.
    """
    stacked = torch.stack([output.float() for output in outputs])
    if not of_classes:
        return stacked.mean(0)
    return stacked.log_softmax(-1).logsumexp(0) - math.log(len(outputs))


class Ensemble(nn.Module):
    """Several networks that predict together: see `average`.

    The state dict has the keys `members.0.NAME`, `members.1.NAME`, ...
    """

    def __init__(self, members: Iterable[nn.Module], *, of_classes: bool) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.of_classes = of_classes

    def forward(self, inputs: Tensor) -> Tensor:
        return average([member(inputs) for member in self.members], of_classes=self.of_classes)


def ensemble_of(networks: Sequence[nn.Module], *, of_classes: bool) -> nn.Module:
    """Return the ensemble of several networks, or the only one."""
    return networks[0] if len(networks) == 1 else Ensemble(networks, of_classes=of_classes)


class Shifted(nn.Module):
    """A network that averages over the translations of an image by up to `shifts` pixels in each direction.

    There are `(2 shifts + 1)**2` of them. Black pixels move in at the border: the inputs are normalised by
    `normalization`, so that they have another value in each channel.
    """

    black: Tensor

    def __init__(
        self, network: nn.Module, shifts: int, normalization: Normalization, *, of_classes: bool
    ) -> None:
        super().__init__()
        self.network, self.shifts, self.of_classes = network, shifts, of_classes
        mean, std = torch.tensor(normalization.mean), torch.tensor(normalization.std)
        self.register_buffer("black", (0 - mean) / std, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        moved = translations(images, self.shifts, self.black)
        return average([self.network(image) for image in moved], of_classes=self.of_classes)


def translations(images: Tensor, shifts: int, black: Tensor) -> Iterator[Tensor]:
    """Yield images `(B, C, H, W)` translated by -shifts to shifts pixels, first up to down, then left to
    right. `black`: `(C,)`."""
    height, width = images.shape[-2:]
    frame = black.to(images).view(-1, 1, 1).expand(*images.shape[:2], height + 2 * shifts, width + 2 * shifts)
    padded = frame.clone()
    padded[..., shifts : shifts + height, shifts : shifts + width] = images
    for top in range(2 * shifts, -1, -1):
        for left in range(2 * shifts, -1, -1):
            yield padded[..., top : top + height, left : left + width]


def with_shifts(
    network: nn.Module, shifts: int, normalization: Normalization, *, of_classes: bool
) -> nn.Module:
    """Return a network that averages over shifts; the network itself for 0."""
    if shifts == 0:
        return network
    return Shifted(network, shifts, normalization, of_classes=of_classes)
