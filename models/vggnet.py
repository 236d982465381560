"""Simonyan, Zisserman (2014), arXiv 1409.1556, "Very Deep Convolutional Networks for Large-Scale Image
Recognition".

The paper's variant of VGGNet: eight narrower 3x3 convolutions, batch norm in the classifier.
"""

from torch import Tensor, nn

from hpo.models.init import initialize


class VGGNet(nn.Module):
    """1,463,678 parameters at 62 classes and one channel."""

    def __init__(self, classes: int, in_channels: int = 1) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_conv(in_channels, 16),
            *_conv(16, 32),
            nn.MaxPool2d(2),  # (B, 32, 14, 14)
            *_conv(32, 64),
            *_conv(64, 64),
            *_conv(64, 128),
            *_conv(128, 128),
            nn.MaxPool2d(2),  # (B, 128, 7, 7)
            *_conv(128, 128),
            *_conv(128, 128),
            nn.AdaptiveAvgPool2d(3),  # (B, 128, 3, 3)
        )
        self.classifier = nn.Sequential(
            nn.Linear(128 * 3 * 3, 512),
            nn.BatchNorm1d(512),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(512, 512),
            nn.BatchNorm1d(512),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(512, classes),
        )
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        """Map images `(B, in_channels, 28, 28) float` to logits `(B, classes)`."""
        maps = self.features(images)  # (B, 128, 3, 3)
        logits: Tensor = self.classifier(maps.flatten(1))
        return logits


def _conv(inputs: int, maps: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, maps, 3, padding=1), nn.ReLU()
