"""The figures of the published study, in percent, on its own 20,000 test images."""

from collections.abc import Mapping

PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "alexnet": {"accuracy": 86.96, "weighted_precision": 85.55, "weighted_f1": 85.58, "train": 87.95},
    "vggnet": {"accuracy": 87.24, "weighted_precision": 86.43, "weighted_f1": 85.66, "train": 89.80},
    "resnet": {"accuracy": 86.88, "weighted_precision": 86.88, "weighted_f1": 85.68, "train": 89.28},
    "spinalnet": {"accuracy": 85.92, "weighted_precision": 85.92, "weighted_f1": 84.07, "train": 87.15},
}
"""By network and metric. It shows none of LeNet and EnsNet. The weighted recall equals the accuracy."""

NAMES: Mapping[str, str] = {
    "lenet": "LeNet",
    "alexnet": "AlexNet",
    "vggnet": "VGGNet",
    "resnet": "ResNet",
    "spinalnet": "SpinalNet",
    "ensnet": "EnsNet",
}
"""The networks in the order of the tables, with the names that documents use."""


def published(network: str, metric: str = "accuracy") -> str:
    """Return a published figure, or a dash."""
    value = PUBLISHED.get(network, {}).get(metric)
    return "-" if value is None else f"{value:.2f}"
