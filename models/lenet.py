"""LeCun, Bottou, Bengio, Haffner (1998), "Gradient-Based Learning Applied to Document Recognition": LeNet-5.

The paper's variant: ReLU and max pooling, batch norm and dropout between the linear layers.
"""

from torch import Tensor, nn

from hpo.models.init import initialize


class LeNet(nn.Module):
    """35,814 parameters at 62 classes and one channel."""

    def __init__(self, classes: int, in_channels: int = 1) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 6, 5),  # (B, 6, 24, 24)
            nn.ReLU(),
            nn.MaxPool2d(2),  # (B, 6, 12, 12)
            nn.Conv2d(6, 16, 5),  # (B, 16, 8, 8)
            nn.ReLU(),
            nn.MaxPool2d(2),  # (B, 16, 4, 4)
            nn.AdaptiveAvgPool2d(3),  # (B, 16, 3, 3)
        )
        self.classifier = nn.Sequential(
            nn.Dropout(0.5),
            nn.Linear(16 * 3 * 3, 120),
            nn.BatchNorm1d(120),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(120, 84),
            nn.BatchNorm1d(84),
            nn.ReLU(),
            nn.Linear(84, classes),
        )
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        """Map images `(B, in_channels, 28, 28) float` to logits `(B, classes)`."""
        maps = self.features(images)  # (B, 16, 3, 3)
        logits: Tensor = self.classifier(maps.flatten(1))
        return logits
