"""Kabir et al. (2020), "SpinalNet: Deep Neural Network with Gradual Input", arXiv 2007.03347.

The paper's variant: two 5x5 convolutions, and a spine of four layers. The input of each layer is half of the
features and the output of the layer before.
"""

import torch
from torch import Tensor, nn

from hpo.models.init import initialize

HALF = 64 * 7 * 7 // 2
WIDTH = 50


class SpinalNet(nn.Module):
    """386,050 parameters at 62 classes and one channel."""

    def __init__(self, classes: int, in_channels: int = 1) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 32, 5, padding=2),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),  # (B, 32, 14, 14)
            nn.Conv2d(32, 64, 5, padding=2),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(2),  # (B, 64, 7, 7)
        )
        self.spine = nn.ModuleList(
            nn.Sequential(nn.Linear(inputs, WIDTH), nn.ReLU(), nn.Dropout(0.5))
            for inputs in (HALF, HALF + WIDTH, HALF + WIDTH, HALF + WIDTH)
        )
        self.classifier = nn.Linear(4 * WIDTH, classes)
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        """Map images `(B, in_channels, 28, 28) float` to logits `(B, classes)`."""
        first, second = self.features(images).flatten(1).chunk(2, dim=1)  # (B, 1568) each
        outputs: list[Tensor] = []
        for layer, half in zip(self.spine, (first, second, first, second), strict=True):
            outputs.append(layer(torch.cat([half, *outputs[-1:]], dim=1)))  # (B, 50)
        logits: Tensor = self.classifier(torch.cat(outputs, dim=1))  # from (B, 200)
        return logits
