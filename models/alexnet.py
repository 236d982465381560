"""Krizhevsky, Sutskever, Hinton (2012), "ImageNet Classification with Deep Convolutional Neural Networks".

The paper's variant of AlexNet: five narrower 3x3 convolutions, batch norm in the classifier.
"""

from torch import Tensor, nn

from hpo.models.init import initialize


class AlexNet(nn.Module):
    """1,849,070 parameters at 62 classes and one channel."""

    def __init__(self, classes: int, in_channels: int = 1) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 16, 3, padding=2),  # (B, 16, 30, 30)
            nn.ReLU(),
            nn.MaxPool2d(3, 2),  # (B, 16, 14, 14)
            nn.Conv2d(16, 48, 3, padding=2),  # (B, 48, 16, 16)
            nn.ReLU(),
            nn.MaxPool2d(3, 2),  # (B, 48, 7, 7)
            nn.Conv2d(48, 96, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(96, 64, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),  # (B, 64, 3, 3): the paper's average pooling to 3x3 is the identity here
        )
        self.classifier = nn.Sequential(
            nn.Dropout(0.5),
            nn.Linear(64 * 3 * 3, 1024),
            nn.BatchNorm1d(1024),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(1024, 1024),
            nn.BatchNorm1d(1024),
            nn.ReLU(),
            nn.Linear(1024, classes),
        )
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        """Map images `(B, in_channels, 28, 28) float` to logits `(B, classes)`."""
        maps = self.features(images)  # (B, 64, 3, 3)
        logits: Tensor = self.classifier(maps.flatten(1))
        return logits
