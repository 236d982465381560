"""Adam (Kingma and Ba 2015, algorithm 1)."""

import torch
from torch import Tensor

from hpo.training.optimizers.base import Optimizer
from hpo.training.weights import Tensors

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""The defaults of torch.optim.Adam."""


class Adam(Optimizer):
    """torch.optim.Adam with its defaults and a learning rate per member."""

    name = "adam"
    setting_names = ("lr",)
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
        mean, square, power1, power2 = (state[name] for name in ("mean", "square", "power1", "power2"))
        power1 *= BETA1
        power2 *= BETA2
        mean.lerp_(gradients, 1 - BETA1)
        square.mul_(BETA2).addcmul_(gradients, gradients, value=1 - BETA2)
        # Folding lr / (1 - beta1^t) into the denominator leaves one factor and one summand per member.
        inverse_step = (power1 - 1) / settings["lr"]  # (M, 1), negative: the step goes downhill
        factor = (inverse_step * (1 - power2).rsqrt()).to(square)
        denominator = square.sqrt().mul_(factor).add_((inverse_step * EPSILON).to(square))
        parameters.addcdiv_(mean, denominator)
