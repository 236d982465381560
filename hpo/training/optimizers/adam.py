"""Adam (Kingma and Ba 2015, algorithm 1)."""

import torch
from torch import Tensor

from hpo.training.optimizers.base import Optimizer
from hpo.training.weights import Tensors

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""The defaults of torch.optim.Adam."""


class Adam(Optimizer):
    """torch.optim.Adam with a learning rate per member, and with betas and an L2 penalty per member."""

    name = "adam"
    setting_names = ("lr",)
    optional_names = ("weight_decay", "beta1", "beta2")
    setting_dtype = torch.float64

    @staticmethod
    def initial_state(parameters: Tensor) -> Tensors:
        ones = parameters.new_ones((len(parameters), 1), dtype=torch.float64)
        return {
            "mean": torch.zeros_like(parameters),  # (M, P)
            "square": torch.zeros_like(parameters),  # (M, P)
            "power1": ones,  # (M, 1): beta1^t after t steps
            "power2": ones.clone(),  # (M, 1): beta2^t
        }

    @staticmethod
    def update(parameters: Tensor, gradients: Tensor, settings: Tensors, state: Tensors) -> None:
        if "weight_decay" in settings:
            gradients.addcmul_(parameters, settings["weight_decay"].to(parameters))
        take_step(parameters, gradients, settings, state)


def take_step(parameters: Tensor, gradients: Tensor, settings: Tensors, state: Tensors) -> None:
    """Take a step of Adam without weight decay, in place."""
    mean, square, power1, power2 = (state[name] for name in ("mean", "square", "power1", "power2"))
    beta1, beta2 = settings.get("beta1", BETA1), settings.get("beta2", BETA2)
    power1 *= beta1
    power2 *= beta2
    mean.lerp_(gradients, _like(1 - beta1, mean))
    if isinstance(beta2, Tensor):
        square.mul_(beta2.to(square)).addcmul_(gradients.square_(), (1 - beta2).to(square))
    else:
        square.mul_(beta2).addcmul_(gradients, gradients, value=1 - beta2)
    # Folding lr / (1 - beta1^t) into the denominator leaves one factor and one summand per member.
    inverse_step = (power1 - 1) / settings["lr"]  # (M, 1), negative: the step goes downhill
    factor = (inverse_step * (1 - power2).rsqrt()).to(square)
    denominator = square.sqrt().mul_(factor).add_((inverse_step * EPSILON).to(square))
    parameters.addcdiv_(mean, denominator)


def _like(setting: Tensor | float, tensor: Tensor) -> Tensor | float:
    return setting.to(tensor) if isinstance(setting, Tensor) else setting
