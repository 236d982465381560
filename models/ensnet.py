"""Hirata, Takahashi (2020), arXiv 2003.08562, "Ensemble Learning in CNN Augmented with Fully Connected
Subnetworks".

`EnsNetVote` is the original: a base CNN and ten subnetworks that learn independently and vote. `EnsNet` is
the paper's variant: linear heads whose logits are mixed by learned weights. In effect they are one linear
layer.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MAPS = 2000
SUBSETS = 10  # disjoint subsets of 200 maps, one for each subnetwork
HEADS = SUBSETS + 1


class EnsNet(nn.Module):
    """25,939,701 parameters at 62 classes and one channel."""

    def __init__(self, classes: int, in_channels: int = 1) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_features(in_channels, paddings=(1, 0, 1, 1, 0, 1)),  # (B, 2000, 5, 5)
            nn.AdaptiveAvgPool2d(3),  # (B, 2000, 3, 3)
        )
        self.heads = nn.ModuleList(nn.Linear(MAPS // SUBSETS * 3 * 3, classes) for _ in range(HEADS))
        self.weights = nn.Parameter(torch.full((HEADS,), 1 / HEADS))

    def forward(self, images: Tensor) -> Tensor:
        """Map images `(B, in_channels, 28, 28) float` to logits `(B, classes)`."""
        subsets = self.features(images).flatten(1).chunk(SUBSETS, dim=1)  # 10 times (B, 1800)
        # The paper's major head has the same input as the first of the other heads.
        inputs = (subsets[0], *subsets)
        logits = [head(x) for head, x in zip(self.heads, inputs, strict=True)]
        return torch.stack(logits, dim=-1) @ self.weights  # (B, classes, 11) to (B, classes)


class EnsNetVote(nn.Module):
    """A base CNN and ten subnetworks on its maps, each with its own cross entropy, and a majority vote.

    The original trains base and subnetworks in alternate passes. Here the subnetworks get detached maps. One
    step on the sum of the 11 cross entropies then gives every parameter the gradient of its own head's loss
    alone, as in the original. One difference remains: the subnetworks train on maps with dropout. The
    original computes these maps again in eval mode.

    101,695,386 parameters at 62 classes and one channel.
    """

    def __init__(self, classes: int, in_channels: int = 1) -> None:
        super().__init__()
        # The original reports 6x6 maps, and a padding of 1 for the outer convolutions of each block only.
        # A padding of 1 in the middle of the first block and 0 in the middle of the second is the only
        # choice of 0 or 1 in which pooling drops no row: sides 28 28 28 28, pooled 14 14 12 12, pooled 6.
        self.features = _features(in_channels, paddings=(1, 1, 1, 1, 0, 1))  # (B, 2000, 6, 6)
        self.base = _head(MAPS * 6 * 6, classes)
        self.subnetworks = nn.ModuleList(_head(MAPS // SUBSETS * 6 * 6, classes) for _ in range(SUBSETS))

    def forward(self, images: Tensor) -> Tensor:
        """Map `(B, in_channels, 28, 28)` to logits `(B, 11, classes)`, in eval mode to their `vote`."""
        maps = self.features(images).flatten(1)  # (B, 72000)
        subsets = maps.detach().chunk(SUBSETS, dim=1)  # 10 times (B, 7200)
        heads = [self.base(maps), *(net(x) for net, x in zip(self.subnetworks, subsets, strict=True))]
        logits = torch.stack(heads, dim=1)  # (B, 11, classes)
        return logits if self.training else vote(logits)


class DropConnect(nn.Linear):
    """A linear layer that drops weights: Wan et al. (2013), "Regularization of Neural Networks using
    DropConnect".

    While training, each weight is dropped with probability `p`, and the kept weights are scaled by
    1 / (1 - p). All images of a batch share one mask. Biases are never dropped.
    """

    def __init__(self, in_features: int, out_features: int, p: float = 0.5) -> None:
        super().__init__(in_features, out_features)
        self.dropout = nn.Dropout(p)

    def forward(self, input: Tensor) -> Tensor:
        """Map `(B, in_features)` to `(B, out_features)`."""
        return F.linear(input, self.dropout(self.weight), self.bias)


def vote(logits: Tensor) -> Tensor:
    """Map logits `(..., heads, classes)` to log probabilities `(..., classes)` of a majority vote.

    They are log((votes + mean probability) / (heads + 1)). `votes` is the number of heads that rank the class
    first. A mean probability is below 1, so the class with the most votes wins. Ties go to the class with the
    highest mean probability.
    """
    heads, classes = logits.shape[-2:]
    choices = logits.argmax(-1, keepdim=True) == torch.arange(classes, device=logits.device)
    votes = choices.sum(-2).to(logits.dtype)  # (..., classes)
    log_mean = logits.log_softmax(-1).logsumexp(-2) - math.log(heads)  # (..., classes)
    # As logarithms, because the probability of a class without votes may be too small for a float.
    return torch.logaddexp(votes.log(), log_mean) - math.log(heads + 1)


def _features(in_channels: int, paddings: tuple[int, ...]) -> nn.Sequential:
    widths = (in_channels, 64, 128, 256, 512, 1024, MAPS)
    layers: list[nn.Module] = []
    for index, padding in enumerate(paddings):
        inputs, maps = widths[index : index + 2]
        layers += [nn.Conv2d(inputs, maps, 3, padding=padding), nn.BatchNorm2d(maps), nn.ReLU()]
        if index in (2, 5):
            layers.append(nn.MaxPool2d(2))
        layers.append(nn.Dropout(0.35))
    return nn.Sequential(*layers)


def _head(features: int, classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(features, 512),
        nn.ReLU(),
        nn.BatchNorm1d(512),
        nn.Dropout(0.5),
        DropConnect(512, 512),
        nn.ReLU(),  # part of Wan et al.'s layer; without it the last two layers would be one linear map
        nn.Linear(512, classes),
    )
