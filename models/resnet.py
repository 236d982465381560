"""He, Zhang, Ren, Sun (2015), "Deep Residual Learning for Image Recognition", arXiv 1512.03385.

The paper's variant of ResNet: eight basic blocks, a quarter of ResNet-18's width.
"""

from torch import Tensor, nn

from hpo.models.init import initialize


class ResNet(nn.Module):
    """707,886 parameters at 62 classes and one channel."""

    def __init__(self, classes: int, in_channels: int = 1) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, padding=1),  # (B, 16, 14, 14)
            BasicBlock(16, 16),
            BasicBlock(16, 16),
            BasicBlock(16, 32, stride=2),  # (B, 32, 7, 7)
            BasicBlock(32, 32),
            BasicBlock(32, 64, stride=2),  # (B, 64, 4, 4)
            BasicBlock(64, 64),
            BasicBlock(64, 128, stride=2),  # (B, 128, 2, 2)
            BasicBlock(128, 128),
            nn.AdaptiveAvgPool2d(1),  # (B, 128, 1, 1)
        )
        self.classifier = nn.Linear(128, classes)
        initialize(self, linear_std=None)

    def forward(self, images: Tensor) -> Tensor:
        """Map images `(B, in_channels, 28, 28) float` to logits `(B, classes)`."""
        maps = self.features(images)  # (B, 128, 1, 1)
        logits: Tensor = self.classifier(maps.flatten(1))
        return logits


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, a 1x1 convolution where the shape changes (option B)."""

    def __init__(self, inputs: int, maps: int, stride: int = 1) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(inputs, maps, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(maps),
            nn.ReLU(),
            nn.Conv2d(maps, maps, 3, padding=1, bias=False),
            nn.BatchNorm2d(maps),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != maps:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, maps, 1, stride, bias=False),
                nn.BatchNorm2d(maps),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, inputs, H, W)` to `(B, maps, ⌈H/stride⌉, ⌈W/stride⌉)`."""
        out: Tensor = self.residual(x) + self.shortcut(x)
        return out.relu()
