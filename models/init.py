"""Initial weights: He, Zhang, Ren, Sun (2015), "Delving Deep into Rectifiers", arXiv 1502.01852."""

from torch import nn


def initialize(network: nn.Module, linear_std: float | None = 0.01) -> None:
    """Draw the initial weights of a network in place, as the paper does.

    Convolutions: Kaiming normal over the fan-out, for ReLU. Linear layers: N(0, linear_std²), or like
    convolutions if `linear_std` is None. Biases are 0. Batch norms keep torch's weight 1 and bias 0.
    """
    for layer in network.modules():
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        if isinstance(layer, nn.Linear) and linear_std is not None:
            nn.init.normal_(layer.weight, std=linear_std)
        else:
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
